"""Data that is read batch by batch."""

import weakref

import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison.evaluator import evaluator_for
from layerwise.comparison.tasks import Task
from layerwise.comparison.trainer import Trainer
from tests.comparison import problems

N, SIZE = 64, 16
RNG = np.random.default_rng(0)
X = {"left": RNG.normal(size=(N, 3)), "right": RNG.normal(size=(N, 2))}
X = {name: values.astype("float32") for name, values in X.items()}
Y = (X["left"][:, 0] > X["right"][:, 0]).astype("int32") + (X["left"][:, 1] > 0)


class Batches(keras.utils.PyDataset):
    """Batches of some rows; the last may be smaller."""

    def __init__(self, rows, size=SIZE):
        super().__init__()
        self.rows, self.size = rows, size

    def __len__(self):
        return -(-len(self.rows) // self.size)

    def __getitem__(self, place):
        rows = self.rows[place * self.size : (place + 1) * self.size]
        return {name: values[rows] for name, values in X.items()}, Y[rows]


def two_inputs():
    """Return a model of two named inputs."""
    inputs = {name: keras.Input(values.shape[1:], name=name) for name, values in X.items()}
    value = keras.layers.Concatenate()([inputs["left"], inputs["right"]])
    value = keras.layers.Dense(6, "relu")(value)
    return keras.Model(inputs, keras.layers.Dense(3)(value))


def streams(train=None):
    everything = np.arange(N)
    train = train if train is not None else Batches(everything)
    return layerwise.Data(train, Batches(everything[:40]), Batches(everything[40:]))


def grid(data, **arguments):
    schedules = {"simultaneous": layerwise.Simultaneous, "cyclic": layerwise.BlockCoordinate}
    return problems.grid(schedules, model=two_inputs, data=data, epochs=2, **arguments)


def test_a_stream_says_what_it_holds():
    data = streams()
    assert data.sizes == {"train": 64, "validation": 48, "test": 32}
    assert repr(data).endswith("streams)") and "64 train" in repr(data)
    assert (
        data.fingerprint
        == streams().fingerprint
        != streams(Batches(np.arange(N)[::-1])).fingerprint
    )


def test_evaluations_are_those_of_evaluate():
    data, model = streams(), two_inputs()
    task = Task.of(model, data)
    found = evaluator_for(data.source, task, model)(model.predict_on_batch, 0)
    model.compile(loss=task.loss, metrics=["accuracy"])
    for name, part in (("validation", Batches(np.arange(40))), ("test", Batches(np.arange(40, N)))):
        expected = model.evaluate(part, verbose=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)


def test_arrays_may_stand_beside_a_training_stream():
    """They are scored as streams are, and their every example counts."""
    everything = np.arange(N)
    parts = [
        ({name: v[rows] for name, v in X.items()}, Y[rows])
        for rows in (everything[:50], everything[50:])
    ]
    data, model = layerwise.Data(Batches(everything), *parts), two_inputs()
    assert data.sizes == {"train": 64, "validation": 50, "test": 14}
    task = Task.of(model, data)
    evaluator = evaluator_for(data.source, task, model)
    found = evaluator(model.predict_on_batch, 0)
    model.compile(loss=task.loss, metrics=["accuracy"])
    for name, part in zip(("validation", "test"), parts, strict=True):
        np.testing.assert_allclose(found[name], model.evaluate(*part, verbose=0), rtol=1e-5)
    evaluator.keep()
    right = model.predict_on_batch(parts[0][0]).argmax(axis=1) == parts[0][1]
    each = [right[k : k + 2].mean() for k in range(0, 50, 2)]  # at least twenty batches
    assert evaluator.standard_error() == pytest.approx(np.std(each, ddof=1) / 5)
    corrected = parts[0][1].copy()
    corrected[-1] = (corrected[-1] + 1) % 3
    other = layerwise.Data(Batches(everything), (parts[0][0], corrected), parts[1])
    assert other.fingerprint != data.fingerprint
    with pytest.raises(ValueError, match="stream may stand here where train is one"):
        layerwise.Data(parts[0], Batches(everything), parts[1])
    with pytest.raises(ValueError, match="needs as many rows in x as in y"):
        layerwise.Data(Batches(everything), (parts[0][0], Y[:3]), parts[1])


def test_a_label_that_has_no_output_is_said_in_whichever_batch_it_comes():
    class Wrong(Batches):
        def __getitem__(self, place):
            x, y = super().__getitem__(place)
            return x, y + 7 * place

    rows, model = np.arange(N), two_inputs()
    data = layerwise.Data(Batches(rows), Wrong(rows), Batches(rows))
    evaluator = evaluator_for(data.source, Task.of(model, data), model)
    with pytest.raises(ValueError, match=r"hold the label [789], the model has 3 outputs"):
        evaluator(model.predict_on_batch, 0)


def test_the_error_of_a_streams_score_comes_from_its_batches_and_no_predictions_are_kept():
    data, model, made = streams(), two_inputs(), []
    task = Task.of(model, data)

    def predict(x):
        assert sum(one() is not None for one in made) <= 1, "predictions of earlier batches live on"
        predictions = np.array(model.predict_on_batch(x))
        made.append(weakref.ref(predictions))
        return predictions

    evaluator = evaluator_for(data.source, task, model)
    evaluator(predict, 0)
    assert np.isnan(evaluator.standard_error()), "nothing was kept"
    evaluator.keep()
    model.compile(loss=task.loss, metrics=["accuracy"])
    part = Batches(np.arange(40))
    scores = [model.evaluate(*part[k], verbose=0)[1] for k in range(len(part))]
    assert evaluator.standard_error() == pytest.approx(np.std(scores, ddof=1) / np.sqrt(3))


def test_batches_come_in_an_order_of_seed_and_epoch_which_all_schedules_share():
    source = streams().source

    def order(seed):
        batches = source.training(seed, SIZE)
        return [next(batches)[1].tobytes() for _ in range(8)]

    first, second = order(0)[:4], order(0)[4:]
    assert sorted(first) == sorted(second) and first != second
    assert order(0) == order(0) and order(0) != order(1)


@pytest.mark.thorough
def test_a_stream_trains_as_the_same_arrays_in_the_same_order_do():
    asked = []

    def train(seed, epoch):
        asked.append((seed, epoch))
        return Batches(np.random.default_rng([seed, epoch]).permutation(N))

    ours = Trainer(grid(streams(train)), problems.cell("cyclic"))
    outcome = problems.run(ours, 0.03, 1)
    assert (outcome.status, outcome.error) == ("finished", "")
    assert (1, 0) in asked and (1, 1) in asked
    reference = Trainer(grid(streams(train)), problems.cell("cyclic"))
    assert problems.curve(problems.run(reference, 0.03, 1)) == problems.curve(outcome)
    assert [e.examples for e in outcome.evaluations] == [0, 64, 128]


@pytest.mark.parametrize("drop", [True, False])
def test_a_tensorflow_dataset_is_a_stream_too(drop):
    tensorflow = pytest.importorskip("tensorflow")
    dataset = tensorflow.data.Dataset.from_tensor_slices((X, Y)).batch(SIZE, drop_remainder=drop)
    if not drop:
        with pytest.raises(ValueError, match="drop_remainder=True"):
            layerwise.Data(dataset, dataset, dataset)
        return
    data = layerwise.Data(dataset, dataset, dataset)
    outcome = problems.run(Trainer(grid(data), problems.cell("simultaneous")), 0.03, 0)
    assert (outcome.status, outcome.error) == ("finished", "")
    scores = outcome.evaluations[-1].scores
    assert scores["train"] == scores["test"]
    shuffled = dataset.shuffle(4)
    with pytest.raises(ValueError, match="another first batch"):
        for _ in range(20):  # a shuffle may give the same by chance
            layerwise.Data(shuffled, dataset, dataset)
    with pytest.raises(ValueError, match="use jobs=1"):
        data.source.check_workers()


def test_what_is_no_stream_is_said():
    with pytest.raises(TypeError, match="got int"):
        layerwise.Data(3, 3, 3)
    with pytest.raises(ValueError, match="must all have 16 examples, as the first; the last has 4"):
        streams(Batches(np.arange(20)))
    with pytest.raises(ValueError, match="pass batch_size=16"):
        grid(streams(), batch_size=8).check()
    with pytest.raises(ValueError, match="divided by you"):
        layerwise.Data(Batches(np.arange(N)), Batches(np.arange(N)), Batches(np.arange(N)), folds=3)
