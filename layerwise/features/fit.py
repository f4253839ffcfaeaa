"""A stock `fit` in which the features below a frozen prefix are computed once."""

from typing import Any

import keras

from layerwise.backends import backend, internals
from layerwise.features.cache import FeatureCache
from layerwise.features.inspection import first_batch


def fit_with_features(
    schedule: Any,
    model: keras.Model,
    x: Any,
    y: Any,
    cache_features: str | None,
    callbacks: Any,
    **arguments: Any,
) -> keras.callbacks.History:
    """Runs `model.fit` under a schedule, features below what is frozen computed once per stage.

    Arguments, return value and errors are those of `GreedyLayerwise.fit`.
    """
    name = type(schedule).__name__
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"The first argument of {name}.fit is the compiled model, got {type(model).__name__}. Write "
            "schedule.fit(model, x, y, ...)."
        )
    if x is None or isinstance(x, str):
        raise TypeError(
            f"x is the data, as for model.fit, got {x!r}. Write schedule.fit(model, x, y, ...)."
        )
    if isinstance(callbacks, keras.callbacks.CallbackList):
        raise ValueError(
            "callbacks must be a list of callbacks, to which the schedule is added, got a CallbackList."
        )
    callbacks = keras.tree.flatten(callbacks) if callbacks else []
    callbacks = [schedule, *(callback for callback in callbacks if callback is not schedule)]
    if cache_features is None:
        return model.fit(x, y, callbacks=callbacks, **arguments)
    _check(model, cache_features)
    sample = first_batch(x, arguments.get("batch_size"), arguments.get("steps_per_epoch"))
    cache = FeatureCache(cache_features, sample)
    try:
        return model.fit(x, y, callbacks=[cache, *callbacks], **arguments)
    finally:
        cache.close()


def _check(model, where):
    if where not in ("memory", "disk"):
        raise ValueError(f"cache_features must be 'memory', 'disk' or None, got {where!r}.")
    if internals.overrides(model, "compute_metrics"):
        raise ValueError(
            f"{type(model).__name__} has its own compute_metrics, which would be given features in "
            "place of x. Pass cache_features=None."
        )
    if backend.replicas(model) > 1:
        raise ValueError(
            f"cache_features={where!r} works on one device; this model is spread over "
            f"{backend.replicas(model)}. Pass cache_features=None."
        )
