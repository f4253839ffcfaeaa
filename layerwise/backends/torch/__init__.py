"""torch: the rooms of a backend, each with the same functions as in the other two."""

from layerwise.backends.torch.derivatives import (
    REPLACED,
    double_context,
    dropout,
    exact_program,
    look_program,
    reseed,
    tap,
)
from layerwise.backends.torch.execution import can_execute, execution, loops_pay, nothing, resident
from layerwise.backends.torch.fit import (
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
from layerwise.backends.torch.flops import look_flops, step_flops, stock_flops
from layerwise.backends.torch.memory import (
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
from layerwise.backends.torch.step import BEFORE_APPLY, SHARES, program

USED = {
    "keras.src.backend.torch.trainer.TorchTrainer": ("_should_torch_compile",),
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
