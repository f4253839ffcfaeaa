"""Evaluator: loss and accuracy on every split, from one forward pass over all examples."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from layerwise.comparison.data import Data

CHUNK_ROWS = 4096
CHUNK_BYTES = 16 * 2**20


class Evaluator:
    """Scores predictions for all rows of a `Data`, and averages them over the rows of each split.

    All splits are predicted in one go, in chunks of one size, so that one small program serves them
    all and a seed's own split costs nothing. The loss is the compiled loss alone, without
    regularizers: it compares across regularizers, and between a greedy stage and the whole model.

    Args:
        data: A `Data`.
        loss: A keras loss that gives one value an example (`per_example`).
    """

    def __init__(self, data: Data, loss: keras.losses.Loss):
        self.y, self.loss = data.y, loss
        row_bytes = max(1, sum(a[:1].nbytes for a in keras.tree.flatten(data.x)))
        largest = max(1, min(CHUNK_ROWS, CHUNK_BYTES // row_bytes))
        count = -(-len(self.y) // largest)
        size = -(-len(self.y) // count)
        padded = np.minimum(np.arange(count * size), len(self.y) - 1)
        self.chunks = [
            keras.tree.map_structure(keras.ops.convert_to_tensor, data.batch(rows)[0])
            for rows in np.split(padded, count)
        ]

    def __call__(
        self, predict: Callable[[Any], Any], splits: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """`{split: (mean loss, accuracy)}` of what `predict` says of each chunk."""
        predictions = np.concatenate(
            [np.asarray(keras.ops.convert_to_numpy(predict(chunk))) for chunk in self.chunks]
        )[: len(self.y)].astype("float32")
        losses = keras.ops.convert_to_numpy(self.loss(self.y, predictions))
        losses = losses.reshape(len(self.y), -1).mean(axis=1)
        correct = hits(predictions, self.y)
        return {
            name: (float(losses[rows].mean(dtype="float64")), float(correct[rows].mean()))
            for name, rows in splits.items()
        }


def hits(predictions: np.ndarray, y: np.ndarray) -> np.ndarray:
    """For each example the share of its outputs that are right: 0 or 1 where it has one label.

    Example:
    >>> import numpy as np
    >>> from layerwise.comparison.evaluator import hits
    >>> hits(np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([1, 1])).tolist()
    [1.0, 0.0]
    """
    if np.shape(y) == predictions.shape and predictions.shape[-1] > 1:
        y = y.argmax(axis=-1)
    right = predictions.argmax(axis=-1) == np.reshape(y, predictions.shape[:-1])
    # NaN has no largest entry: argmax would call it class 0.
    right = right & np.isfinite(predictions).all(axis=-1)
    return right.reshape(len(predictions), -1).mean(axis=1, dtype="float64")


def classification_loss(model: keras.Model, data: Data) -> keras.losses.Loss:
    """The cross-entropy that fits a model's outputs: with or without softmax, for labels or one-hot
    rows.

    Raises:
        ValueError: If the outputs are no class scores for these targets; then name the loss.
    """
    x, y = data.batch(slice(0, 16))
    predictions = np.asarray(keras.ops.convert_to_numpy(model(x)), "float32")
    n_classes = predictions.shape[-1] if predictions.ndim > 1 else 1
    one_hot = y.shape == predictions.shape
    labels = y.size == predictions.size // n_classes and np.issubdtype(y.dtype, np.integer)
    if n_classes < 2 or not (one_hot or labels):
        raise ValueError(
            f"No loss fits outputs of shape {predictions.shape} and targets of shape {y.shape} and "
            f"type {y.dtype}. A model "
            "needs an output for each class and integer labels or one-hot rows; or pass loss=... "
            "to compare()."
        )
    if labels and not one_hot and data.y.max() >= n_classes:
        raise ValueError(
            f"The targets hold the label {data.y.max()}, the model has {n_classes} outputs: labels "
            "run from 0 to the "
            "number of outputs less one."
        )
    probabilities = (predictions >= 0).all() and np.allclose(predictions.sum(axis=-1), 1, atol=1e-3)
    kind = (
        keras.losses.CategoricalCrossentropy
        if one_hot
        else keras.losses.SparseCategoricalCrossentropy
    )
    return kind(from_logits=not probabilities)


def per_example(loss: keras.losses.Loss) -> keras.losses.Loss:
    """The same loss, one value an example instead of their mean."""
    return type(loss).from_config(loss.get_config() | {"reduction": None})
