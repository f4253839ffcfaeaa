"""Data that lies on the device: `fit` brings the rows of an epoch's batches, and the steps gather them."""

from typing import Any

import keras

from layerwise.backends import backend


class Resident(keras.callbacks.Callback):
    """A callback that holds the data of the `fit` that it is in, which then needs no batch from the host.

    What `fit` brings is an epoch: one integer array of shape `(batches, batch size)`, the rows of each batch. All of them
    are carried out in one call, as far as the schedule can say its Updates beforehand.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or structures of arrays with all examples.
        steps: Batches of a whole epoch; one that brings fewer is cut short.
    """

    def __init__(self, data: Any, steps: int):
        super().__init__()
        self.arrays, self.steps = backend.resident(data), steps
