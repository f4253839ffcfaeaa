"""Published facts, in their quick form."""

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

from layerwise.diagnostics import Step
from layerwise.diagnostics.allocation import allocate
from layerwise.diagnostics.curvature import largest_eigenvalue


def digits(width=64):
    """Return a tanh net of two hidden layers and 500 digits with one-hot targets."""
    x, y = load_digits(return_X_y=True)
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((64,)),
        keras.layers.Dense(width, "tanh"),
        keras.layers.Dense(width, "tanh"),
    ]
    model = keras.Sequential([*layers, keras.layers.Dense(10)])
    return model, (x[:500] / 16).astype("float32"), np.eye(10, dtype="float32")[y[:500]]


@pytest.mark.slow
def test_full_batch_descent_goes_to_the_edge_of_stability():
    # Cohen et al. (arXiv 2103.00065): the largest eigenvalue rises to 2 / rate and stays there.
    model, x, y = digits()
    rate = 0.4
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    model.fit(x, y, batch_size=500, epochs=1500, shuffle=False, verbose=0)
    found = []
    for _ in range(5):
        model.fit(x, y, batch_size=500, epochs=100, shuffle=False, verbose=0)
        step = Step(model, x, y)
        value, residual = largest_eigenvalue(step, range(len(step.blocks)), tolerance=1e-3)
        assert residual < 0.01 * value
        found.append(value)
    assert np.mean(found) == pytest.approx(2 / rate, rel=0.05)


@pytest.mark.slow
def test_about_half_of_the_parameters_hurt_in_a_step():
    # Lan et al. (arXiv 1909.01440): barely over half of the parameters help at a training step.
    model, x, y = digits()
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss="categorical_crossentropy")
    model.layers[-1].activation = keras.activations.softmax
    model.fit(x, y, batch_size=50, epochs=3, verbose=0)
    helped = []
    for first in range(0, 500, 50):
        # What the next batch's step does to the loss on all examples.
        model.fit(x[first : first + 50], y[first : first + 50], batch_size=50, verbose=0)
        parts, error = allocate(Step(model, x, y))
        entries = np.concatenate(parts)
        assert error <= 1e-3 * abs(entries.sum()) + 1e-12
        helped.append(np.mean(entries[entries != 0] < 0))
    assert 0.5 < np.mean(helped) < 0.65
