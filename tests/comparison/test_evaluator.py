import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison import evaluator
from layerwise.comparison.evaluator import Evaluator, Evaluators
from layerwise.comparison.tasks import Task
from tests.comparison import problems


@pytest.mark.parametrize("rows", [7, 64, 4096])
def test_scores_are_those_of_stock_evaluate(rows, monkeypatch):
    monkeypatch.setattr(evaluator, "CHUNK_ROWS", rows)
    data, model = problems.data(), problems.net()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["accuracy"])
    ours = Evaluator(data.source, Task.of(model, data), model)
    scores = ours(model.predict_on_batch, 5)
    assert ours._compiled is not None, "stock metrics are part of a program"
    for name, rows in data.source.splits(5).items():
        expected = model.evaluate(*data.source.batch(rows), batch_size=1000, verbose=0)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5)


def test_chunks_have_one_size(monkeypatch):
    monkeypatch.setattr(evaluator, "CHUNK_ROWS", 50)
    data, model = problems.data(), problems.net()
    model.compile()
    chunks = Evaluator(data.source, Task.of(model, data), model).chunks
    assert {len(chunk) for chunk in chunks} == {37} and len(chunks) == 3


@pytest.mark.parametrize("in_order", [False, True])
def test_standard_error_is_that_of_a_share(in_order):
    # The jackknife of a mean over equal groups estimates sqrt(p (1 - p) / n); its own spread with 20 groups is a sixth.
    data, model = problems.data(n=2400, folds=None), problems.net()
    if in_order:  # of the classes
        x, y = data.validation
        order = np.argsort(y)
        data = layerwise.Data(data.train, (x[order], y[order]), data.test)
    model.compile()
    evaluator = Evaluator(data.source, Task.of(model, data), model)
    score = evaluator(model.predict_on_batch, 0)["validation"][1]
    assert np.isnan(evaluator.standard_error()), "nothing was kept"
    evaluator.keep()
    expected = np.sqrt(score * (1 - score) / 1200)
    assert 0.5 * expected < evaluator.standard_error() < 1.6 * expected


def test_models_that_are_measured_in_the_same_way_share_an_evaluator():
    data, others, evaluators = problems.data(), problems.data(), Evaluators()

    def made(data, loss=None):
        model = problems.net()
        model.compile()
        return evaluators.of(data.source, Task.of(model, data, loss), model)

    first = made(data)
    assert made(data) is first
    ignoring = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=9)
    assert made(data, ignoring) is not first
    assert made(others) is not made(data)
