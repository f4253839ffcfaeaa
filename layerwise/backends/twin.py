"""A copy of an optimizer in double precision, to see what a step would do."""

from typing import Any

import keras
import numpy as np

from layerwise.backends import internals

USED = {
    "keras.src.optimizers.base_optimizer.BaseOptimizer": ("_var_key",),
}


def twin(rule: Any, to_numpy: Any) -> tuple[Any, dict[int, Any]]:
    """A copy of a built optimizer that writes to nothing of the original's.

    Args:
        rule: The optimizer (of a LossScaleOptimizer, the inner one).
        to_numpy: `variable -> array`.

    Returns:
        The copy, and `{id(variable): its copy}` of all state and all model variables that it was built with, those of
        floating point in float64.
    """
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
    own["loss_scale_factor"] = None  # gradients come as they are
    excluded = own.get("_exclude_from_weight_decay", set())
    own["_exclude_from_weight_decay"] = {keys[key] for key in excluded if key in keys}
    own["_exclude_from_weight_decay_cache"] = {}
    return other, copies


def double_copy(variable: Any, to_numpy: Any) -> Any:
    """A variable with the same value and constraint; of floating point: in float64."""
    value = np.asarray(to_numpy(variable))
    double = np.issubdtype(value.dtype, np.floating) or "float" in str(variable.dtype)
    dtype = "float64" if double else str(variable.dtype)
    # By its name it may be excluded from weight decay.
    copy = keras.Variable(value.astype(dtype), dtype=dtype, trainable=False, name=variable.name)
    copy.constraint = variable.constraint
    return copy
