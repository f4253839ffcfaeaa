"""The nets and images of this experiment: small enough that their curvature can be measured again and again."""

import keras
import numpy as np

from experiments.published.facts import digits

IMAGES = 200


def images() -> tuple[np.ndarray, np.ndarray]:
    """200 of scikit-learn's digits, `(200, 64)`, and their labels as rows of zeros with a one, `(200, 10)`."""
    found = digits(IMAGES)
    return found.x, np.eye(10, dtype="float32")[found.y]


def net(name: str) -> keras.Sequential:
    """A dense net named after its activation and widths, with ten linear outputs; the start is as in Cohen et al. (2021).

    Example:
    >>> from experiments.linearity.nets import net
    >>> [layer.units for layer in net("tanh 16-8").layers]
    [16, 8, 10]
    """
    activation, widths = name.split()
    start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    hidden = [
        keras.layers.Dense(int(width), activation, kernel_initializer=start)
        for width in widths.split("-")
    ]
    output = keras.layers.Dense(10, kernel_initializer=start)
    return keras.Sequential([keras.Input((64,)), *hidden, output])


def repeated(x: np.ndarray, y: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The same examples `steps` times: an epoch of them in batches of all examples is so many full-batch steps."""
    return np.tile(x, (steps, 1)), np.tile(y, (steps, 1))
