"""TensorFlow: the rooms of a backend, each with the same functions as in `jax` and `torch`."""

from layerwise.backends.tensorflow.derivatives import (
    REPLACED,
    double_context,
    dropout,
    exact_program,
    look_program,
    reseed,
    tap,
)
from layerwise.backends.tensorflow.execution import (
    can_execute,
    execution,
    loops_pay,
    nothing,
    resident,
)
from layerwise.backends.tensorflow.fit import (
    build,
    check,
    inference,
    settle,
    stock_program,
    test_function,
    test_program,
    train_function,
    wait,
)
from layerwise.backends.tensorflow.flops import look_flops, step_flops, stock_flops
from layerwise.backends.tensorflow.memory import (
    device,
    fill,
    generator_state,
    nbytes,
    release,
    replicas,
    scope,
    seed,
    set_generator_state,
    to_numpy,
)
from layerwise.backends.tensorflow.step import BEFORE_APPLY, SHARES, program

USED = {
    "keras.src.backend.tensorflow.trainer.TensorFlowTrainer": (
        "_make_function",
        "_autoconvert_optionals",
        "distribute_strategy",
    ),
    "keras.src.backend.tensorflow.nn": ("_apply_masks", "_compute_moments"),
    "keras.src.utils.rng_utils": ("GLOBAL_RANDOM_SEED",),
    "keras.src.random.seed_generator": ("GLOBAL_SEED_GENERATOR",),
    "keras.src.backend.common.global_state": ("set_global_attribute",),
    "keras.src.backend.tensorflow.trainer.TFEpochIterator": ("_get_iterator",),
}

__all__ = [
    "BEFORE_APPLY",
    "REPLACED",
    "SHARES",
    "USED",
    "build",
    "can_execute",
    "check",
    "device",
    "double_context",
    "dropout",
    "exact_program",
    "execution",
    "fill",
    "generator_state",
    "inference",
    "look_flops",
    "look_program",
    "loops_pay",
    "nbytes",
    "nothing",
    "program",
    "release",
    "replicas",
    "reseed",
    "resident",
    "scope",
    "seed",
    "set_generator_state",
    "settle",
    "step_flops",
    "stock_flops",
    "stock_program",
    "tap",
    "test_function",
    "test_program",
    "to_numpy",
    "train_function",
    "wait",
]
