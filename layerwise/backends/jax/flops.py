"""Floating-point operations on JAX, by XLA's cost analysis of lowered steps."""

import contextlib
import functools

import jax
import keras

from layerwise.backends.jax.derivatives import traced_look
from layerwise.backends.jax.layout import Layout
from layerwise.backends.jax.step import traced_step


def step_flops(spec, index, x, y):
    """FLOPs of one Update's step on a batch of these shapes."""
    layout = Layout(spec)
    moving, others = layout.split(_state(spec.model, spec.shape))
    step = functools.partial(traced_step, spec, layout, chosen=None, only=index)
    specs = keras.tree.map_structure(_spec, (moving, others, (x, y)))
    with _full_shapes(spec):
        return _count(step, *specs)


def stock_flops(model, x, y):
    """FLOPs of the model's own train step."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    state = _state(model, lambda variable: tuple(variable.shape))
    data = keras.tree.map_structure(_spec, (x, y))
    return _count(lambda state, data: model.train_step(state, data), state, data)


def look_flops(model, forward, groups, x, y):
    """FLOPs of a look at the gradients of groups of variables."""
    state = _state(model, lambda variable: tuple(variable.shape))
    data = keras.tree.map_structure(_spec, (x, y))
    return _count(traced_look(model, forward, groups), *state[:2], data)


@contextlib.contextmanager
def _full_shapes(spec):
    """Released slots have the shapes of filled ones while a step is traced, which compares them with its inputs."""
    variables = spec.model.optimizer.variables
    shapes = [variable._shape for variable in variables]
    try:
        for variable in variables:
            variable._shape = spec.shape(variable)
        yield
    finally:
        for variable, shape in zip(variables, shapes, strict=True):
            variable._shape = shape


def _count(step, *specs):
    # As a program for the CPU, on whatever device it will run: the clients of GPUs and TPUs do not count.
    with jax.default_device(_cpu()):
        return int(jax.jit(step).lower(*specs).cost_analysis()["flops"])


def _cpu():
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise RuntimeError(
            "FLOPs are counted by JAX's CPU client, which JAX_PLATFORMS leaves out: add it, as in JAX_PLATFORMS=cuda,cpu"
        ) from error


def _state(model, shape):
    """Fit's state as specs."""
    model.jax_state_sync()
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return [[jax.ShapeDtypeStruct(shape(v), v.dtype) for v in group] for group in variables]


def _spec(a):
    return jax.ShapeDtypeStruct(a.shape, keras.backend.standardize_dtype(a.dtype))
