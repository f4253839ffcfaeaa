"""Streams: data that is read batch by batch, larger than memory."""

import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from layerwise.comparison.arrays import checked_part
from layerwise.comparison.seeds import derive

LEAST_BATCHES, MOST_ROWS = 20, 256  # of arrays beside streams


class Streams:
    """Three parts as streams of batches.

    Args:
        parts: `{"train": stream or (seed, epoch) -> stream, "validation": stream, "test": stream}`; the last two may be
            arrays, as `(x, y)` or `(x, y, sample_weight)`.

    Raises:
        TypeError: A part is neither.
        ValueError: A stream is endless or of unknown length, its first batch differs when it is looked at again, or the
            training batches differ in size.
    """

    def __init__(self, parts: Mapping[str, Any]):
        self.parts = {
            name: Batches(name, part) if isinstance(part, (tuple, list)) else part
            for name, part in parts.items()
        }
        self._batches, self._firsts = {}, {}
        for name, part in self.parts.items():
            if callable(part) and not isinstance(part, keras.utils.PyDataset):
                if name != "train":
                    raise TypeError(
                        f"Data({name}=...) must be the same in every run: give a stream, not a callable."
                    )
                part = part(0, 0)
            self._batches[name] = _length(name, part)
            first, again = next(_read(part)), next(_read(part))
            if not _same(first, again):
                raise ValueError(
                    f"Data({name}=...) gives another first batch when it is looked at again: it shuffles or augments by "
                    "itself, and runs would not be paired. Give train as a callable (seed, epoch) -> dataset that depends "
                    "on nothing else, and the other parts in a fixed order."
                )
            self._firsts[name] = first
        self.batch_size = len(self._firsts["train"][1])
        train = self._stream("train", 0, 0)
        if isinstance(train, keras.utils.PyDataset):
            last = len(_triple(train[len(train) - 1])[1])
        else:
            last = keras.tree.flatten(train.element_spec)[0].shape[0]
        if last != self.batch_size:
            raise ValueError(
                f"The training batches must all have {self.batch_size} examples, as the first; the last has "
                f"{last or 'any number'}. Leave it out (tf.data: batch(..., drop_remainder=True))."
            )

    @functools.cached_property
    def sizes(self) -> dict[str, int]:
        """`{split: number of examples}`, from the number of batches and the size of the first."""
        return {
            name: len(part.part[1])
            if isinstance(part, Batches)
            else self._batches[name] * len(self._firsts[name][1])
            for name, part in self.parts.items()
        }

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of each part's length and first batch; of every value where a part is arrays."""
        digest = hashlib.sha256(repr(sorted(self._batches.items())).encode())
        for name, first in self._firsts.items():
            part = self.parts[name]
            for array in keras.tree.flatten(part.part if isinstance(part, Batches) else first):
                if array is not None:
                    digest.update(f"{array.shape}{array.dtype}".encode())
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def first(self, n: int) -> tuple[Any, Any, Any]:
        """`(x, y, sample_weight or None)` of the first n examples of the first training batch."""
        return keras.tree.map_structure(
            lambda array: None if array is None else array[:n], self._firsts["train"]
        )

    def targets(self) -> np.ndarray:
        """The targets of the first training batch."""
        return self._firsts["train"][1]

    def steps(self, batch_size: int) -> int:
        """Batches of an epoch.

        Raises:
            ValueError: `batch_size` is not that of the stream.
        """
        if batch_size != self.batch_size:
            raise ValueError(
                f"The training stream brings batches of {self.batch_size} examples, batch_size is {batch_size}: pass "
                f"batch_size={self.batch_size}."
            )
        return self._batches["train"]

    def training(self, seed: int, batch_size: int) -> Iterator[tuple[Any, ...]]:
        """Training batches without end, epoch after epoch."""
        epoch = 0
        while True:
            stream = self._stream("train", seed, epoch)
            order = None
            if isinstance(stream, keras.utils.PyDataset) and not callable(self.parts["train"]):
                order = np.random.default_rng(derive("order", seed, epoch)).permutation(len(stream))
            for x, y, weight in _read(stream, order):
                yield (x, y) if weight is None else (x, y, weight)
            epoch += 1

    def evaluation(self, name: str) -> Iterator[tuple[Any, Any, Any]]:
        """The batches of a part, in their own order, as `(x, y, sample_weight or None)`."""
        return _read(self._stream(name, 0, 0))

    def check_workers(self) -> None:
        """Raises ValueError where a stream cannot be sent to another process."""
        for name, part in self.parts.items():
            if not isinstance(part, keras.utils.PyDataset) and not callable(part):
                raise ValueError(
                    f"Data({name}=...) is a {type(part).__name__}, which cannot be sent to other processes: use jobs=1, or "
                    "keras.utils.PyDataset."
                )

    def _stream(self, name, seed, epoch):
        part = self.parts[name]
        is_factory = callable(part) and not isinstance(part, keras.utils.PyDataset)
        return part(seed, epoch) if is_factory else part

    def __str__(self) -> str:
        sizes = ", ".join(f"{size:,} {name}" for name, size in self.sizes.items())
        shapes = keras.tree.map_structure(lambda array: array.shape[1:], self._firsts["train"][0])
        return f"{sizes}, x {shapes}, streams"


class Batches(keras.utils.PyDataset):
    """Arrays to evaluate on as batches, of which there are enough to tell how certain their mean score is.

    Args:
        name: Of the part.
        part: `(x, y)` or `(x, y, sample_weight)`.
    """

    def __init__(self, name: str, part: Any):
        super().__init__()
        self.part = checked_part(name, part)
        self.size = max(1, min(MOST_ROWS, len(self.part[1]) // LEAST_BATCHES))

    def __len__(self) -> int:
        return -(-len(self.part[1]) // self.size)

    def __getitem__(self, place: int) -> tuple[Any, ...]:
        rows = slice(place * self.size, (place + 1) * self.size)
        return keras.tree.map_structure(lambda array: array[rows], self.part)


def _read(stream, order=None):
    """Batches as `(x, y, sample_weight or None)` of NumPy arrays."""
    if isinstance(stream, keras.utils.PyDataset):
        for place in range(len(stream)) if order is None else order:
            yield _triple(stream[int(place)])
        return
    for element in stream:
        yield _triple(element)


def _triple(element):
    if not isinstance(element, (tuple, list)) or len(element) not in (2, 3):
        raise ValueError(
            f"A stream's elements must be (x, y) or (x, y, sample_weight), got {type(element).__name__}."
        )
    x, y, *weight = keras.tree.map_structure(
        lambda value: np.asarray(keras.ops.convert_to_numpy(value)), tuple(element)
    )
    return x, y, weight[0] if weight else None


def _length(name, part):
    if isinstance(part, keras.utils.PyDataset):
        count = part.num_batches
    elif hasattr(part, "cardinality") and hasattr(part, "element_spec"):
        count = int(part.cardinality())
    else:
        raise TypeError(
            f"Data({name}=...) must be a pair (x, y), a triple (x, y, sample_weight), a keras.utils.PyDataset or a "
            f"tf.data.Dataset, got {type(part).__name__}."
        )
    if count is None or count < 1:
        raise ValueError(
            f"Data({name}=...) must have a known number of batches of at least one, got {count}. For a tf.data.Dataset, "
            "take(n) or tf.data.experimental.assert_cardinality(n)."
        )
    return count


def _same(left, right):
    arrays = zip(keras.tree.flatten(left), keras.tree.flatten(right), strict=True)
    return all((a is None and b is None) or np.array_equal(a, b) for a, b in arrays)
