import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison import evaluator
from layerwise.comparison.evaluator import Evaluator, classification_loss, hits, per_example
from tests.comparison import problems


@pytest.mark.parametrize("rows", [7, 64, 4096])
def test_scores_are_those_of_stock_evaluate(rows, monkeypatch):
    monkeypatch.setattr(evaluator, "CHUNK_ROWS", rows)
    data, model = problems.data(), problems.net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    splits = data.splits(5)
    scores = Evaluator(data, per_example(loss))(model.predict_on_batch, splits)
    for name, indices in splits.items():
        expected = model.evaluate(*data.batch(indices), batch_size=1000, verbose=0)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5)


def test_chunks_have_one_size(monkeypatch):
    monkeypatch.setattr(evaluator, "CHUNK_ROWS", 50)
    chunks = Evaluator(problems.data(), keras.losses.MeanSquaredError(reduction=None)).chunks
    assert {len(chunk) for chunk in chunks} == {37} and len(chunks) == 3


def test_nan_predictions_are_never_right():
    predictions = np.array([[np.nan, np.nan], [1.0, 0.0]])
    assert hits(predictions, np.array([0, 0])).tolist() == [0.0, 1.0]


def test_hits_of_one_hot_rows_and_of_sequences():
    predictions = np.array([[[0.1, 0.9], [0.9, 0.1]], [[0.2, 0.8], [0.3, 0.7]]])
    labels = np.array([[1, 1], [1, 1]])
    assert hits(predictions, labels).tolist() == [0.5, 1.0]
    assert hits(predictions[:, 0], np.eye(2)[labels[:, 0]]).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("activation", ["softmax", None])
@pytest.mark.parametrize("one_hot", [False, True])
def test_loss_fits_outputs_and_targets(activation, one_hot):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 20)
    part = (rng.normal(size=(20, 4)), np.eye(3, dtype="float32")[y] if one_hot else y)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation)])
    loss = classification_loss(model, layerwise.Data(part, part, part))
    assert loss.from_logits is (activation is None)
    assert type(loss).__name__.startswith("Sparse") is not one_hot


@pytest.mark.parametrize(
    "units, y, message",
    [(1, np.arange(6) % 2, "No loss fits"), (2, np.arange(6) % 3, "label 2, the model has 2")],
)
def test_outputs_that_are_no_class_scores_raise(units, y, message):
    part = (np.zeros((6, 4), "float32"), y)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    with pytest.raises(ValueError, match=message):
        classification_loss(model, layerwise.Data(part, part, part))
