"""Variables and their memory on JAX, where `fit` holds the arrays while it runs."""

import contextlib

import jax
import keras
import numpy as np

from layerwise.backends.lazy import without_tensorflow


def scope(model):
    """The context in which variables for a model are created."""
    return contextlib.nullcontext()


def fill(variable, shape, number):
    """Fills a variable with a number, and gives it its memory back if it was released."""
    variable._shape = shape
    variable.assign(np.full(shape, number, "float32"))


def release(variable):
    """Frees a variable's memory; `fill` brings it back."""
    fill(variable, empty_shape(variable), 0)


def nbytes(variable, model):
    """The bytes that a variable holds now."""
    model.jax_state_sync()
    return variable.value.nbytes


def to_numpy(variable):
    """A variable's value as an array."""
    return keras.ops.convert_to_numpy(variable.value)


def device():
    """The kind of device that arrays are on: "cpu", "gpu", "tpu"."""
    return jax.default_backend()


def replicas(model):
    """The number of devices that share a batch."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.device_mesh.devices.size


def seed(number):
    """Seeds all random generators."""
    with without_tensorflow():
        keras.utils.set_random_seed(number)


def generator_state():
    """The state of the framework's own random generators, as arrays: JAX has none."""
    return []


def set_generator_state(state):
    """Puts back what `generator_state` gave."""


def empty_shape(variable):
    """The shape of no elements, in as many dimensions (a layout has one name for each)."""
    return (0, *variable.shape[1:]) if variable.shape else ()
