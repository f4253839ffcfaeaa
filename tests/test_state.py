"""Optimizer state: bytes held, what reset and drop mean, own step counts."""

import keras
import numpy as np
import pytest

import layerwise
from tests import conformance
from tests.helpers import (
    Snapshots,
    block_values,
    compiled,
    convnet,
    images,
    mlp,
    mostly_thorough,
    put_back,
    same_bits,
    state_of,
    values,
    vectors,
)


class Bytes(keras.callbacks.Callback):
    """Records the bytes of optimizer slots that the schedule and the optimizer's variables hold."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.held = schedule, []

    def on_train_batch_end(self, batch, logs=None):
        self.held.append(self.schedule.optimizer_state_bytes())


def block_bytes(schedule):
    return [4 * block.parameters for block in schedule.blocks]


@conformance.every_schedule()
def test_the_slots_of_moving_blocks_are_held_and_of_the_others_unless_dropped(case):
    run = conformance.whole(case)
    every = 2 * 4 * sum(np.prod(v.shape, dtype=int) for v in run.model.trainable_variables)
    if getattr(run.schedule, "state", "keep") != "drop":
        assert set(run.held) == {every}
        return
    bytes_of = dict(
        zip((b.name for b in run.schedule.blocks), block_bytes(run.schedule), strict=True)
    )
    expected = [
        2 * sum(bytes_of[name] for name in visit.blocks)
        for visit in run.schedule.visits.itertuples()
        for _ in range(visit.steps)
    ]
    assert run.held == expected


@conformance.every_schedule()
def test_after_fit_the_users_optimizer_has_trained_slots_and_the_count_of_batches(case):
    run, stock = conformance.whole(case), conformance.stock()
    assert run.model.optimizer is run.optimizer
    assert [(s.dtype, s.shape) for s in run.slots] == [(s.dtype, s.shape) for s in stock.slots]
    # NEW: today a batch of a sweep counts once for each block.
    assert run.counts == list(range(1, case.epochs * conformance.BATCHES + 1))
    moved = {name for names in run.schedule.visits["blocks"] for name in names}
    for variable, value in zip(run.model.optimizer.variables, run.slots, strict=True):
        layer = next((name for name in moved if name in variable.path), None)
        if layer is not None and getattr(run.schedule, "state", "keep") != "drop":
            assert np.any(value), "the slot of a block that moved is as trained"


def uneven():
    """Return a net with one block much larger than the others."""
    layers = [keras.layers.Dense(n, "tanh", name=f"block_{k}") for k, n in enumerate([4, 64, 4, 3])]
    return keras.Sequential([keras.Input((6,)), *layers])


@pytest.mark.parametrize(("build", "order"), [(uneven, "random"), (convnet, "cyclic")])
def test_drop_holds_the_moving_block_alone(build, order):
    model = compiled(build(), "adam")
    schedule = layerwise.BlockCoordinate(order=order, state="drop", every=2)
    record = Bytes(schedule)
    x, y = images(40) if build is convnet else vectors(40)
    model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[schedule, record])
    parameters = block_bytes(schedule)
    moving = [schedule.updates(step // 5, step)[0].blocks for step in range(20)]
    # Adam has two slots a parameter; with those of one block, the largest is held at most twice.
    assert record.held == [2 * parameters[k] for (k,) in moving]
    assert max(record.held) <= 2 * max(parameters)


@pytest.mark.parametrize("built_before", [False, True])
def test_after_fit_the_optimizer_has_all_its_slots_again(built_before):
    model = compiled(mlp(), "adam")
    if built_before:
        model.optimizer.build(model.trainable_variables)
    schedule = layerwise.BlockCoordinate(state="drop", every=2)
    model.fit(*vectors(40), batch_size=8, verbose=0, callbacks=[schedule])
    if not built_before:  # slots that never had memory get it when another training begins
        model.make_train_function()
    twin = compiled(mlp(), "adam")
    twin.optimizer.build(twin.trainable_variables)
    shapes = [tuple(slot.shape) for slot in twin.optimizer.variables]
    assert [value.shape for value in values(model.optimizer.variables)] == shapes
    by_block = [slots_of(model, f"block_{k}") for k in range(4)]
    assert not any(np.any(slot) for slot in [*by_block[0], *by_block[1], *by_block[3]])
    assert all(np.any(slot) for slot in by_block[2]), "the last visit's slots are as trained"


def slots_of(model, name):
    return values(s for s in model.optimizer.variables if name in s.path)


OPTIMIZERS = {
    "adam": lambda: keras.optimizers.Adam(0.01),
    "amsgrad": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.3),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.2),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(0.1, initial_accumulator_value=0.2),
    "lion": lambda: keras.optimizers.Lion(0.001, weight_decay=0.1, clipnorm=0.1),
    "loss scale": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "scaled adafactor": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adafactor(0.01)
    ),
}
FAST = ("sgd", "nadam", "adamw", "scaled adafactor")


@pytest.mark.parametrize("name", mostly_thorough(OPTIMIZERS, FAST))
def test_every_optimizer_leaves_standing_blocks_alone_and_drop_equals_reset(name):
    def run(state):
        put_back(model, start)
        snapshots = Snapshots()
        schedule = layerwise.BlockCoordinate(every=2, state=state)
        x, y = vectors(40)
        callbacks = [schedule, snapshots]
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        assert snapshots.moved() == [(0,), (0,), (1,), (1,), (0,), (0,), (1,), (1,), (0,), (0,)]
        return values(model.weights)

    model = compiled(mlp(depth=2), OPTIMIZERS[name]())
    start = state_of(model)
    reset = run("reset")
    assert same_bits(run("drop"), reset)
    assert same_bits(run("keep"), reset) == (name == "sgd")


@pytest.mark.thorough
@pytest.mark.parametrize("make", [keras.optimizers.Adam, keras.optimizers.Nadam])
def test_after_a_reset_the_first_step_is_a_new_optimizers_first(make):
    # Visits of five steps: the second sweep's first step of block 0 is the 21st batch.
    model = compiled(mlp(), make(0.01))
    schedule = layerwise.BlockCoordinate(every=5, state="reset")
    x, y = vectors(40)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model.fit(x, y, epochs=4, callbacks=[schedule], **arguments)
    before = model.get_weights()
    model.fit(x[:8], y[:8], callbacks=[schedule], **arguments)
    twin = compiled(mlp(), make(0.01))
    twin.set_weights(before)
    twin.fit(x[:8], y[:8], **arguments)
    np.testing.assert_allclose(
        np.concatenate([v.ravel() for v in block_values(model)[0]]),
        np.concatenate([v.ravel() for v in block_values(twin)[0]]),
        rtol=1e-6,
        atol=1e-7,
    )


def test_a_block_first_visited_late_takes_a_full_first_step():
    # With the shared count, Adam's first step of a block after many of others is 2.5 to 3.2 times
    # the learning rate; with its own it is the learning rate, for every weight with a gradient.
    model = compiled(mlp(), keras.optimizers.Adam(0.01, epsilon=1e-12))
    x, y = vectors(40)
    schedule = layerwise.BlockCoordinate(order="reverse", every=20)
    model.fit(x, y, batch_size=8, epochs=12, verbose=0, callbacks=[schedule])
    before = block_values(model)[0]
    model.fit(x[:8], y[:8], verbose=0, callbacks=[schedule])
    steps = [abs(b - a) for a, b in zip(before, block_values(model)[0], strict=True)]
    np.testing.assert_allclose(np.concatenate([s.ravel() for s in steps]), 0.01, rtol=1e-3)


def test_the_state_of_an_optimizer_that_has_trained_before_is_taken_over():
    def continued(callbacks):
        model = compiled(mlp(), "adam")
        x, y = vectors(40)
        arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
        model.fit(x, y, epochs=2, **arguments)
        model.fit(x, y, epochs=2, callbacks=callbacks, **arguments)
        return values(model.weights)

    assert same_bits(continued([]), continued([layerwise.BlockCoordinate(blocks=1)]))


def test_step_counts_of_blocks_stay_with_the_optimizer():
    def the_same(model):
        return layerwise.BlockCoordinate()

    def compiled_again(model):
        model.compile(model.optimizer, model.loss, run_eagerly=True)
        return layerwise.BlockCoordinate()

    def divided_otherwise(model):
        return layerwise.BlockCoordinate([["block_0"], ["block_1"]])

    def continued(change):
        model = compiled(mlp(depth=2), keras.optimizers.Nadam(0.1), run_eagerly=True)
        arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
        model.fit(*vectors(16), callbacks=[layerwise.BlockCoordinate()], **arguments)
        model.fit(*vectors(16), callbacks=[change(model)], **arguments)
        return values([*model.weights, *model.optimizer.variables])

    alone = continued(the_same)
    assert same_bits(alone, continued(compiled_again))
    assert same_bits(alone, continued(divided_otherwise))


@pytest.mark.parametrize("state", ["keep", "drop"])
def test_frozen_layers_and_layers_without_weights_have_no_state(state):
    model = mlp(depth=3)
    model.get_layer("block_2").trainable = False
    compiled(model, "adam")
    schedule = layerwise.BlockCoordinate(state=state)
    model.fit(*vectors(40), batch_size=8, epochs=2, verbose=0, callbacks=[schedule])
    assert not [slot.path for slot in model.optimizer.variables if "block_2" in slot.path]


@pytest.mark.parametrize("max_programs", [None, 2])
def test_dropped_state_is_held_for_the_blocks_that_share_a_program(max_programs):
    model = compiled(mlp(depth=4), "adam")
    held = []
    schedule = layerwise.BlockCoordinate("layer", state="drop", max_programs=max_programs)
    count = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: held.append(schedule.optimizer_state_bytes())
    )
    model.fit(*vectors(4), batch_size=4, verbose=0, callbacks=[schedule, count])
    sharing = 2 if max_programs and keras.backend.backend() != "torch" else 1
    expected = sum(
        2 * 4 * np.prod(v.shape) for k in range(sharing) for v in schedule.blocks[k].variables
    )
    assert held == [expected]
