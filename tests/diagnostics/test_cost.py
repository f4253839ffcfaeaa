"""What measuring costs, beside a training step, in passes, seconds and memory."""

import tracemalloc

import keras
import numpy as np
import pytest

from layerwise.diagnostics import QUANTITIES, Step, reversals
from tests.helpers import compiled, mlp, vectors


def ten_blocks(width=256):
    """Return a net of ten blocks, and a batch of 128."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(width, "tanh") for _ in range(9)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    return model, rng.normal(size=(128, 64)).astype("float32"), rng.integers(0, 10, 128)


def measure(step):
    """Return the frames of all quantities."""
    return {name: quantity(step) for name, quantity in QUANTITIES.items()}


def test_each_frame_says_what_it_took():
    model = compiled(mlp())  # four blocks
    step = Step(model, *vectors(16))
    assert (step.passes.forward, step.passes.backward) == (0, 1)
    frames = measure(step)
    taken = {name: tuple(frame.attrs["passes"].values()) for name, frame in frames.items()}
    assert taken["interaction"] == (5, 0, 0)
    assert taken["parts"] == (0, 0, 0)  # interaction has moved each block alone
    assert taken["pairs"] == (6, 0, 4)
    assert taken["best_multiple"] == (0, 0, 0)
    assert taken["gauss_seidel"] == (0, 3, 0)
    assert taken["compounding"] == taken["reversals"] == (0, 0, 0)
    assert taken["sharpness"] == (2, 0, 0) and taken["smoothness"] == (0, 3, 0)
    assert taken["gradient_noise"] == (0, 8, 0) and taken["plane"] == (16, 1, 0)
    assert np.sum(list(taken.values()), axis=0).tolist() == [
        step.passes.forward, step.passes.backward - 1, step.passes.hessian_vector,
    ]  # fmt: skip
    for name, frame in frames.items():
        by, measures = list(QUANTITIES[name].by), QUANTITIES[name].measures
        assert list(frame.columns)[: len(by)] == by == frame.attrs["by"]
        assert not measures or tuple(frame.columns[len(by) :]) == measures


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_passes():
    model, x, y = ten_blocks(160)
    step = Step(model, x[:8], y[:8])
    copy = sum(w.nbytes for w in step.weights)
    for name, quantity in QUANTITIES.items():
        if quantity is reversals:
            continue
        quantity(step)  # compiled
        step._changes.clear()
        tracemalloc.start()
        quantity(step, most=32, tolerance=0.0) if name == "allocation" else quantity(step)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        # Beside the Step's own three; curvature and steepest say that they hold more.
        most = {"curvature": 22, "steepest": 16}.get(name, 9)
        assert peak < most * copy, (name, peak / copy)


def test_the_passes_of_ten_blocks_are_those_that_the_docstrings_say():
    # 0.67, 2 and 4 training steps of arithmetic each, since float64 takes twice the time of float32.
    model, x, y = ten_blocks(16)
    step = Step(model, x, y)
    names, n = ("interaction", "pairs", "gauss_seidel", "linearization", "curvature"), 10
    taken = {name: QUANTITIES[name](step).attrs["passes"] for name in names}
    assert taken["interaction"]["forward"] == n + 1
    assert taken["pairs"] == {"forward": n * (n - 1) / 2, "backward": 0, "hessian_vector": n}
    assert taken["gauss_seidel"]["backward"] == n - 1
    # All multiples of 3 n - 3 sets; the step itself was taken for each block, all, and two pairs.
    assert taken["linearization"]["forward"] == 3 * (3 * n - 3) - (n + 1) - 2
    assert taken["curvature"]["hessian_vector"] <= 4 + (n + 1) * (2 * 6 + 2)
