"""What is wrong with a probe is said before training starts."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from layerwise.blocks.block import as_integer, known_names
from layerwise.steps import Update
from layerwise.training import checks


def check_model(model: Any) -> None:
    """Raises where no step of the model can be measured: it is no compiled and built model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"A Step takes a keras.Model, got {type(model).__name__}: {model!r}.")
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(
            "The model is not compiled with an optimizer, so that nothing says what a step does. Call "
            "model.compile(optimizer=..., loss=...) first."
        )
    checks.check_model(model)


def check_session(session: Any, update: Update) -> None:
    """Raises ValueError where the losses of an Update go through heads or sub-models that no running fit has."""
    if session is None:
        raise ValueError(
            f"The losses of {update!r} go through auxiliary heads or frozen blocks, which only the fit of a schedule has. "
            "Measure them by a layerwise.Probe in that fit, or give an Update with the model's own loss: "
            "Update(blocks=(...))."
        )


def check_update(update: Update, n: int, heads: dict) -> None:
    """Raises ValueError where a model of n blocks cannot carry out an Update."""
    checks.check_update(update, n, heads)


def batch(model: keras.Model, x: Any, y: Any, sample_weight: Any) -> tuple:
    """One batch as `fit` would take it, as arrays.

    Raises:
        ValueError: The inputs do not fit the model, or the numbers of examples differ.
    """
    data = tuple(keras.tree.map_structure(_array, part) for part in (x, y, sample_weight))
    inputs = [a for a in keras.tree.flatten(data[0]) if a is not None]
    expected = [t for t in keras.tree.flatten(getattr(model, "inputs", None) or [])]
    shapes = [tuple(a.shape) for a in inputs]
    if expected and not _fits(shapes, [tuple(t.shape) for t in expected]):
        raise ValueError(
            f"x must be one batch of the model's inputs, of shape {', '.join(str(tuple(t.shape)) for t in expected)} "
            f"(None: any number), got {', '.join(map(str, shapes)) or 'nothing'}. Give arrays with the examples along the "
            "first axis."
        )
    counts = {len(a) for a in keras.tree.flatten(data) if a is not None and a.ndim}
    if len(counts) > 1:
        raise ValueError(
            f"x, y and sample_weight must have as many examples each, got {sorted(counts)} along the first axis."
        )
    return data


def split(data: tuple, count: int) -> list[tuple]:
    """A batch in `count` parts with as many examples each; what is left over is left out.

    Raises:
        ValueError: The batch has fewer examples than parts.
    """
    size = next(len(a) for a in keras.tree.flatten(data) if a is not None)
    each = size // count
    if count < 2 or each < 1:
        raise ValueError(
            f"parts must be from 2 to the number of examples in the batch, {size}, got {count!r}."
        )
    return [
        keras.tree.map_structure(
            lambda a, k=k: None if a is None else a[k * each : (k + 1) * each], data
        )
        for k in range(count)
    ]


def index(block: Any, names: Sequence[str]) -> int:
    """The position of a moving block, given by name or position."""
    if isinstance(block, str):
        if block not in names:
            raise ValueError(f"No block named {block!r} moves.{known_names(block, list(names))}")
        return names.index(block)
    number = as_integer(block)
    if number is None or not 0 <= number < len(names):
        raise ValueError(
            f"A moving block is given by its name or its position from 0 to {len(names) - 1}, got {block!r}."
        )
    return number


def _array(value):
    if value is None:
        return None
    array = keras.ops.convert_to_numpy(value) if keras.ops.is_tensor(value) else np.asarray(value)
    return array.astype(keras.backend.floatx()) if np.issubdtype(array.dtype, np.floating) else array


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
