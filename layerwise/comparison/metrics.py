"""The metrics that scores are: what a name means for a kind of targets, and which direction is better."""

import re
from typing import Any

import keras

# Names of Keras' classes. Public, unlike the direction that Keras' own metrics carry.
_MORE = {
    *("Accuracy", "BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"),
    *("TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy", "AUC", "Precision", "Recall"),
    *("SensitivityAtSpecificity", "SpecificityAtSensitivity", "PrecisionAtRecall"),
    *("RecallAtPrecision", "TruePositives", "TrueNegatives", "F1Score", "FBetaScore", "IoU"),
    *("BinaryIoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "R2Score", "CosineSimilarity"),
    *("PearsonCorrelation", "ConcordanceCorrelation"),
}
_LESS = {
    *("MeanSquaredError", "RootMeanSquaredError", "MeanAbsoluteError", "LogCoshError"),
    *("MeanAbsolutePercentageError", "MeanSquaredLogarithmicError", "Hinge", "SquaredHinge"),
    *("CategoricalHinge", "KLDivergence", "Poisson", "BinaryCrossentropy"),
    *("CategoricalCrossentropy", "SparseCategoricalCrossentropy", "FalsePositives"),
    *("FalseNegatives", "Perplexity"),
}
_ACCURACY = {
    "labels": keras.metrics.SparseCategoricalAccuracy,
    "one_hot": keras.metrics.CategoricalAccuracy,
}


@keras.saving.register_keras_serializable("layerwise")
class Perplexity(keras.metrics.SparseCategoricalCrossentropy):
    """The exponential of the mean cross-entropy of tokens: how many equally likely tokens would be as hard to guess.

    Args:
        name: What frames call it.
        dtype: As for every Keras metric.
        from_logits: Whether predictions are logits.
        axis: Of the classes.

    Example:
    >>> import numpy as np
    >>> from layerwise.comparison.metrics import Perplexity
    >>> metric = Perplexity(from_logits=True)
    >>> metric.update_state(np.array([[0, 3]]), np.zeros((1, 2, 4)))
    >>> round(float(metric.result()), 4)
    4.0
    """

    def __init__(
        self,
        name: str = "perplexity",
        dtype: Any = None,
        from_logits: bool = False,
        axis: int = -1,
    ):
        super().__init__(name=name, dtype=dtype, from_logits=from_logits, axis=axis)

    def result(self) -> Any:
        return keras.ops.exp(super().result())


def metric_for(metric: Any, kind: str, sequences: bool, from_logits: bool) -> keras.metrics.Metric:
    """A metric from its name, a function, the metric itself, or from the kind of the targets.

    Args:
        metric: What was named; `None`: what fits.
        kind: "labels", "one_hot", "binary" or "numbers".
        sequences: Whether each example has a label for each place.
        from_logits: Whether outputs are logits: a named metric is told so, or takes 0 for its threshold.

    Raises:
        ValueError: There is no metric of that name, or accuracy is asked for where targets are numbers.
        TypeError: It is none of these.
    """
    if isinstance(metric, keras.metrics.Metric):
        return _anew(metric)
    if metric is None:
        metric = "mean_absolute_error" if kind == "numbers" else "accuracy"
        metric = "perplexity" if sequences else metric
    if isinstance(metric, type) and issubclass(metric, keras.metrics.Metric):
        if not _is_stock(metric):
            return metric()
        metric = metric.__name__
    if isinstance(metric, str):
        return _named(metric, kind, from_logits)
    if not callable(metric):
        raise TypeError(f"metric must be a Keras metric, its name or a function, got {metric!r}.")
    made = keras.metrics.MeanMetricWrapper(metric, name=getattr(metric, "__name__", "metric"))
    made.direction = getattr(metric, "direction", None)
    return made


def direction_of(metric: keras.metrics.Metric) -> str:
    """Which direction of a metric is better: "max" or "min".

    A metric that is not Keras' own says so in an attribute `direction`.

    Raises:
        ValueError: It does not.
    """
    direction = getattr(metric, "direction", None)
    if direction is None:
        names = {cls.__name__ for cls in type(metric).__mro__}
        direction = "max" if names & _MORE else "min" if names & _LESS else None
    if direction not in ("max", "min"):
        raise ValueError(
            f"Whether more or less of the metric {metric.name!r} is better is not known: set its attribute `direction` to "
            f"'max' or 'min' before passing it, got {direction!r}."
        )
    return direction


def _is_stock(metric):
    return metric.__module__.startswith("keras.")


def _anew(metric):
    """A metric like the user's own, which another task may have shaped by its data."""
    if not _is_stock(type(metric)):
        return metric
    made = type(metric).from_config(metric.get_config())
    made.direction = getattr(metric, "direction", None)
    return made


def _named(name, kind, from_logits):
    threshold = 0.0 if from_logits else 0.5
    if name in ("accuracy", "acc"):
        if kind == "numbers":
            raise ValueError(
                "metric='accuracy' takes labels, and the targets, or the loss, are for numbers: name another, such as "
                "'mean_absolute_error', or give keras.metrics.BinaryAccuracy(threshold=...)."
            )
        if kind == "binary":
            return keras.metrics.BinaryAccuracy(threshold=threshold)
        return _ACCURACY[kind](name="accuracy")
    if name == "perplexity":
        return Perplexity(from_logits=from_logits)
    try:
        metric = keras.metrics.get(name)
    except ValueError as error:
        raise ValueError(
            f"metric must be the name of a Keras metric, such as 'accuracy' or 'r2_score', got {name!r}."
        ) from error
    except TypeError as error:
        raise ValueError(
            f"metric={name!r} names a metric that has to be told more ({error}): give the metric itself."
        ) from error
    if not isinstance(metric, keras.metrics.Metric):
        return keras.metrics.MeanMetricWrapper(metric, name=name)
    config = metric.get_config()
    config["name"] = re.sub(r"_\d+$", "", config["name"])  # Keras numbers those of one name
    if "from_logits" in config:
        config["from_logits"] = from_logits
    elif isinstance(metric, (keras.metrics.BinaryAccuracy, keras.metrics.BinaryIoU)):
        config["threshold"] = threshold
    elif isinstance(metric, keras.metrics.FBetaScore) and kind == "binary":
        if from_logits:
            raise ValueError(
                f"metric={name!r} takes probabilities, and the model's outputs are logits: let the model end in a sigmoid."
            )
        config["threshold"] = (
            threshold  # else the largest of the outputs is what was predicted, of one unit always it
        )
    elif "thresholds" in config and config["thresholds"] is None:
        config["thresholds"] = threshold
    return type(metric).from_config(config)
