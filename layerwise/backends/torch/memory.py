"""Variables and their memory on torch."""

import contextlib

import keras
import torch

from layerwise.backends.lazy import without_tensorflow


def scope(model):
    """The context in which variables for a model are created."""
    return contextlib.nullcontext()


def fill(variable, shape, number):
    """Fills a variable with a number, and gives it its memory back if it was released."""
    tensor = variable.value
    if tensor.shape == shape:
        with torch.no_grad():
            tensor.fill_(number)
    else:
        tensor.data = torch.full(shape, number, dtype=tensor.dtype, device=tensor.device)


def release(variable):
    """Frees a variable's memory; `fill` brings it back."""
    variable.value.data = torch.empty(
        (0,), dtype=variable.value.dtype, device=variable.value.device
    )


def nbytes(variable, model):
    """The bytes that a variable holds now."""
    return variable.value.nbytes


def to_numpy(variable):
    """A variable's value as an array."""
    return keras.ops.convert_to_numpy(variable.value)


def device():
    """The kind of device that arrays are on: "cpu", "gpu", "tpu"."""
    kind = keras.ops.zeros(()).device.type
    return "gpu" if kind == "cuda" else kind


def replicas(model):
    """The number of devices that share a batch."""
    return 1


def seed(number):
    """Seeds all random generators."""
    with without_tensorflow():
        keras.utils.set_random_seed(number)


def generator_state():
    """The state of torch's own random generators, as arrays: dropout without a seed draws from them."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available():
        states += torch.cuda.get_rng_state_all()
    return [state.cpu().numpy() for state in states]


def set_generator_state(state):
    """Puts back what `generator_state` gave."""
    if state:
        torch.set_rng_state(torch.from_numpy(state[0].astype("uint8")))
    if len(state) > 1 and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.from_numpy(s.astype("uint8")) for s in state[1:]])
