"""JAX: the rooms of a backend, each with the same functions as in the other two."""

from layerwise.backends.jax.derivatives import (
    REPLACED,
    double_context,
    dropout,
    exact_program,
    look_program,
    reseed,
    tap,
)
from layerwise.backends.jax.execution import can_execute, execution, loops_pay, nothing, resident
from layerwise.backends.jax.fit import (
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
from layerwise.backends.jax.flops import look_flops, step_flops, stock_flops
from layerwise.backends.jax.memory import (
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
from layerwise.backends.jax.step import BEFORE_APPLY, SHARES, program

USED = {
    "keras.src.backend.jax.trainer.JAXTrainer": (
        "_make_function",
        "_update_metrics_variables",
        "_get_jax_state",
        "jax_state_sync",
    ),
    "keras.src.backend.jax.nn": ("_apply_masks", "dot_product_attention"),
    "keras.src.optimizers.loss_scale_optimizer.LossScaleOptimizer": ("check_finite",),
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
