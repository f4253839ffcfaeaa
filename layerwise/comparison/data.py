"""Data: arrays in three parts, and how they are split for a seed."""

import dataclasses
import functools
import hashlib
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from layerwise.comparison.seeds import derive

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What models are trained, tuned and tested on.

    Args:
        train: `(x, y)` that gradients are computed on. `x` is an array of shape `(examples, ...)`,
            or a list or dict of arrays for a model with several inputs; `y` holds class labels
            `(examples,)` or one-hot rows.
        validation: `(x, y)` that learning rates, targets and best epochs are chosen on.
        test: `(x, y)` that is reported and never used to choose.
        resplit: Whether each seed draws train and validation anew from the two together, in the
            same sizes and, for the same proportions of classes, so that intervals include the luck
            of the split. The test part stays.

    Raises:
        ValueError: If a part is no pair, is empty, differs in length between x and y or in shape or
            structure from the others, or holds NaN.

    Example:
    >>> import layerwise, numpy as np
    >>> part = lambda n: (np.zeros((n, 4), "float32"), np.arange(n) % 2)
    >>> data = layerwise.Data(train=part(60), validation=part(20), test=part(20), resplit=True)
    >>> data
    Data(60 train, 20 validation, 20 test, x (4,), resplit)
    >>> splits = data.splits(seed=0)
    >>> {name: len(rows) for name, rows in splits.items()}
    {'train': 60, 'validation': 20, 'test': 20}
    """

    train: tuple[Any, Any]
    validation: tuple[Any, Any]
    test: tuple[Any, Any]
    resplit: bool = False

    def __post_init__(self):
        for name in SPLITS:
            part = getattr(self, name)
            if not isinstance(part, (tuple, list)) or len(part) != 2:
                raise ValueError(
                    f"Data({name}=...) must be a pair (x, y), got {type(part).__name__}."
                )
            x, y = keras.tree.map_structure(np.asarray, part[0]), np.asarray(part[1])
            object.__setattr__(self, name, (x, y))
            _check_part(name, x, y)
        shapes = {name: _shapes(getattr(self, name)) for name in SPLITS}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "The parts of Data must have the same shapes but for the number of examples, got "
                f"{shapes}."
            )

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """`{split: number of examples}`."""
        return {name: len(getattr(self, name)[1]) for name in SPLITS}

    @functools.cached_property
    def x(self) -> Any:
        """The inputs of all three parts, one after another: an array, or a list or dict of them."""
        parts = [getattr(self, name)[0] for name in SPLITS]
        return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)

    @functools.cached_property
    def y(self) -> np.ndarray:
        """The targets of all three parts, one after another."""
        return np.concatenate([getattr(self, name)[1] for name in SPLITS])

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of every value, shape and type."""
        digest = hashlib.sha256(repr((self.sizes, self.resplit)).encode())
        for array in [*keras.tree.flatten(self.x), self.y]:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def batch(self, rows: np.ndarray | slice) -> tuple[Any, np.ndarray]:
        """`(x, y)` of some rows of `x` and `y`."""
        return keras.tree.map_structure(lambda array: array[rows], self.x), self.y[rows]

    def splits(self, seed: int) -> dict[str, np.ndarray]:
        """`{split: rows of x and y}` for a seed: the same for whoever asks."""
        rows = np.arange(len(self.y))
        train, validation, test = np.split(rows, np.cumsum(list(self.sizes.values()))[:2])
        if self.resplit:
            both = np.concatenate([train, validation])
            train, validation = train_test_split(
                both,
                test_size=len(validation),
                stratify=_labels(self.y[both]),
                random_state=derive("split", seed),
            )
        return {"train": train, "validation": validation, "test": test}

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        state.pop("x", None)  # the parts again: a worker puts them together itself
        return state

    def __repr__(self) -> str:
        sizes = ", ".join(f"{size:,} {name}" for name, size in self.sizes.items())
        shapes = keras.tree.map_structure(lambda array: array.shape[1:], self.train[0])
        return f"Data({sizes}, x {shapes}{', resplit' if self.resplit else ''})"


def _labels(y):
    """The class of each example."""
    return y.argmax(axis=1) if y.ndim == 2 and y.shape[1] > 1 else y.reshape(len(y))


def _check_part(name, x, y):
    arrays = keras.tree.flatten(x)
    lengths = {len(array) if array.ndim else 0 for array in [*arrays, y]}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"Data({name}=(x, y)) needs as many rows in x as in y, and at least one; got x of "
            "shape "
            f"{[array.shape for array in arrays]} and y of shape {y.shape}."
        )
    for array in [*arrays, y]:
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(
                f"Data({name}=...) holds values that are NaN or infinite. Remove those examples or "
                "fill them in."
            )


def _shapes(part):
    return str(keras.tree.map_structure(lambda array: array.shape[1:], part))
