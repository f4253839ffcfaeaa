"""What measuring costs, beside a training step."""

import time

import keras
import numpy as np
import pytest

from layerwise.diagnostics import QUANTITIES, Step, reversals


@pytest.mark.slow
def test_every_quantity_once_costs_at_most_a_hundred_steps():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(64, "tanh") for _ in range(9)]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(128, 64)).astype("float32"), rng.integers(0, 10, 128)

    def measure():
        step = Step(model, x, y)
        for name, quantity in QUANTITIES.items():
            reversals(step, None) if name == "reversals" else quantity(step)
        return step

    def seconds(call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def train():
        model.fit(np.tile(x, (50, 1)), np.tile(y, 50), batch_size=128, verbose=0)

    measure(), train()  # compiled
    one_step = min(seconds(train) for _ in range(3)) / 50
    every = min(seconds(measure) for _ in range(3))
    print(f"{every / one_step:.0f} training steps of {1e3 * one_step:.2f} ms: {measure().passes}")
    assert every <= 100 * one_step
