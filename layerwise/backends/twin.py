"""A copy of an optimizer in double precision, to see what a step would do."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from layerwise.backends import internals

USED = {
    "keras.src.optimizers.base_optimizer.BaseOptimizer": ("_var_key",),
}


def twin(rule: Any, to_numpy: Any, every: Sequence[Any] = ()) -> tuple[Any, dict[int, Any]]:
    """A copy of an optimizer that writes to nothing of the original's.

    Args:
        rule: The optimizer (of a LossScaleOptimizer, the inner one).
        to_numpy: `variable -> array`.
        every: The variables that the copy is built for where the optimizer is not built.

    Returns:
        The copy, and `{id(variable): its copy}` of all state and all model variables that it was built with, those of
        floating point in float64.
    """
    if not rule.built:
        return _built_twin(rule, to_numpy, every)
    copies: dict[int, Any] = {}

    def copied(value):
        if isinstance(value, keras.Variable):
            if id(value) not in copies:
                copies[id(value)] = double_copy(value, to_numpy)
            return copies[id(value)]
        if isinstance(value, (list, tuple)):
            return [copied(item) for item in value]
        return value

    other = object.__new__(type(rule))
    state = {name: copied(value) for name, value in vars(rule).items() if name != "_tracker"}
    originals, own = internals.trained_variables(rule), vars(other)
    own.update(state)
    keys = {rule._var_key(v): rule._var_key(copies[id(v)]) for v in originals}
    own["_trainable_variables_indices"] = {key: i for i, key in enumerate(keys.values())}
    _free(own, rule, keys)
    return other, copies


def _built_twin(rule, to_numpy, every):
    """A built twin of an optimizer that is not built: a new one with the same rate and count."""
    other = type(rule).from_config(internals.config_without_rate(rule))
    own, rate = vars(other), rule._learning_rate
    own["_learning_rate"] = (
        double_copy(rate, to_numpy) if isinstance(rate, keras.Variable) else rate
    )
    # The count of batches: `iterations` is no variable where gradients are accumulated.
    own["_iterations"].assign(to_numpy(rule._iterations))
    copies = {id(v): double_copy(v, to_numpy) for v in every}
    other.build(list(copies.values()))
    _free(own, rule, {rule._var_key(v): rule._var_key(copies[id(v)]) for v in every})
    return other, copies


def _free(own, rule, keys):
    """Gradients come to a twin as they are, and what is excluded from weight decay is so by the copies' names."""
    own["loss_scale_factor"] = None
    excluded = vars(rule).get("_exclude_from_weight_decay", set())
    own["_exclude_from_weight_decay"] = {keys[key] for key in excluded if key in keys}
    own["_exclude_from_weight_decay_cache"] = {}
    if "_exclude_from_weight_decay_pattern" in vars(rule):
        own["_exclude_from_weight_decay_pattern"] = rule._exclude_from_weight_decay_pattern


def double_copy(variable: Any, to_numpy: Any) -> Any:
    """A variable with the same value and constraint; of floating point: in float64."""
    value = np.asarray(to_numpy(variable))
    double = np.issubdtype(value.dtype, np.floating) or "float" in str(variable.dtype)
    dtype = "float64" if double else str(variable.dtype)
    # By its name it may be excluded from weight decay.
    copy = keras.Variable(value.astype(dtype), dtype=dtype, trainable=False, name=variable.name)
    copy.constraint = variable.constraint
    return copy
