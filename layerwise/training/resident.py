"""Data that lies on the device: the steps of a `fit` gather their batches from it."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend, internals


class Resident(keras.callbacks.Callback):
    """A callback that holds the data of the `fit` that it is in, which needs no batch from the host.

    What `fit` is given, `feed(model)`, has one batch an epoch, which nobody reads: an epoch is one call that carries out
    all batches, as far as the schedule can say its Updates beforehand.

    Args:
        data: `(x, y)` or `(x, y, sample_weight)`, arrays or structures of arrays with all examples.
        steps: Batches of a whole epoch; one that brings fewer is cut short.

    Attributes:
        arrays: The data on the device.
        epochs: For each epoch of the next fit the rows of its batches, `(batches, batch size)`.
    """

    def __init__(self, data: Any, steps: int):
        super().__init__()
        self._data, self.arrays, self.steps = data, backend.resident(data), steps
        self.epochs: Iterator[np.ndarray] = iter(())

    def feed(self, model: keras.Model) -> Any:
        """What `fit` is given, with `steps_per_epoch=1`; what it would build from a batch is built here."""
        internals.symbolic_build(model, keras.tree.map_structure(lambda a: a[:1], self._data))
        return backend.nothing()
