"""Arrays: data in memory, its rows, and how they are divided for a seed."""

import functools
import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from sklearn.model_selection import KFold, StratifiedKFold

from layerwise.comparison.seeds import derive


class Arrays:
    """Three parts as arrays.

    Args:
        parts: `{"train": (x, y) or (x, y, sample_weight), "validation": ..., "test": ...}`.
        folds: See `Data`.
    """

    def __init__(self, parts: Mapping[str, Any], folds: int | None):
        self.parts = _with_weights({name: checked_part(name, part) for name, part in parts.items()})
        self.folds = folds
        shapes = {name: _shapes(part) for name, part in self.parts.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(
                "The parts of Data must have the same shapes but for the number of examples, got "
                f"{shapes}."
            )
        if folds is not None and (isinstance(folds, bool) or not isinstance(folds, int)):
            raise ValueError(f"folds must be None or an int of at least 2, got {folds!r}.")
        if folds is not None and not 2 <= folds <= len(self._both):
            raise ValueError(
                f"folds must lie between 2 and the {len(self._both)} examples, got {folds}."
            )

    @functools.cached_property
    def lengths(self) -> dict[str, int]:
        """`{split: examples}` as they were given."""
        return {name: len(part[1]) for name, part in self.parts.items()}

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """`{split: number of examples}`; of the smallest where folds differ by a few."""
        if self.folds is None:
            return self.lengths
        return {
            "train": min(len(train) for train, _ in self._folds),
            "validation": min(len(validation) for _, validation in self._folds),
            "test": self.lengths["test"],
        }

    @functools.cached_property
    def x(self) -> Any:
        """The inputs of all three parts, one after another: an array, or a list or dict of them."""
        return self._all(0)

    @functools.cached_property
    def y(self) -> np.ndarray:
        """The targets of all three parts, one after another."""
        return self._all(1)

    @functools.cached_property
    def sample_weight(self) -> np.ndarray | None:
        """The weights of all three parts, one after another; `None` where there are none."""
        return self._all(2) if len(self.parts["train"]) == 3 else None

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of every value, shape and type."""
        digest = hashlib.sha256(repr((self.lengths, self.folds)).encode())
        weights = [] if self.sample_weight is None else [self.sample_weight]
        for array in [*keras.tree.flatten(self.x), self.y, *weights]:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def batch(self, rows: np.ndarray | slice) -> tuple[Any, ...]:
        """`(x, y)` of some rows, or `(x, y, sample_weight)` where there are weights."""
        x = keras.tree.map_structure(lambda array: array[rows], self.x)
        weights = () if self.sample_weight is None else (self.sample_weight[rows],)
        return x, self.y[rows], *weights

    def first(self, n: int) -> tuple[Any, Any, Any]:
        """`(x, y, sample_weight or None)` of the first n training rows."""
        x, y, *weights = self.batch(slice(0, n))
        return x, y, weights[0] if weights else None

    def targets(self) -> np.ndarray:
        """All targets."""
        return self.y

    def splits(self, seed: int) -> dict[str, np.ndarray]:
        """`{split: rows of x and y}` for a seed: the same for whoever asks."""
        ends = np.cumsum(list(self.lengths.values()))[:2]
        train, validation, test = np.split(np.arange(len(self.y)), ends)
        if self.folds is not None:
            train, validation = self._folds[seed % self.folds]
        return {"train": train, "validation": validation, "test": test}

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch, whole ones only: which examples are left over changes with the order."""
        return self.sizes["train"] // batch_size

    def epochs(self, seed: int, batch_size: int) -> Iterator[np.ndarray]:
        """The rows of each epoch's batches, `(batches, batch_size)`, without end.

        An epoch's order depends on the seed and the epoch alone.
        """
        rows, shape = self.splits(seed)["train"], (self.steps(batch_size), batch_size)
        for epoch in itertools.count():
            order = np.random.default_rng(derive("order", seed, epoch)).permutation(rows)
            yield order[: shape[0] * shape[1]].reshape(shape).astype("int32")

    def training(self, seed: int, batch_size: int) -> Iterator[tuple[Any, ...]]:
        """Training batches without end."""
        for epoch in self.epochs(seed, batch_size):
            for rows in epoch:
                yield self.batch(rows)

    @functools.cached_property
    def nbytes(self) -> int:
        """The bytes of all values."""
        return sum(array.nbytes for array in keras.tree.flatten(self.batch(slice(None))))

    @functools.cached_property
    def _both(self):
        return np.arange(self.lengths["train"] + self.lengths["validation"])

    @functools.cached_property
    def _folds(self):
        y, state = self.y[self._both], {"shuffle": True, "random_state": derive("folds")}
        classes = _classes(y)
        counts = np.bincount(classes) if classes is not None else np.zeros(1, int)
        if counts.any() and counts[counts > 0].min() >= (self.folds or 0):
            return list(StratifiedKFold(self.folds, **state).split(self._both, classes))
        return list(KFold(self.folds, **state).split(self._both))

    def _all(self, place):
        parts = [part[place] for part in self.parts.values()]
        return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *parts)

    def __getstate__(self) -> dict[str, Any]:
        # The parts again: a worker puts them together itself.
        return {"parts": self.parts, "folds": self.folds}

    def __str__(self) -> str:
        sizes = ", ".join(f"{size:,} {name}" for name, size in self.lengths.items())
        shapes = keras.tree.map_structure(lambda array: array.shape[1:], self.parts["train"][0])
        folds = "" if self.folds is None else f", {self.folds} folds"
        return f"{sizes}, x {shapes}{folds}"


def is_one_hot(y: np.ndarray) -> bool:
    """Whether targets are rows of a one among zeros."""
    return bool(y.ndim == 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def _classes(y):
    """The class of each example; None where targets are no classes."""
    if y.ndim == 2 and y.shape[1] > 1:
        return y.argmax(axis=1) if is_one_hot(y) else None
    whole = np.issubdtype(y.dtype, np.integer) and y.size == len(y) and y.min() >= 0
    return y.reshape(len(y)) if whole else None


def checked_part(name: str, part: Any) -> tuple[Any, ...]:
    """A part of `Data` as `(x, y)` or `(x, y, sample_weight)` of arrays.

    Raises:
        ValueError: It is no such pair or triple, its lengths differ, or it holds values that are not finite.
    """
    if not isinstance(part, (tuple, list)) or len(part) not in (2, 3):
        raise ValueError(
            f"Data({name}=...) must be a pair (x, y) or a triple (x, y, sample_weight), got {type(part).__name__}; a "
            "stream may stand here where train is one, too."
        )
    x, y, *weights = part
    if isinstance(y, (dict, list)) and y and np.ndim(next(iter(keras.tree.flatten(y)))) > 0:
        raise ValueError(
            f"Data({name}=(x, y)) takes one array of targets, got {type(y).__name__}: a comparison scores one output."
        )
    x, y = keras.tree.map_structure(np.asarray, x), np.asarray(y)
    weights = [np.asarray(weight, "float32") for weight in weights if weight is not None]
    arrays = keras.tree.flatten(x)
    lengths = {len(array) if array.ndim else 0 for array in [*arrays, y, *weights]}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"Data({name}=(x, y)) needs as many rows in x as in y, and at least one; got x of "
            f"shape {[array.shape for array in arrays]} and y of shape {y.shape}"
            f"{', and weights of shape ' + str(weights[0].shape) if weights else ''}."
        )
    for array in [*arrays, y, *weights]:
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise ValueError(
                f"Data({name}=...) holds values that are NaN or infinite. Remove those examples or "
                "fill them in."
            )
    return (x, y, *weights)


def _with_weights(parts):
    """The parts; where some have sample weights, all: those of the others are 1."""
    given = [part[2].shape[1:] for part in parts.values() if len(part) == 3]
    if not given:
        return parts
    return {
        name: part if len(part) == 3 else (*part, np.ones((len(part[1]), *given[0]), "float32"))
        for name, part in parts.items()
    }


def _shapes(part):
    return str(keras.tree.map_structure(lambda array: array.shape[1:], part))
