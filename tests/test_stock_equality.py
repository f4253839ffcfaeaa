"""Simultaneous training, and one block that is the whole model, are stock ``fit`` bit for bit.

On TensorFlow with graphs that are optimized, as they are for users; the trainings that other modules look at, too, are so
where OPTIMIZED_GRAPHS is set.
"""

import functools
import random

import keras
import numpy as np
import pytest

import layerwise
from tests import conformance
from tests.helpers import (
    compiled,
    convnet,
    images,
    mlp,
    mostly_thorough,
    normalized_mlp,
    optimize_graphs,
    same_bits,
    values,
    vectors,
)

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, centered=True),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "learning-rate schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.05, decay_steps=8)
    ),
}
SCHEDULES = {case.name: case.make for case in conformance.SCHEDULES if case.equals_stock}
# What installs nothing runs stock's own function: what the function is made of cannot matter to it.
THROUGH_THE_MACHINERY = [
    case.name for case in conformance.SCHEDULES if case.equals_stock and not case.takes_any_model
]


@conformance.every_schedule(lambda case: case.equals_stock)
def test_equals_stock(case):
    run, stock = conformance.whole(case), conformance.stock(case.epochs)
    assert same_bits(run.variables, stock.variables)
    assert same_bits(run.slots, stock.slots)
    assert run.history == stock.history


def two_layers():
    return mlp(depth=2)


def dropout_mlp():
    return normalized_mlp(depth=2, dropout=0.3)


@pytest.fixture
def optimized():
    """What is trained in a test has graphs that TensorFlow optimizes."""
    optimize_graphs(True)
    yield
    optimize_graphs(False)


@functools.cache
def run(schedule, build, optimizer, jit_compile):
    """Train from a fixed global seed with shuffling; return weights, slots and history."""
    keras.utils.set_random_seed(3)
    optimizer = OPTIMIZERS[optimizer]()
    model = compiled(build(), optimizer, metrics=["accuracy"], jit_compile=jit_compile)
    x, y = images() if len(model.input_shape) == 4 else vectors()
    callbacks = [] if schedule is None else [SCHEDULES[schedule]()]
    arguments = {"batch_size": 7, "epochs": 2, "validation_split": 0.25, "verbose": 0}
    history = model.fit(x, y, callbacks=callbacks, **arguments).history
    return values(model.weights), values(model.optimizer.variables), history


def assert_equals_stock(schedule, build, optimizer, jit_compile):
    weights, slots, history = run(schedule, build, optimizer, jit_compile)
    stock_weights, stock_slots, stock_history = run(None, build, optimizer, jit_compile)
    assert same_bits(weights, stock_weights)
    assert same_bits(slots, stock_slots)
    assert history == stock_history


@pytest.mark.parametrize("schedule", THROUGH_THE_MACHINERY)
@pytest.mark.parametrize("optimizer", mostly_thorough(OPTIMIZERS, fast=("momentum", "nadam")))
def test_equals_stock_with_every_kind_of_optimizer(schedule, optimizer, optimized):
    assert_equals_stock(schedule, two_layers, optimizer, jit_compile=False)


@pytest.mark.thorough
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_equals_stock_with_convolutions_shuffling_and_validation(schedule, optimized):
    assert_equals_stock(schedule, convnet, "adam", jit_compile="auto")


@pytest.mark.thorough
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch.compile needs a compiler")
@pytest.mark.parametrize("schedule", THROUGH_THE_MACHINERY)
@pytest.mark.parametrize(
    ("build", "optimizer"),
    [
        (dropout_mlp, "learning-rate schedule"),
        pytest.param(convnet, "momentum", marks=pytest.mark.slow),
    ],
)
def test_equals_stock_under_jit_compile(schedule, build, optimizer, optimized):
    assert_equals_stock(schedule, build, optimizer, jit_compile=True)


def test_one_block_equals_stock_with_sample_weights_and_regularizers(optimized):
    def build():
        return mlp(kernel_regularizer="l2", kernel_constraint=keras.constraints.MaxNorm(1.0))

    def fitted(callbacks):
        keras.utils.set_random_seed(5)
        model = compiled(build(), "adam", weighted_metrics=["accuracy"])
        x, y = vectors()
        weights = np.linspace(0.1, 2, len(x)).astype("float32")
        fitted = model.fit(x, y, sample_weight=weights, epochs=2, verbose=0, callbacks=callbacks)
        return values(model.weights), fitted.history

    weights, history = fitted([layerwise.BlockCoordinate(blocks=1)])
    stock_weights, stock_history = fitted([])
    assert same_bits(weights, stock_weights)
    assert history == stock_history


@conformance.every_schedule(lambda case: case.name in ("simultaneous", "shuffled, reset", "greedy"))
def test_schedules_leave_the_global_random_state_as_stock_fit_does(case):
    def drawn_after(callbacks):
        keras.utils.set_random_seed(3)
        model = conformance.whole(case).model  # its programs are compiled: that draws nothing
        conformance.fitted(model, *callbacks, epochs=case.epochs, shuffle=True)
        return (
            random.random(),
            np.random.random(),
            keras.ops.convert_to_numpy(keras.random.uniform((2,))).tolist(),
        )

    assert drawn_after([case.make()]) == drawn_after([])
