"""What schedules share on one compiled model: blocks, heads and programs, until the next `compile`."""

import gc
import weakref

import keras
import pytest

import layerwise
from tests.helpers import compiled, mlp, same_bits, values, vectors
from tests.test_programs import counting_mlp

ARGUMENTS = {"batch_size": 8, "epochs": 4, "shuffle": False, "verbose": 0}


def fit(model, schedule, **arguments):
    model.fit(*vectors(40), callbacks=[schedule], **ARGUMENTS | arguments)
    return schedule


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (layerwise.BlockCoordinate, lambda: layerwise.BlockCoordinate(order="shuffled", every=3)),
        (
            lambda: layerwise.BlockCoordinate(sweep_each_batch=True, state="drop"),
            lambda: layerwise.BlockCoordinate(sweep_each_batch=True, seed=5),
        ),
        (layerwise.GreedyLayerwise, lambda: layerwise.GreedyLayerwise(epochs_per_block=1, seed=3)),
    ],
    ids=["cyclic, shuffled", "sweeps", "greedy"],
)
def test_a_second_schedule_compiles_nothing_that_the_first_one_compiled(first, second):
    if keras.backend.backend() == "torch":
        pytest.skip("torch compiles nothing")
    model, counts = counting_mlp()
    compiled(model, "adam")
    first = fit(model, first())
    calls, traces = counts.calls, dict(first.traces)
    second = fit(model, second())
    assert counts.calls == calls
    assert dict(second.traces) == traces
    assert second.compile_seconds == 0


@pytest.mark.thorough
def test_a_second_schedule_starts_afresh():
    def trained(schedules, build=mlp):
        model = compiled(build(), "adam")
        start = values(model.weights), values(model.optimizer.variables)
        for schedule in schedules:
            model.set_weights(start[0])
            for variable, value in zip(model.optimizer.variables, start[1], strict=False):
                variable.assign(value)
            for variable in model.optimizer.variables[len(start[1]) :]:
                variable.assign(keras.ops.zeros(variable.shape, variable.dtype))
            fit(model, schedule)
        return values(model.weights), schedule

    for make in (
        lambda: layerwise.BlockCoordinate(order="shuffled"),
        lambda: layerwise.GreedyLayerwise(head="mlp", seed=2),
    ):
        alone, again = trained([make()]), trained([make(), make()])
        assert same_bits(alone[0], again[0])
        assert alone[1].visits.equals(again[1].visits)


def test_two_greedy_schedules_in_turn_keep_their_own_heads():
    def run(others):
        model = compiled(mlp(), keras.optimizers.SGD(0.0))
        mine = layerwise.GreedyLayerwise(seed=1, epochs_per_block=2)
        fit(model, mine, epochs=8)
        heads = values(v for k in mine.heads for v in mine.heads[k].variables)
        for other in others:
            fit(model, other)
            found = values(v for k in other.heads for v in other.heads[k].variables)
            assert not same_bits(found, heads)
        fit(model, mine, initial_epoch=3)
        return heads, values(v for k in mine.heads for v in mine.heads[k].variables)

    before, after = run([layerwise.GreedyLayerwise(seed=7)])
    assert same_bits(before, after)


@pytest.mark.thorough
def test_each_block_counts_what_a_fit_without_a_schedule_moved():
    # Ten stock batches move all blocks ten times: bias correction goes on from there.
    model, schedule = compiled(mlp(), "adam"), layerwise.BlockCoordinate(blocks=1)
    twin = compiled(mlp(), "adam")
    x, y = vectors(40)
    for _ in range(2):
        fit(model, schedule)
        model.fit(x, y, **ARGUMENTS)
        twin.fit(x, y, **ARGUMENTS)
        twin.fit(x, y, **ARGUMENTS)
    assert same_bits(values(model.weights), values(twin.weights))


def test_compile_frees_what_was_compiled():
    model = compiled(mlp(), "adam")
    program = weakref.ref(fit(model, layerwise.BlockCoordinate()).blocks[0])
    assert program() is not None
    compiled(model, "adam")
    gc.collect()
    assert program() is None
