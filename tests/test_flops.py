"""The arithmetic of a step, as each backend's own counter finds it: no gradient is computed that nobody uses."""

import functools

import keras
import numpy as np
import pytest

import layerwise
from layerwise import Update
from tests.helpers import compiled, met

ROWS, WIDTH = 64, 64
PRODUCT = 2 * ROWS * WIDTH * WIDTH  # one product of a batch and a kernel, or of two batches


def batch():
    return np.ones((ROWS, WIDTH), "float32"), np.zeros(ROWS, "int32")


@functools.cache
def dense(state="keep", **arguments):
    """Return a schedule that has trained a net of four equal dense layers."""
    layers = [keras.layers.Dense(WIDTH, name=f"block_{k}") for k in range(4)]
    model = compiled(keras.Sequential([keras.Input((WIDTH,)), *layers]), "sgd", **arguments)
    schedule = layerwise.BlockCoordinate(state=state)
    model.fit(*batch(), batch_size=ROWS, verbose=0, callbacks=[schedule])
    return schedule


def products(flops):
    """Return how many products these are; what is elementwise must not make up for one more."""
    count, rest = divmod(flops, PRODUCT)
    assert rest < 0.5 * PRODUCT
    return count


@pytest.mark.parametrize("arguments", [{}, {"state": "drop"}, {"jit_compile": True}], ids=str)
def test_no_gradient_is_computed_below_the_moving_block(arguments):
    if "jit_compile" in arguments and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a compiler")
    schedule = dense(**arguments)
    # Forward 4; the block's own weights 1; the way back through the layers above it, 3 - block.
    assert [products(schedule.flops(Update((k,)), *batch())) for k in range(4)] == [8, 7, 6, 5]


def test_what_is_counted_before_fit_is_what_is_counted_after():
    layers = [keras.layers.Dense(WIDTH, name=f"block_{k}") for k in range(4)]
    model = compiled(keras.Sequential([keras.Input((WIDTH,)), *layers]), "adam")
    schedule = layerwise.BlockCoordinate(state="drop")
    schedule.build(model)  # with all slots released
    before = schedule.flops(Update((1,)), *batch())
    model.fit(*batch(), batch_size=ROWS, verbose=0, callbacks=[schedule])
    assert schedule.flops(Update((1,)), *batch()) == before > 0


def test_all_blocks_together_cost_what_stock_costs():
    for update in (Update((0, 1, 2, 3)), Update(None)):
        assert products(dense().flops(update, *batch())) == 4 + 4 + 3


@pytest.mark.parametrize(("blocks", "weights"), [((0, 3), 2), ((2, 3), 2)])
def test_between_the_moving_blocks_no_weight_gradient_is_computed(blocks, weights):
    expected = 4 + weights + (3 - min(blocks))
    assert products(dense().flops(Update(blocks), *batch())) == expected


def test_a_greedy_stage_runs_its_prefix_its_block_and_its_head():
    def head(features):
        return keras.layers.Dense(WIDTH)(features)

    schedule = layerwise.GreedyLayerwise(head=head)
    met(schedule, dense().model)
    schedule.prepare(epochs=4)
    found = [products(schedule.flops(schedule.updates(k, k)[0], *batch())) for k in range(4)]
    # Forward k + 2, the weights of block and head 2, back through the head 1; the last stage has
    # no head: forward 4, weights 1.
    assert found == [5, 6, 7, 5]


@pytest.mark.parametrize("blocks", [(0,), (2,), (3,), None], ids=str)
def test_convolutions(blocks):
    x, y = np.ones((8, 8, 8, 16), "float32"), np.zeros(8, "int32")
    convolution = 2 * (8 * 8 * 8 * 16) * 16
    expected = 4 + 4 + 3 if blocks is None else 4 + 1 + (3 - blocks[0])
    found = convolutional().flops(Update(blocks), x, y)
    assert expected * convolution <= found < (expected + 0.5) * convolution


@functools.cache
def convolutional():
    """Return a schedule that has met a net of four equal convolutions."""
    layers = [keras.layers.Conv2D(16, 1, name=f"block_{k}") for k in range(4)]
    pool = keras.layers.GlobalAveragePooling2D()
    model = compiled(keras.Sequential([keras.Input((8, 8, 16)), *layers, pool]), "sgd")
    return met(layerwise.BlockCoordinate(), model)


def test_attention():
    length = 64
    inputs = value = keras.Input((length, WIDTH))
    for k in range(2):
        attention = keras.layers.MultiHeadAttention(
            2, WIDTH // 2, use_bias=False, name=f"block_{k}"
        )
        value = attention(value, value)
    outputs = keras.layers.GlobalAveragePooling1D(data_format="channels_last")(value)
    model = compiled(keras.Model(inputs, outputs), "sgd")
    x, y = np.ones((2, length, WIDTH), "float32"), np.zeros(2, "int32")
    schedule = met(layerwise.BlockCoordinate(), model)
    product = 2 * (2 * length) * WIDTH * WIDTH  # length is width: also one of scores or of values
    # Forward: 4 projections, scores and values. Back to queries, keys and values: 1 + 4, and torch
    # computes the scores again; on to the input 3.
    forward, inside = 2 * (4 + 2), 1 + 4 + (keras.backend.backend() == "torch")
    expected = {
        (0,): forward + (inside + 3) + inside + 4,
        (1,): forward + inside + 4,
        None: forward + (inside + 3 + 4) + inside + 4,
    }
    for blocks, count in expected.items():
        found = schedule.flops(Update(blocks), x, y)
        assert count * product <= found < (count + 1) * product
