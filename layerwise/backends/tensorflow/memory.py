"""Variables and their memory on TensorFlow, where a variable of a `tf.distribute` strategy has a copy on each device."""

import contextlib
import random

import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.random import seed_generator
from keras.src.utils import rng_utils


def scope(model):
    """The context in which variables for a model are created."""
    if model.distribute_strategy is tf.distribute.get_strategy():
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def fill(variable, shape, number):
    """Fills a variable with a number, and gives it its memory back if it was released."""
    value = tf.convert_to_tensor(np.full(shape, number, "float32"), dtype=variable.dtype)
    for component in _components(variable):
        tf.raw_ops.AssignVariableOp(resource=component.handle, value=value)


def release(variable):
    """Frees a variable's memory. Programs that hold the variable stay valid: `fill` brings it back."""
    for component in _components(variable):
        empty = tf.zeros((0,), dtype=component.dtype)
        tf.raw_ops.AssignVariableOp(resource=component.handle, value=empty)


def nbytes(variable, model):
    """The bytes that a variable holds now."""
    return sum(
        int(np.prod(tf.raw_ops.VariableShape(input=component.handle).numpy()))
        * component.dtype.size
        for component in _components(variable)
    )


def to_numpy(variable):
    """A variable's value as an array."""
    return _components(variable)[0].numpy()


def device():
    """The kind of device that arrays are on: "cpu", "gpu", "tpu"."""
    kinds = {device.device_type.lower() for device in tf.config.list_logical_devices()}
    return min(kinds - {"cpu"}, default="cpu")


def replicas(model):
    """The number of devices that share a batch."""
    return model.distribute_strategy.num_replicas_in_sync


def seed(number):
    """Seeds all random generators."""
    # Not TensorFlow's own, from which no layer draws: that would make it forget how it runs programs (0.1 to 0.5 s each).
    global_state.set_global_attribute(rng_utils.GLOBAL_RANDOM_SEED, number)
    global_state.set_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR, None)
    random.seed(number)
    np.random.seed(number)


def generator_state():
    """The state of the framework's own random generators, as arrays: layers draw from none of them here."""
    return []


def set_generator_state(state):
    """Puts back what `generator_state` gave."""


def _components(variable):
    """The variable on each replica."""
    value = variable.value
    return getattr(value, "values", None) or [value]
