"""The one place that knows which backend Keras runs on.

Each of `tensorflow`, `jax` and `torch` has the same rooms with the same functions in the same order: `step` (the step of a
`StepSpec`), `execution` (several batches in one program), `fit` (what stands in for the functions of a running `fit`),
`memory` (variables), `flops` (counted operations) and `derivatives` (gradients for what looks, and in double precision for
diagnostics). What is private in Keras and shared by all of them is in `internals`, `calling`, `double` and `twin`; nothing
outside this package uses a private Keras name.
"""

import importlib

import keras

from layerwise.backends import calling, clocked, double, internals, twin
from layerwise.backends.spec import ExecutionSpec, Move, StepSpec, Turns

_names = ("tensorflow", "jax", "torch")
if keras.backend.backend() not in _names:
    raise ImportError(
        f"layerwise runs on the Keras backends {', '.join(_names)}; KERAS_BACKEND is {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND to one of them before Python starts."
    )
backend = importlib.import_module(f"layerwise.backends.{keras.backend.backend()}")
for used in (double.USED, twin.USED, backend.USED):
    internals.check(used)

__all__ = [
    "ExecutionSpec",
    "Move",
    "StepSpec",
    "Turns",
    "backend",
    "calling",
    "clocked",
    "double",
    "internals",
    "twin",
]
