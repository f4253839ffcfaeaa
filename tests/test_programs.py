"""What is compiled, and when: counted by the Python calls of a layer, which only tracing makes."""

import itertools

import keras
import numpy as np
import pytest

import layerwise
from layerwise.training.resident import Resident
from tests import conformance
from tests.helpers import (
    CLASSES,
    FEATURES,
    Counts,
    compiled,
    mlp,
    normalized_mlp,
    pooled,
    put_back,
    same_bits,
    values,
    vectors,
)

not_on_torch = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="torch calls Python at every step"
)


@conformance.every_schedule()
def test_a_second_fit_compiles_nothing_and_repeats_the_first(case):
    run = conformance.whole(case)
    counts, visits = run.model.get_layer("counts"), run.schedule.visits
    calls, traces = counts.calls, dict(run.schedule.traces)
    put_back(run.model, run.start)
    run.schedule.restart()
    assert run.schedule.visits.empty
    assert not run.schedule.counts
    history = conformance.fitted(run.model, run.schedule, epochs=case.epochs)
    if keras.backend.backend() != "torch":  # which calls Python at every step
        assert counts.calls == calls
        assert dict(run.schedule.traces) == traces
    assert history == run.history
    assert same_bits(values(run.model.variables), run.variables)
    assert same_bits(values(run.model.optimizer.variables), run.slots)
    assert same_bits(conformance.head_values(run.schedule), run.heads)
    assert visits.equals(run.schedule.visits)


def assert_repeats(run, history):
    """One program of several batches computes what one program a batch does; XLA may round it otherwise, and so may
    TensorFlow in loops within loops, which sweeps are.
    """
    pairs = [
        (values(run.model.variables), run.variables),
        (values(run.model.optimizer.variables), run.slots),
        (conformance.head_values(run.schedule), run.heads),
    ]
    assert run.visits.equals(run.schedule.visits)
    sweeps = (run.visits["updates"].sum() > conformance.BATCHES * len(run.epochs)).item()
    if keras.backend.backend() == "torch" or (keras.backend.backend() != "jax" and not sweeps):
        assert all(same_bits(*pair) for pair in pairs)
        assert history == run.history
        return
    # In 20 steps at a rate of 0.02 the rounding of sums of 64 terms comes to 20 * 0.02 * 64 * 6e-8 at most.
    for left, right in pairs:
        for found, expected in zip(left, right, strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
    assert history.keys() == run.history.keys()
    for name, found in history.items():
        np.testing.assert_allclose(found, run.history[name], rtol=1e-5)


@not_on_torch
@conformance.every_schedule(lambda case: not case.takes_any_model)
def test_several_batches_in_one_program_are_those_batches(case, monkeypatch):
    run = conformance.whole(case)
    monkeypatch.setattr(
        run.model, "steps_per_execution", 3
    )  # two executions an epoch, 3 + 2 batches
    x, y = vectors(conformance.BATCHES * conformance.BATCH)
    arguments = {"batch_size": conformance.BATCH, "shuffle": False, "verbose": 0}
    for _ in range(2):
        put_back(run.model, run.start)
        run.schedule.restart()
        traces = dict(run.schedule.traces)
        history = run.model.fit(x, y, epochs=case.epochs, callbacks=[run.schedule], **arguments)
        assert_repeats(run, history.history)
    assert dict(run.schedule.traces) == traces, "a second fit compiles nothing"


@pytest.mark.thorough
@conformance.every_schedule()
def test_whole_epochs_of_resident_data_are_those_batches(case):
    run = conformance.whole(case)
    resident = Resident(vectors(conformance.BATCHES * conformance.BATCH), conformance.BATCHES)
    rows = np.arange(conformance.BATCHES * conformance.BATCH).reshape(conformance.BATCHES, -1)
    resident.epochs = itertools.repeat(rows)
    put_back(run.model, run.start)
    run.schedule.restart()
    history = run.model.fit(
        resident.feed(run.model),
        steps_per_epoch=1,
        epochs=case.epochs,
        shuffle=False,
        verbose=0,
        callbacks=[run.schedule, resident],
    )
    assert_repeats(run, history.history)


def test_an_epoch_of_resident_data_may_be_cut_short():
    x, y = vectors(40)
    resident, rows = Resident((x, y), 5), np.arange(40).reshape(5, 8)
    resident.epochs = iter((rows, rows[:2]))
    schedule = layerwise.BlockCoordinate(every=2)
    model = pooled(mlp, adamw)
    model.fit(
        resident.feed(model),
        steps_per_epoch=1,
        epochs=2,
        shuffle=False,
        verbose=0,
        callbacks=[schedule, resident],
    )
    found = model.get_weights()
    model, again = pooled(mlp, adamw), layerwise.BlockCoordinate(every=2)
    for some in (rows, rows[:2]):
        batches = x[some.ravel()], y[some.ravel()]
        model.fit(*batches, batch_size=8, shuffle=False, verbose=0, callbacks=[again])
    for left, right in zip(found, model.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)
    assert int(schedule.visits["steps"].sum()) == 7


@not_on_torch
def test_an_execution_holds_what_comes_later_so_that_nothing_compiles_anew():
    model, counts = counting_mlp()
    compiled(model, "adam", steps_per_execution=4)
    schedule, seen = layerwise.BlockCoordinate(every=3), []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(counts.calls)
    )
    model.fit(*vectors(80), batch_size=8, epochs=3, verbose=0, callbacks=[schedule, look])
    assert len(set(seen)) == 1, (
        "the first execution moves two blocks, and its program holds all four"
    )


@not_on_torch
def test_a_fit_that_goes_on_compiles_nothing():
    run = conformance.whole(conformance.named("cyclic"))  # not of the group that looks at it
    counts = run.model.get_layer("counts")
    calls = counts.calls
    conformance.fitted(run.model, run.schedule, epochs=2)
    assert counts.calls == calls


def counting_mlp():
    """Return a net of four dense layers, and the layer at its input that counts."""
    counts = Counts()
    layers = [keras.layers.Dense(8, "tanh", name=f"block_{k}") for k in range(3)]
    last = keras.layers.Dense(CLASSES, name="block_3")
    return keras.Sequential([keras.Input((FEATURES,)), counts, *layers, last]), counts


@pytest.mark.thorough
@not_on_torch
@pytest.mark.parametrize(
    ("order", "state"), [("cyclic", "keep"), ("shuffled", "reset"), ("shuffled", "drop")]
)
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


def trained_with(max_programs, model, **arguments):
    """Return all weights and the optimizer's state after four sweeps."""
    schedule = layerwise.BlockCoordinate(max_programs=max_programs, **arguments)
    model.fit(*vectors(40), batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[schedule])
    return [*model.get_weights(), *values(model.optimizer.variables)]


@pytest.mark.thorough
@not_on_torch
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
    separate = trained_with(None, pooled(mlp, adamw), **arguments)
    assert same_bits(separate, trained_with(2, pooled(mlp, adamw), **arguments))


def adamw():
    return keras.optimizers.AdamW(0.01, weight_decay=0.01, global_clipnorm=0.5)


@pytest.mark.thorough
@not_on_torch
def test_programs_that_are_shared_differ_by_rounding_at_most():
    separate = trained_with(None, compiled(normalized_mlp(), "adam"))
    shared = trained_with(2, compiled(normalized_mlp(), "adam"))
    for left, right in zip(separate, shared, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


@not_on_torch
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


@not_on_torch
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


@not_on_torch
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


@not_on_torch
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
