"""Data that lies on the device: the steps of a `fit` gather their batches from it."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend


class Resident(keras.callbacks.Callback):
    """A callback that holds the data of the `fit` that it is in, which needs no batch from the host.

    What `fit` is given, `nothing`, has one batch an epoch, which nobody reads: an epoch is one call that carries out all
    batches, as far as the schedule can say its Updates beforehand.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or structures of arrays with all examples.
        steps: Batches of a whole epoch; one that brings fewer is cut short.

    Attributes:
        arrays: The data on the device.
        epochs: For each epoch of the next fit the rows of its batches, `(batches, batch size)`.
    """

    def __init__(self, data: Any, steps: int):
        super().__init__()
        self.arrays, self.steps = backend.resident(data), steps
        self.epochs: Iterator[np.ndarray] = iter(())

    @property
    def nothing(self) -> Any:
        """What `fit` is given, with `steps_per_epoch=1`."""
        return backend.nothing()
