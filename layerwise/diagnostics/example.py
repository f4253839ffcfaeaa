"""The net of two weights that the examples of all quantities are about."""

import keras
import numpy as np

from layerwise.diagnostics.step import Step


def example() -> Step:
    """The Step of a net w * v * x on x = 1 with target 3, from w = 1 and v = 2, by gradient descent at rate 0.125.

    The loss is (w v - 3)^2 = 1, its gradient 2 (w v - 3) (v, w) = (-4, -2), the displacement (0.5, 0.25), the Hessian
    [[2 v^2, 4 w v - 6], [4 w v - 6, 2 w^2]] = [[8, 2], [2, 2]]: all that is measured of it can be checked by hand.

    >>> import layerwise
    >>> step = layerwise.diagnostics.example()
    >>> step.loss, float(step.displacement[0][0]), float(step.displacement[1][0])
    (1.0, 0.5, 0.25)
    """
    model = keras.Sequential(
        [
            keras.Input((1,)),
            keras.layers.Dense(1, use_bias=False, name="w"),
            keras.layers.Dense(1, use_bias=False, name="v"),
        ]
    )
    model.set_weights([np.array([[1.0]]), np.array([[2.0]])])
    model.compile(optimizer=keras.optimizers.SGD(0.125), loss="mse")
    return Step(model, np.array([[1.0]]), np.array([[3.0]]))
