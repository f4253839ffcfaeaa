"""One batch: what fits the model, its parts and chunks."""

from typing import Any

import keras
import numpy as np

from layerwise.backends import double, internals
from layerwise.blocks.block import as_integer


def batch(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> tuple:
    """One batch as `fit` would take it, as arrays.

    Raises:
        ValueError: The inputs do not fit the model, or the numbers of examples differ.
    """
    for part in (x, y, sample_weight):
        arrays = isinstance(part, (dict, list, tuple)) or hasattr(part, "__array__")
        if part is not None and not arrays and not keras.ops.is_tensor(part):
            raise TypeError(
                f"A Step takes one batch as arrays, got {type(part).__name__}. Of a dataset or generator take one: "
                "x, y = next(iter(dataset))."
            )
    data = tuple(keras.tree.map_structure(_array, part) for part in (x, y, sample_weight))
    expected = keras.tree.flatten(getattr(model, "inputs", None) or [])
    inputs = _in_order(data[0], expected)
    shapes = [tuple(a.shape) for a in inputs]
    if expected and not _fits(shapes, [tuple(t.shape) for t in expected]):
        raise ValueError(
            f"x must be one batch of the model's inputs, of shape {', '.join(str(tuple(t.shape)) for t in expected)} "
            f"(None: any number), got {_listed(shapes)}. Give arrays with the examples along the "
            "first axis."
        )
    if not all(len(a) for a in inputs if a.ndim):
        raise ValueError("A Step needs at least one example, got an empty batch.")
    counts = {len(a) for a in keras.tree.flatten(data) if a is not None and a.ndim}
    if len(counts) > 1:
        raise ValueError(
            f"x, y and sample_weight must have as many examples each, got {sorted(counts)} along the first axis."
        )
    _check_loss(model, data)
    return data


def _in_order(x, expected):
    """The arrays of the inputs, a dict's in the order of the model's inputs, where it names these."""
    names = [tensor.name for tensor in expected]
    if isinstance(x, dict) and set(names) <= set(x):
        x = [x[name] for name in names]
    return [a for a in keras.tree.flatten(x) if a is not None]


def _check_loss(model, data):
    kept = internals.until_compile(model)
    shapes = str(
        keras.tree.map_structure(lambda a: None if a is None else (a.shape, a.dtype), data)
    )
    if ("fits", shapes) in kept:
        return
    try:
        double.check_loss(model, data)
    except Exception as error:
        y = [tuple(a.shape) for a in keras.tree.flatten(data[1]) if a is not None]
        raise ValueError(
            f"The loss of the model cannot be computed on this batch, with y of shape {_listed(y)}: {error} Give the "
            "targets that the compiled loss takes."
        ) from error
    kept["fits", shapes] = True


def _listed(shapes):
    more = f" and {len(shapes) - 4} more" if len(shapes) > 4 else ""
    return (", ".join(map(str, shapes[:4])) or "nothing") + more


def split(data: tuple, count: int) -> list[tuple]:
    """A batch in `count` parts with as many examples each; what is left over is left out.

    Raises:
        ValueError: The batch has fewer examples than parts.
    """
    size = size_of(data)
    each = size // count
    if count < 2 or each < 1:
        raise ValueError(
            f"parts must be from 2 to the number of examples in the batch, {size}, got {count!r}."
        )
    return [cut(data, k * each, (k + 1) * each) for k in range(count)]


def size_of(data: tuple) -> int:
    """The number of examples in a batch."""
    return next(len(a) for a in keras.tree.flatten(data) if a is not None)


def cut(data: tuple, start: int, stop: int) -> tuple:
    """The examples of a batch from `start` up to `stop`."""
    return keras.tree.map_structure(lambda a: None if a is None else a[start:stop], data)


def check_chunks(model: keras.Model, chunk_size: Any, data: tuple) -> None:
    """Raises ValueError where the loss of a batch is no mean over chunks of it, or `chunk_size` is no positive int."""
    size = as_integer(chunk_size)
    if size is None or size < 1:
        raise ValueError(
            f"chunk_size must be a positive int, or None for the whole batch at once, got {chunk_size!r}."
        )
    mixing = [layer.name for layer in double.layers_of(model) if depends_on_the_batch(layer)]
    if mixing:
        raise ValueError(
            f"chunk_size={size} cuts the batch, and the layers {mixing[:3]} take statistics or losses of the whole batch: "
            "chunks would measure another loss. Use chunk_size=None and a smaller batch."
        )
    reductions, whole = double.reductions(model), double.of_the_batch(model)
    plain = {"sum_over_batch_size", "mean"} | (
        {"mean_with_sample_weight"} if data[2] is None else set()
    )
    masked = any(internals.mask(t) is not None for t in getattr(model, "outputs", None) or ())
    if masked or whole or not reductions <= plain:
        why = (
            "its outputs carry masks"
            if masked
            else f"its losses {whole[:3]} are of the whole batch"
            if whole
            else f"its losses reduce by {sorted(map(str, reductions - plain))}"
        )
        raise ValueError(
            f"chunk_size={size} takes the loss as the mean over the chunks of a batch, which this model's is not: {why}. "
            "Use chunk_size=None and a smaller batch."
        )


def depends_on_the_batch(layer: keras.layers.Layer) -> bool:
    """Whether what a layer gives for a batch in training is not what it gives for each example."""
    normalizes = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    return normalizes or getattr(layer, "activity_regularizer", None) is not None


def _array(value):
    if value is None:
        return None
    array = keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else np.asarray(value)
    if array.dtype.kind not in "biuf" and "float" not in array.dtype.name:
        raise TypeError(f"A batch holds numbers, got an array of {array.dtype}.")
    return (
        array.astype(keras.backend.floatx()) if np.issubdtype(array.dtype, np.floating) else array
    )


def _fits(shapes, expected):
    if len(shapes) != len(expected):
        return False
    for shape, wanted in zip(shapes, expected, strict=True):
        # Keras adds or drops a last axis of size 1.
        alike = [wanted, wanted[:-1]] if wanted and wanted[-1] == 1 else [wanted, (*wanted, 1)]
        if not any(_matches(shape, w) for w in alike):
            return False
    return True


def _matches(shape, wanted):
    return len(shape) == len(wanted) and all(
        w is None or n == w for n, w in zip(shape[1:], wanted[1:], strict=True)
    )
