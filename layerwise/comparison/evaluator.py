"""Evaluators: loss and score on every split, off the clock."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend
from layerwise.comparison.arrays import Arrays
from layerwise.comparison.configs import as_text, config_of
from layerwise.comparison.seeds import derive
from layerwise.comparison.streams import Streams
from layerwise.comparison.tasks import Meter, Task, check_labels, checked

CHUNK_ROWS = 4096
CHUNK_BYTES = 16 * 2**20
GROUPS = 20  # of the jackknife
Scores = dict[str, tuple[float, float]]


def evaluator_for(
    source: Arrays | Streams, task: Task, model: keras.Model
) -> "Evaluator | StreamEvaluator":
    """What evaluates a model on arrays or streams."""
    if isinstance(source, Arrays):
        return Evaluator(source, task, model)
    return StreamEvaluator(source, task)


class Evaluators:
    """Keeps the evaluator that was made last for the next model that is measured in the same way.

    An evaluator's programs take predictions: which model they come from, and what trained it, does not matter to them. So
    the cells of a task need to compile them once.
    """

    def __init__(self) -> None:
        self._source: Any = None
        self._key: tuple[Any, ...] = ()
        self._kept: Any = None

    def of(
        self, source: Arrays | Streams, task: Task, model: keras.Model
    ) -> "Evaluator | StreamEvaluator":
        """The evaluator of a model on arrays or streams."""
        measured = as_text([config_of(task.loss), config_of(task.metric)])
        key = measured, model.jit_compile, model.run_eagerly
        if source is not self._source or key != self._key:
            self._source, self._key = source, key
            self._kept = evaluator_for(source, task, model)
        return self._kept


class Evaluator:
    """Scores predictions for all rows of arrays, and averages them over the rows of each split.

    All splits are predicted in one go, in chunks of one size, so that one small program serves them
    all and a seed's own split costs nothing. Another program scores them all. The loss is the compiled loss alone, without
    regularizers: it compares across regularizers, and between a greedy stage and the whole model.

    Args:
        source: The arrays.
        task: The `Task`.
        model: The model whose predictions are scored: programs are compiled as it is.
    """

    def __init__(self, source: Arrays, task: Task, model: keras.Model):
        self.source, self.task = source, task
        self._y, self._weight = (
            None if array is None else keras.ops.convert_to_tensor(array)
            for array in (source.y, source.sample_weight)
        )

        def measured(parts, *given):
            return [task.measured(rows, *given) for rows in parts]

        self._compiled: Callable | None = backend.inference(model, measured, ())
        row_bytes = max(1, sum(a[:1].nbytes for a in keras.tree.flatten(source.x)))
        largest = max(1, min(CHUNK_ROWS, CHUNK_BYTES // row_bytes))
        n = len(source.y)
        count = -(-n // largest)
        size = -(-n // count)
        padded = np.minimum(np.arange(count * size), n - 1)
        self.chunks = [
            keras.tree.map_structure(keras.ops.convert_to_tensor, source.batch(rows)[0])
            for rows in np.split(padded, count)
        ]
        self._last: Any = None
        self._kept: Any = None

    def __call__(self, predict: Callable[[Any], Any], seed: int) -> Scores:
        """`{split: (mean loss, score)}` of what `predict` says of each chunk."""
        found = [keras.ops.convert_to_tensor(predict(chunk)) for chunk in self.chunks]
        predictions = found[0] if len(found) == 1 else keras.ops.concatenate(found)
        splits = self.source.splits(seed)
        self._last = predictions, splits["validation"]
        return dict(zip(splits, self._measure(predictions, list(splits.values())), strict=True))

    def keep(self) -> None:
        """Remembers the evaluation that was just made, for `standard_error`."""
        self._kept = self._last

    def standard_error(self) -> float:
        """The standard error of the validation score of the kept evaluation, by the delete-a-group jackknife (Shao and
        Wu 1989): NaN for fewer than two examples.
        """
        if self._kept is None:
            return np.nan
        predictions, rows = self._kept
        # Rows may lie in the order of their classes.
        mixed = np.random.default_rng(derive("jackknife")).permutation(rows)
        groups = [g for g in np.array_split(mixed, min(GROUPS, len(rows))) if len(g)]
        if len(groups) < 2:
            return np.nan
        left = [np.setdiff1d(rows, group, assume_unique=True) for group in groups]
        scores = [self._measure(predictions, [rows])[0][1] for rows in left]
        return float(np.sqrt((len(groups) - 1) * np.var(scores)))

    def _measure(self, predictions, parts):
        """`(loss, score)` of each of some sets of rows, in one call."""
        if self._compiled is not None:
            try:
                places = [keras.ops.convert_to_tensor(rows.astype("int32")) for rows in parts]
                found = self._compiled(places, self._y, predictions, self._weight)
                return [checked(*pair) for pair in found]
            except Exception:  # a metric of plain Python, which is no part of a program
                self._compiled = None
        y, weights = self.source.y, self.source.sample_weight
        found = np.asarray(keras.ops.convert_to_numpy(predictions), "float32")
        return [
            self.task.measure(y[rows], found[rows], None if weights is None else weights[rows])
            for rows in parts
        ]


class StreamEvaluator:
    """Scores predictions for streams, one batch after another.

    Args:
        source: The streams.
        task: The `Task`.
    """

    def __init__(self, source: Streams, task: Task):
        self.source, self.task = source, task
        self._predict: Any = None
        self._kept = np.nan

    def __call__(self, predict: Callable[[Any], Any], seed: int) -> Scores:
        """`{split: (mean loss, score)}`."""
        self._predict = predict
        found = {}
        for name in self.source.parts:
            meter = Meter(self.task)
            for batch in self._batches(name):
                meter.update(*batch)
            found[name] = meter.result()
        return found

    def keep(self) -> None:
        """Remembers the evaluation that was just made, for `standard_error`: its validation part is read once more, as no
        predictions are kept.
        """
        scores = [self.task.measure(*batch)[1] for batch in self._batches("validation")]
        enough = len(scores) > 1
        self._kept = float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if enough else np.nan

    def standard_error(self) -> float:
        """The standard error of the validation score of the kept evaluation, from the spread of its batches' scores; NaN
        for fewer than two batches.
        """
        return self._kept

    def _batches(self, name):
        for x, y, weight in self.source.evaluation(name):
            predictions = np.asarray(keras.ops.convert_to_numpy(self._predict(x)), "float32")
            if type(self.task.loss).__name__.startswith("Sparse"):
                check_labels(self.task.loss, y, predictions.shape[-1])
            yield y, predictions, weight
