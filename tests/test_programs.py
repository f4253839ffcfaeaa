"""What is compiled, and when: counted by the Python calls of a layer, which only tracing makes."""

import keras
import numpy as np
import pytest

import layerwise
from tests.helpers import (
    CLASSES,
    FEATURES,
    compiled,
    mlp,
    normalized_mlp,
    same_bits,
    values,
    vectors,
)

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


def trained_with(max_programs, model, optimizer, **arguments):
    """Return all weights and the optimizer's state after four sweeps."""
    compiled(model, optimizer)
    schedule = layerwise.BlockCoordinate(max_programs=max_programs, **arguments)
    model.fit(*vectors(40), batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[schedule])
    return [*model.get_weights(), *values(model.optimizer.variables)]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"state": "reset", "order": "shuffled"},
        {"state": "drop", "every": 3},
        {"always": [3]},
        {"sweep_each_batch": True},
    ],
    ids=str,
)
def test_dense_nets_that_share_programs_have_the_same_bits(arguments):
    def optimizer():
        return keras.optimizers.AdamW(0.01, weight_decay=0.01, global_clipnorm=0.5)

    separate = trained_with(None, mlp(), optimizer(), **arguments)
    assert same_bits(separate, trained_with(2, mlp(), optimizer(), **arguments))


def test_programs_that_are_shared_differ_by_rounding_at_most():
    separate = trained_with(None, normalized_mlp(), "adam")
    shared = trained_with(2, normalized_mlp(), "adam")
    for left, right in zip(separate, shared, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_programs_are_compiled_when_first_used():
    model, _ = counting_mlp()
    compiled(model, "adam")
    schedule = layerwise.BlockCoordinate(every=100)
    model.fit(*vectors(40), batch_size=8, verbose=0, callbacks=[schedule])
    assert list(schedule.traces.values()) == [1]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="counts what XLA compiles for JAX")
def test_a_program_that_was_traced_ahead_is_compiled_once():
    import jax

    model, _ = counting_mlp()
    compiled(model, "adam")
    events = []

    def listen(event, seconds, fun_name="", **_):
        if "backend_compile" in event and "_step" in fun_name:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        schedule = layerwise.BlockCoordinate(max_programs=2)
        model.fit(*vectors(40), batch_size=8, epochs=2, verbose=0, callbacks=[schedule])
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(events) == len(schedule.traces) == 2


def test_a_schedule_that_fails_later_fails_at_its_step():
    class Fails(layerwise.Schedule):
        def updates(self, epoch, step):
            if step == 3:
                raise RuntimeError("no Update for step 3")
            return (layerwise.Update(blocks=(step % 2,)),)

    model, schedule = compiled(mlp()), Fails()
    with pytest.raises(RuntimeError, match="step 3"):
        model.fit(*vectors(40), batch_size=8, verbose=0, callbacks=[schedule])
    assert schedule.counts.total() == 3


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
