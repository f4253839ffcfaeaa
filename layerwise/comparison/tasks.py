"""Task: what a comparison measures of a model: a loss, a metric, and which direction of it is better."""

import dataclasses
from typing import Any

import keras
import numpy as np

from layerwise.backends import internals
from layerwise.comparison.metrics import direction_of, metric_for


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """What is descended, and what is scored.

    Args:
        loss: The Keras loss that training descends, regularizers apart.
        metric: The Keras metric that the score is.
        name: What the frames call the metric.
        direction: "max" where more of it is better, "min" where less is.

    Example:
    >>> import keras, layerwise, numpy as np
    >>> from layerwise.comparison.tasks import Task
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> part = np.ones((8, 4), "float32"), np.linspace(0, 3, 8)
    >>> task = Task.of(model, layerwise.Data(part, part, part))
    >>> task.name, task.direction, task.loss.name
    ('mean_absolute_error', 'min', 'mean_squared_error')
    """

    loss: keras.losses.Loss
    metric: keras.metrics.Metric
    name: str
    direction: str

    @classmethod
    def of(cls, model: keras.Model, data: Any, loss: Any = None, metric: Any = None) -> "Task":
        """The task that fits a model's outputs and the targets, or the one that was named.

        Integer labels below the number of outputs: cross-entropy and accuracy; of sequences (a label for each place of a
        row): perplexity. One-hot rows: likewise. One unit and targets 0 or 1, or rows of several of them: binary
        cross-entropy and binary accuracy, of each label. Other numbers: squared error and mean absolute error. Outputs
        that are no probabilities are taken for logits.

        Args:
            model: A built model with one output of shape `(examples, ..., outputs)`.
            data: A `Data`.
            loss: A Keras loss, its name, or a function `(y, predictions) -> losses`; `None`: what fits.
            metric: A Keras metric, its name (also "accuracy", of whichever kind fits, and "perplexity"), or a function
                `(y, predictions) -> values`; `None`: what fits.

        Raises:
            ValueError: Where nothing fits or what was named does not fit: the message says what to do.
            TypeError: For a loss or metric that is none.
        """
        x, y = data.sample()
        outputs = model(x)
        if len(keras.tree.flatten(outputs)) != 1:
            raise ValueError(
                f"A comparison scores one output, the model has {len(keras.tree.flatten(outputs))}: let models() return a "
                "model with the output that matters."
            )
        if internals.mask(keras.tree.flatten(outputs)[0]) is not None:
            raise ValueError(
                "The model's output carries a mask (of Embedding(mask_zero=True) or Masking), which losses heed and "
                "metrics do not: build the model without it, and give padding the sample weight 0: "
                "Data(train=(x, y, weights), ...)."
            )
        predictions = np.asarray(keras.ops.convert_to_numpy(outputs), "float32")
        given = None if loss is None else loss_of(loss)
        probabilities = _are_probabilities(model, predictions)
        kind = _kind(given, predictions, y, data.targets())
        _check_targets(kind, given, predictions, y, data.targets())
        fitting = given or _loss_for(kind, probabilities)
        from_logits = getattr(fitting, "from_logits", None)
        if kind != "numbers" and from_logits is False and not probabilities:
            raise ValueError(
                f"The loss {fitting.name!r} takes probabilities, and the model's outputs are none (a linear last layer, or "
                f"values from {predictions.min():.3g} to {predictions.max():.3g}). Let the model end in a sigmoid or "
                f"softmax, or pass loss=keras.losses.{type(fitting).__name__}(from_logits=True), or loss=None."
            )
        sequences = kind == "labels" and predictions.ndim == 3
        made = metric_for(metric, kind, sequences, not probabilities)
        task = cls(fitting, made, made.name, direction_of(made))
        try:
            values = task.measure(y, predictions)
        except Exception as error:
            raise ValueError(
                f"The loss {fitting.name!r} and the metric {made.name!r} do not take predictions of shape "
                f"{predictions.shape} and targets of shape {y.shape}: {' '.join(str(error).split())[:300]}"
            ) from error
        if np.ndim(values[1]):
            raise ValueError(
                f"The metric {made.name!r} gives several numbers, and a score is one: choose an average, such as "
                "average='macro'."
            )
        return task

    @property
    def sign(self) -> int:
        """1 where a greater score is better, -1 where a smaller one is."""
        return 1 if self.direction == "max" else -1

    def measure(self, y: Any, predictions: Any, sample_weight: Any = None) -> tuple[float, float]:
        """`(loss, score)` of predictions, as Keras' `evaluate` gives them; `sample_weight` weighs both."""
        meter = Meter(self)
        meter.update(y, predictions, sample_weight)
        return meter.result()

    def measured(self, rows: Any, y: Any, predictions: Any, sample_weight: Any = None) -> tuple:
        """Loss and score of some rows as tensors, for a program: `checked` makes of them what `measure` gives."""
        y, predictions, weight = (
            None if given is None else keras.ops.take(given, rows, axis=0)
            for given in (y, predictions, sample_weight)
        )
        predictions = keras.ops.cast(predictions, "float32")
        if np.prod(y.shape[1:]) == np.prod(predictions.shape[1:]):
            y = keras.ops.reshape(y, (-1, *predictions.shape[1:]))
        loss = self.loss(y, predictions, sample_weight=weight)
        state = self.metric.stateless_reset_state()
        state = self.metric.stateless_update_state(state, y, predictions, sample_weight=weight)
        finite = ~keras.ops.any(keras.ops.isnan(predictions))
        loss = keras.ops.where(finite, loss, float("nan"))
        return loss, self.metric.stateless_result(state)


def checked(loss: Any, score: Any) -> tuple[float, Any]:
    """Loss and score as plain numbers; where the loss is not finite, there is no score: NaN."""
    loss = float(loss)
    if not np.isfinite(loss):
        return loss, float("nan")
    score = np.asarray(keras.ops.convert_to_numpy(score), "float64")
    return loss, score.item() if score.size == 1 else score.tolist()


class Meter:
    """Loss and score over one batch after another: batches count in the loss by their number of examples, as in Keras.

    Predictions that hold NaN, and those whose loss is not finite, have no score: NaN.
    """

    def __init__(self, task: Task):
        self._task, self._total, self._count = task, 0.0, 0
        task.metric.reset_state()

    def update(self, y: Any, predictions: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        if np.size(y) == np.size(predictions):
            y = np.reshape(y, np.shape(predictions))  # (n,) and (n, 1) would be broadcast
        value = self._task.loss(y, predictions, sample_weight=sample_weight)
        self._total += float(value) * len(y)
        self._count += len(y)
        if np.isnan(predictions).any():
            self._total = float("nan")
        if np.isfinite(self._total):
            self._task.metric.update_state(y, predictions, sample_weight=sample_weight)

    def result(self) -> tuple[float, float]:
        """`(loss, score)` of all batches so far."""
        loss = self._total / max(1, self._count)
        return checked(loss, self._task.metric.result())


class FunctionLoss(keras.losses.Loss):
    """A function `(y, predictions) -> losses` as a Keras loss."""

    def __init__(self, function: Any):
        super().__init__(name=getattr(function, "__name__", "loss"))
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        one = y_pred.shape[-1:] == (1,)
        if one and len(y_true.shape) == len(y_pred.shape) - 1:  # else they would be broadcast
            y_true = keras.ops.expand_dims(y_true, -1)
        return self.function(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        return {"function": f"{self.function.__module__}.{self.function.__qualname__}"}


def loss_of(loss: Any) -> keras.losses.Loss:
    """A Keras loss from its name, a function or the loss itself.

    Raises:
        ValueError: There is no loss of that name.
        TypeError: It is none of these.
    """
    if isinstance(loss, keras.losses.Loss):
        return loss
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError as error:
            raise ValueError(
                f"loss must be the name of a Keras loss, such as 'mse', got {loss!r}."
            ) from error
        if isinstance(loss, keras.losses.Loss):
            return loss
    if isinstance(loss, type) and issubclass(loss, keras.losses.Loss):
        return loss()
    if not callable(loss):
        raise TypeError(f"loss must be a Keras loss, its name or a function, got {loss!r}.")
    classes = {
        name.lower(): found
        for name, found in vars(keras.losses).items()
        if isinstance(found, type) and issubclass(found, keras.losses.Loss)
    }
    stock = getattr(loss, "__module__", "").startswith("keras")
    name = getattr(loss, "__name__", "").replace("_", "").lower()
    return classes[name]() if stock and name in classes else FunctionLoss(loss)


def _kind(loss, predictions, y, targets):
    """How predictions and targets go together: "labels", "one_hot", "binary" or "numbers"."""
    name = type(loss).__name__
    if name.startswith("Sparse"):
        return "labels"
    if name.startswith("Binary"):
        return "binary"
    if name.startswith("Categorical"):
        return "one_hot"
    outputs = predictions.shape[-1] if predictions.ndim > 1 else 1
    whole = np.issubdtype(y.dtype, np.integer) or y.dtype == bool
    if outputs > 1 and whole and y.size == predictions.size // outputs:
        return "labels"
    if y.size != predictions.size:
        raise ValueError(
            f"No loss fits outputs of shape {predictions.shape} and targets of shape {y.shape} and type {y.dtype}. A model "
            "needs an output for each class and integer labels or one-hot rows, or an output for each target; or pass "
            "loss=... and metric=... to compare()."
        )
    values = np.asarray(targets)
    if outputs > 1 and (values >= 0).all() and np.allclose(values.sum(axis=-1), 1):
        return "one_hot"
    two = np.isin(values, (0, 1)).all()
    return "binary" if two and loss is None else "numbers"


def _check_targets(kind, loss, predictions, y, targets):
    outputs = predictions.shape[-1] if predictions.ndim > 1 else 1
    named = "" if loss is None else f" The loss {loss.name!r} was given."
    stock = type(loss).__module__.startswith("keras")  # a function may take labels as it likes
    dense = kind != "labels" or (stock and not type(loss).__name__.startswith("Sparse"))
    if dense and y.size != predictions.size:
        raise ValueError(
            f"The targets have shape {y.shape}, the model's outputs {predictions.shape}: give a target for each "
            f"output.{named}"
        )
    if kind != "labels":
        return
    if outputs < 2 or y.size != predictions.size // outputs:
        raise ValueError(
            f"Labels of shape {y.shape} and type {y.dtype} do not fit outputs of shape {predictions.shape}: give an "
            f"integer label for each row, and an output for each class.{named}"
        )
    check_labels(loss, targets, outputs)


def check_labels(loss: Any, labels: Any, outputs: int) -> None:
    """Raises ValueError for labels that no output stands for; what a loss is told to ignore (`ignore_class`) is none."""
    labels = np.asarray(labels)
    wrong = labels[
        ((labels < 0) | (labels >= outputs)) & (labels != getattr(loss, "ignore_class", None))
    ]
    if wrong.size:
        raise ValueError(
            f"The targets hold the label {wrong.flat[0]}, the model has {outputs} outputs: labels run from 0 to the number "
            "of outputs less one."
        )


def _loss_for(kind, probabilities):
    if kind == "numbers":
        return keras.losses.MeanSquaredError()
    losses = {
        "labels": keras.losses.SparseCategoricalCrossentropy,
        "one_hot": keras.losses.CategoricalCrossentropy,
        "binary": keras.losses.BinaryCrossentropy,
    }
    return losses[kind](from_logits=not probabilities)


def _are_probabilities(model, predictions):
    """Whether outputs are probabilities: by the last layer's activation, else by their values."""
    last = model.layers[-1] if model.layers else None
    activation = getattr(last, "activation", None)
    if activation in (keras.activations.sigmoid, keras.activations.softmax):
        return True
    if activation is keras.activations.linear or not predictions.any():
        return False  # all zero: a head that begins with zeros
    return bool((predictions >= 0).all() and (predictions <= 1).all())
