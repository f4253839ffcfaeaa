"""Whole trajectories against loops in NumPy and float64, and against closed forms."""

import keras
import numpy as np
import pytest

import layerwise
from tests import references
from tests.helpers import CLASSES, batches, compiled, met, mlp, pooled, values, vectors

DEPTH, EPOCHS, BATCH = 4, 10, 8  # ten epochs of five batches: 50 steps

SGD = (lambda: keras.optimizers.SGD(0.2), references.SGD(0.2))
MOMENTUM = (lambda: keras.optimizers.SGD(0.05, momentum=0.9), references.SGD(0.05, 0.9))
ADAM = (lambda: keras.optimizers.Adam(0.01), references.Adam(0.01))
# After a reset Adam's first step is g / (|g| + epsilon): with the usual 1e-7 it turns rounding of a
# gradient near zero into a whole step, and no two implementations agree. 1e-3 leaves the formula.
SMOOTH_ADAM = (
    lambda: keras.optimizers.Adam(0.01, epsilon=1e-3),
    references.Adam(0.01, epsilon=1e-3),
)
ADAMW = (
    lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.1),
    references.Adam(0.01, weight_decay=0.1, global_clipnorm=0.1),
)
DECAYING_ADAM = (
    lambda: keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.02, 10, 0.5)),
    references.Adam(lambda taken: 0.02 * 0.5 ** (taken / 10)),
)


def as_layers(model):
    """Return the network in the form of references.py, in float64."""
    pairs = zip(*[iter(values(model.trainable_variables))] * 2, strict=True)
    return [{"kernel": k.astype("float64"), "bias": b.astype("float64")} for k, b in pairs]


def assert_close(model, layers):
    # A float32 sum of n products is off by about sqrt(n) * 6e-8 of its size, and 50 steps through
    # four layers pass that on: 2e-5 of weights of order 1 leaves a margin of a few times. A wrong
    # block, step count or slot is off by whole steps, 1e-3 and more.
    for found, layer in zip(as_layers(model), layers, strict=True):
        for name, value in layer.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5)


def assert_follows(schedule, turns, optimizer, **oracle_arguments):
    """Train for 50 batches and compare with the oracle's turns: (moving, visit begins) a batch."""
    make_optimizer, oracle = optimizer
    x, y = vectors(40)
    model = pooled(mlp, make_optimizer)
    start = as_layers(model)
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[schedule])
    steps = [
        (batch_x, batch_y, moving, begins)
        for (batch_x, batch_y), batch_turns in zip(
            batches(x.astype("float64"), y, BATCH, EPOCHS), turns, strict=True
        )
        for moving, begins in batch_turns
    ]
    loss = references.softmax_cross_entropy
    oracle_arguments["updates_a_batch"] = len(turns[0])
    assert_close(model, references.train(start, steps, oracle, loss, **oracle_arguments)[-1])


def turns_of(sequence, every=1, always=()):
    """Return for each of the 50 batches one turn, the blocks taking visits in this order."""
    return [
        [(tuple(sorted({sequence[step // every % len(sequence)], *always})), step % every == 0)]
        for step in range(EPOCHS * 5)
    ]


# Orders and optimizers do not meet in the code: each occurs with some of the other, and all in test_moving and test_state.
@pytest.mark.parametrize(
    ("order", "sequence", "optimizer"),
    [
        ("cyclic", [0, 1, 2, 3], ADAMW),
        ("cyclic", [0, 1, 2, 3], DECAYING_ADAM),
        ("reverse", [3, 2, 1, 0], SGD),
        ("reverse", [3, 2, 1, 0], MOMENTUM),
    ],
    ids=["cyclic, adamw", "cyclic, decaying adam", "reverse, sgd", "reverse, momentum"],
)
def test_cyclic_and_reverse(order, sequence, optimizer):
    assert_follows(layerwise.BlockCoordinate(order=order), turns_of(sequence), optimizer)


@pytest.mark.parametrize(("order", "every"), [("shuffled", 3), ("random", 1)])
def test_orders_drawn_from_the_seed(order, every):
    twin, schedule = (layerwise.BlockCoordinate(order=order, every=every, seed=4) for _ in range(2))
    met(twin, pooled(mlp, MOMENTUM[0]))
    # test_moving.py checks what these orders are; here they are read from the pure function.
    moving = [twin.updates(step // 5, step)[0].blocks for step in range(50)]
    turns = [[(blocks, step % every == 0)] for step, blocks in enumerate(moving)]
    assert_follows(schedule, turns, MOMENTUM)


@pytest.mark.thorough
# NEW: with DECAYING_ADAM today each Update of a batch has a learning rate of its own.
@pytest.mark.parametrize(
    ("order", "sequence", "optimizer"),
    [
        ("cyclic", [0, 1, 2, 3], ADAM),
        ("reverse", [3, 2, 1, 0], ADAMW),
        ("cyclic", [0, 1, 2, 3], DECAYING_ADAM),
    ],
    ids=["cyclic, adam", "reverse, adamw", "cyclic, decaying adam"],
)
def test_sweeps_on_the_same_batch_take_a_fresh_gradient_for_each_block(order, sequence, optimizer):
    schedule = layerwise.BlockCoordinate(order=order, sweep_each_batch=True)
    turns = [[((block,), True) for block in sequence]] * 50
    assert_follows(schedule, turns, optimizer)


# Of "drop", test_state.py proves that it is "reset" bit for bit, for every optimizer.
@pytest.mark.parametrize(
    ("optimizer", "every", "state"),
    [
        (SMOOTH_ADAM, 1, "reset"),
        (SMOOTH_ADAM, 3, "keep"),
        (SMOOTH_ADAM, 3, "reset"),
        (MOMENTUM, 3, "reset"),
    ],
    ids=["adam, 1, reset", "adam, 3, keep", "adam, 3, reset", "momentum, 3, reset"],
)
def test_optimizer_state_at_the_start_of_a_visit(optimizer, every, state):
    assert_follows(
        layerwise.BlockCoordinate(state=state, every=every),
        turns_of([0, 1, 2, 3], every),
        optimizer,
        restart_at_visit=state != "keep",
    )


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_optimizer_state_in_sweeps_on_the_same_batch(state):
    schedule = layerwise.BlockCoordinate(state=state, sweep_each_batch=True)
    turns = [[((block,), True) for block in range(DEPTH)]] * 50
    assert_follows(schedule, turns, SMOOTH_ADAM, restart_at_visit=state != "keep")


@pytest.mark.parametrize("state", ["keep", "reset"])
def test_blocks_that_always_move_keep_their_state(state):
    schedule = layerwise.BlockCoordinate(state=state, always=(3,), every=2)
    turns = turns_of([0, 1, 2], every=2, always=(3,))
    restart = state != "keep"
    assert_follows(schedule, turns, SMOOTH_ADAM, restart_at_visit=restart, always=(3,))


@pytest.mark.parametrize("state", ["keep", "reset", "drop"])
def test_two_turns_of_the_same_block_in_a_row_are_two_visits(state):
    schedule = layerwise.BlockCoordinate(order=lambda *_: [0, 0, 1, 3], state=state, every=2)
    assert_follows(
        schedule, turns_of([0, 0, 1, 3], 2), SMOOTH_ADAM, restart_at_visit=state != "keep"
    )


def test_simultaneous_is_every_block_at_every_step():
    turns = [[(tuple(range(DEPTH)), False)]] * 50
    assert_follows(layerwise.Simultaneous(), turns, ADAMW)
    assert_follows(layerwise.BlockCoordinate(blocks=1), turns, ADAMW)


def test_one_turn_with_all_blocks_is_not_a_sweep():
    # The oracle tells Jacobi from Gauss-Seidel: otherwise the tests above could not fail.
    x, y = vectors(40)
    start = as_layers(mlp())
    data = batches(x.astype("float64"), y, BATCH, EPOCHS)
    loss = references.softmax_cross_entropy
    jacobi = [(a, b, range(DEPTH), False) for a, b in data]
    seidel = [(a, b, (k,), False) for a, b in data for k in range(DEPTH)]
    ends = [references.train(start, steps, SGD[1], loss)[-1] for steps in (jacobi, seidel)]
    assert abs(ends[0][0]["kernel"] - ends[1][0]["kernel"]).max() > 1e-3


@pytest.mark.parametrize(
    ("schedule", "moves"),
    [
        (layerwise.Simultaneous(), ["both"] * 20),
        (layerwise.BlockCoordinate(), ["v", "w"] * 10),
        (layerwise.BlockCoordinate(order="reverse"), ["w", "v"] * 10),
        (layerwise.BlockCoordinate(every=4), (["v"] * 4 + ["w"] * 4) * 3),
        (layerwise.BlockCoordinate(sweep_each_batch=True), ["v", "w"] * 20),
    ],
    ids=["simultaneous", "cyclic", "reverse", "visits of four", "sweeps"],
)
def test_the_net_of_two_weights(schedule, moves):
    """Output w * h with h = v * 1, target -0.1, from w = 0.1 and v = 1."""
    layers = [
        keras.layers.Dense(
            1, use_bias=False, kernel_initializer=keras.initializers.Constant(start), name=name
        )
        for name, start in (("v", 1.0), ("w", 0.1))
    ]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile(keras.optimizers.SGD(), "mse")
    start = model.get_weights()
    steps = len(moves) // 2 if getattr(schedule, "sweep_each_batch", False) else len(moves)
    x, y = np.ones((steps, 1), "float32"), np.full((steps, 1), -0.1, "float32")
    for learning_rate in (0.01, 0.1, 0.3, 0.45, 0.6, 0.9):
        model.set_weights(start)
        model.optimizer.learning_rate = learning_rate
        schedule.restart()
        trajectory = Trajectory()
        model.fit(x, y, batch_size=1, verbose=0, callbacks=[schedule, trajectory])
        expected = references.two_weights(0.1, 1.0, learning_rate, -0.1, moves)
        taken = [(0.1, 1.0), *trajectory.points]
        # Where the rate overshoots, differences grow with the weights, whose float32 step is 6e-8.
        expected = expected[:: (len(expected) - 1) // steps]
        np.testing.assert_allclose(taken, expected, rtol=2e-5, atol=1e-6)


class Trajectory(keras.callbacks.Callback):
    """Keeps (w, v) after every batch."""

    def __init__(self):
        super().__init__()
        self.points = []

    def on_train_batch_end(self, batch, logs=None):
        self.points.append([float(value.ravel()[0]) for value in values(self.model.weights)][::-1])


def test_mean_squared_error_with_several_outputs():
    x, y = vectors(40)
    targets = np.eye(CLASSES, dtype="float32")[y]
    model = compiled(mlp(), keras.optimizers.SGD(0.3), loss="mse")
    start = as_layers(model)
    schedule = layerwise.BlockCoordinate(order="reverse")
    model.fit(
        x, targets, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[schedule]
    )
    data = batches(x.astype("float64"), targets.astype("float64"), BATCH, EPOCHS)
    steps = [(a, b, (3 - k % 4,), False) for k, (a, b) in enumerate(data)]
    loss = references.mean_squared_error
    assert_close(model, references.train(start, steps, references.SGD(0.3), loss)[-1])
