"""Derivatives of a loss on torch, for what looks at a batch without changing anything."""

import keras
import numpy as np
import torch

from layerwise.backends.double import Exact
from layerwise.backends.torch import memory


def look_program(model, forward, groups):
    """Measures the loss, and the gradient norm of each group of variables.

    Args:
        model: The compiled model.
        forward: `(x, y, sample_weight, training) -> (predictions, loss)`.
        groups: A list of lists of variables.

    Returns:
        `look(data) -> {"loss": (), "gradient_norm": (len(groups),)}`, NumPy arrays, for a batch.
    """
    variables = [v for group in groups for v in group]

    def look(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        changing = model.non_trainable_variables
        before = [v.value.detach().clone() for v in changing]
        generators = memory.generator_state()
        try:
            _, loss = forward(x, y, sample_weight, training=True)
            weights = [v.value for v in variables]
            gradients = iter(torch.autograd.grad(loss, weights, allow_unused=True))
        finally:
            with torch.no_grad():
                for variable, value in zip(changing, before, strict=True):
                    variable.assign(value)
            memory.set_generator_state(generators)
        norms = [_norm([next(gradients) for _ in group]) for group in groups]
        measured = {"loss": loss.detach().float(), "gradient_norm": torch.stack(norms)}
        return {name: value.cpu().numpy() for name, value in measured.items()}

    return look


def _norm(gradients):
    squares = [g.float().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())


# --- in double precision

# Functions of Keras that are others in double precision: (namespace, name, function).
REPLACED: list = []


def double_context():
    """The context in which arrays of double precision are computed with, outside any gradient."""
    return torch.no_grad()


def dropout(original, inputs, rate, noise_shape, seed, dtype):
    """Dropout of double precision with the mask that inputs of `dtype` would get."""
    ones = torch.ones(inputs.shape, dtype=getattr(torch, dtype), device=inputs.device)
    mask = original(ones, rate, noise_shape, seed) != 0
    return torch.where(mask, inputs / (1.0 - rate), torch.zeros_like(inputs))


def exact_program(model, loss_of):
    """The loss of moved weights, its gradient and its Hessian times a vector.

    Args:
        model: The compiled model: says whether to compile.
        loss_of: `(weights, rest, data) -> scalar` of float64 tensors.

    Returns:
        An `Exact`.
    """

    def loss(weights, rest, data):
        with torch.no_grad():
            return loss_of(weights, rest, data)

    def gradient(weights, rest, data, graph=False):
        value = loss_of(weights, rest, data)
        return value, torch.autograd.grad(value, weights, create_graph=graph, allow_unused=True)

    def hessian_vector(weights, vectors, rest, data):
        # The fused kernels of attention have no second derivative, nor have those of cuDNN for recurrent layers on a GPU.
        attention = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
        with attention, torch.backends.cudnn.flags(enabled=False):
            _, gradients = gradient(weights, rest, data, graph=True)
        pairs = zip(gradients, vectors, strict=True)
        product = sum((g * v).sum() for g, v in pairs if g is not None and g.requires_grad)
        if not isinstance(product, torch.Tensor):  # the loss is linear
            return [torch.zeros_like(w) for w in weights]
        products = torch.autograd.grad(product, weights, allow_unused=True)
        return [
            torch.zeros_like(w) if p is None else p for w, p in zip(weights, products, strict=True)
        ]

    return Exact(*(_on_arrays(f) for f in (loss, gradient, hessian_vector)))


def _on_arrays(function):
    def call(weights, *arguments):
        weights = [_tensor(w).requires_grad_() for w in weights]
        arguments = keras.tree.map_structure(_tensor, arguments)
        result = function(weights, *arguments)
        return keras.tree.map_structure(
            lambda t: None if t is None else t.detach().cpu().numpy(), result
        )

    return call


def _tensor(array):
    if not isinstance(array, np.ndarray):
        return array
    return keras.ops.convert_to_tensor(array, dtype=str(array.dtype))


def reseed(number):
    """Moves the framework's own generators on, to another state for each number."""
    torch.manual_seed(torch.initial_seed() + 7919 * number)


def tap(function, take):
    """A train function that gives its next batch to `take` before it trains on it."""

    def tapped(data):
        take(data[0])
        return function(data)

    return tapped
