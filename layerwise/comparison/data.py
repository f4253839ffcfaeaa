"""Data: what models are trained, tuned and tested on, in three parts."""

import dataclasses
from typing import Any

from layerwise.comparison.arrays import Arrays
from layerwise.comparison.streams import Streams

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """What models are trained, tuned and tested on.

    Each part is `(x, y)` or `(x, y, sample_weight)`, as arrays. For data larger than memory `train` is a stream, and the
    other parts are streams or arrays: a `keras.utils.PyDataset` or a `tf.data.Dataset` whose elements are such pairs or
    triples of batches.

    Arrays: an epoch meets the examples in an order that depends on the run's seed and the epoch alone. A `PyDataset` is
    read by index: its *batches* come in such an order. A `tf.data.Dataset` comes in its own order, which must be the same
    each time; for a fresh order, or random augmentation, give `train` as a callable `(seed, epoch) -> dataset` that
    depends on nothing else. Streams bring their own batches, all of one size in `train`.

    Args:
        train: What gradients are computed on. `x` is an array of shape `(examples, ...)`, or a list or dict of arrays for
            a model with several inputs; `y` an array of shape `(examples, ...)`: class labels, one-hot rows, numbers, or
            tokens; `sample_weight` of shape `(examples,)` or `(examples, ...)`, as `fit` takes it; it weighs losses and
            scores, and is 1 in parts without.
        validation: What settings, targets and best epochs are chosen on: the same examples in every run.
        test: What is reported and never used to choose.
        folds: Where the validation part is small: train and validation together are divided into so many parts, in the
            same proportions of classes; the run of seed s validates on part `s % folds` and trains on the others, under
            every schedule. The test part stays. For arrays.

    Raises:
        ValueError: If a part is neither, is empty, differs in length between x and y or in shape or structure from the
            others, or holds NaN; or a stream shuffles by itself.

    Example:
    >>> import layerwise, numpy as np
    >>> part = lambda n: (np.zeros((n, 4), "float32"), np.arange(n) % 2)
    >>> data = layerwise.Data(train=part(60), validation=part(20), test=part(20), folds=4)
    >>> data
    Data(60 train, 20 validation, 20 test, x (4,), 4 folds)
    >>> {name: len(rows) for name, rows in data.source.splits(seed=0).items()}
    {'train': 60, 'validation': 20, 'test': 20}
    """

    train: Any
    validation: Any
    test: Any
    folds: int | None = None
    source: Any = dataclasses.field(init=False, repr=False)

    def __post_init__(self):
        parts = {name: getattr(self, name) for name in SPLITS}
        if isinstance(self.train, (tuple, list)):
            object.__setattr__(self, "source", Arrays(parts, self.folds))
        elif self.folds is not None:
            raise ValueError(
                f"folds={self.folds!r} divides arrays; streams are divided by you: leave it out."
            )
        else:
            object.__setattr__(self, "source", Streams(parts))

    @property
    def sizes(self) -> dict[str, int]:
        """`{split: number of examples}`."""
        return self.source.sizes

    @property
    def fingerprint(self) -> str:
        """A hash of arrays' every value, shape and type; of a stream's length, shapes and first batch."""
        return self.source.fingerprint

    def sample(self) -> tuple[Any, Any]:
        """`(x, y)` of a few training examples."""
        x, y, _ = self.source.first(16)
        return x, y

    def targets(self) -> Any:
        """The targets that are at hand: all of arrays, a stream's first batch."""
        return self.source.targets()

    def __repr__(self) -> str:
        return f"Data({self.source})"
