"""What is compiled, and when: counted by the Python calls of a layer, which only tracing makes."""

import keras
import pytest

import layerwise
from tests.helpers import CLASSES, FEATURES, compiled, vectors

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch calls Python at every step"
)


class Counts(keras.layers.Layer):
    """Hands its input on and counts how often its Python code runs."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


def counting_mlp():
    """Return a net of four dense layers, and the layer at its input that counts."""
    counts = Counts()
    layers = [keras.layers.Dense(8, "tanh", name=f"block_{k}") for k in range(3)]
    last = keras.layers.Dense(CLASSES, name="block_3")
    return keras.Sequential([keras.Input((FEATURES,)), counts, *layers, last]), counts


@pytest.mark.parametrize("state", ["keep", "reset", "drop"])
@pytest.mark.parametrize("order", ["cyclic", "shuffled"])
def test_switching_at_every_step_compiles_nothing_after_the_first_sweep(order, state):
    model, counts = counting_mlp()
    compiled(model, "adam")
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(counts.calls)
    )
    schedule = layerwise.BlockCoordinate(order=order, state=state)
    before = counts.calls
    model.fit(*vectors(40), batch_size=8, epochs=4, verbose=0, callbacks=[schedule, look])
    assert seen[3] > before
    assert set(seen[3:]) == {seen[3]}, "20 steps, the first four a sweep"
    assert all(count == 1 for count in schedule.traces.values())
    assert len(schedule.traces) == 4


def test_a_second_fit_compiles_nothing():
    model, counts = counting_mlp()
    compiled(model, "adam")
    schedule = layerwise.BlockCoordinate()
    arguments = {"batch_size": 8, "verbose": 0, "callbacks": [schedule]}
    model.fit(*vectors(40), **arguments)
    before = counts.calls
    model.fit(*vectors(40), epochs=2, **arguments)
    schedule.restart()
    model.fit(*vectors(40), epochs=2, **arguments)
    assert counts.calls == before


def test_programs_are_compiled_when_first_used():
    model, _ = counting_mlp()
    compiled(model, "adam")
    schedule = layerwise.BlockCoordinate(every=100)
    model.fit(*vectors(40), batch_size=8, verbose=0, callbacks=[schedule])
    assert list(schedule.traces.values()) == [1]


def test_greedy_compiles_one_program_a_stage():
    model, counts = counting_mlp()
    compiled(model, "adam")
    schedule = layerwise.GreedyLayerwise(epochs_per_block=3, finetune_epochs=2)
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(counts.calls)
    )
    model.fit(*vectors(40), batch_size=8, epochs=14, verbose=0, callbacks=[schedule, look])
    for stage in range(4):
        assert seen[3 * stage] == seen[3 * stage + 1] == seen[3 * stage + 2]
    assert seen[12] == seen[13]
    assert sorted(schedule.traces.values()) == [1] * 5


def test_an_interrupted_fit_keeps_its_programs():
    model, counts = counting_mlp()
    compiled(model, "adam")

    class Interrupt(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    schedule = layerwise.BlockCoordinate()
    x, y = vectors(40)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[schedule, Interrupt()])
    before = counts.calls
    model.fit(x, y, batch_size=8, verbose=0, callbacks=[schedule])
    assert counts.calls == before
