"""Derivatives of a loss on JAX, for what looks at a batch without changing anything."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
from keras.src.backend.jax import nn
from keras.src.backend.jax.random import jax_draw_seed

from layerwise.backends.double import Exact
from layerwise.backends.jax.step import compiles


def look_program(model, forward, groups):
    """Measures the loss, and the gradient norm of each group of variables.

    Args:
        model: The compiled model.
        forward: `(x, y, sample_weight, training) -> (predictions, loss)`.
        groups: A list of lists of variables.

    Returns:
        `look(data, state) -> {"loss": (), "gradient_norm": (len(groups),)}`, NumPy arrays, for a batch and fit's state.
    """
    look = traced_look(model, forward, groups)
    if compiles(model):
        look = jax.jit(look)

    def measure(data, state):
        return {name: np.asarray(value) for name, value in look(*state[:2], data).items()}

    return measure


def traced_look(model, forward, groups):
    """The look as a function of trainable and other values and a batch; what the forward pass changes is dropped."""
    at = {id(v): i for i, v in enumerate(model.trainable_variables)}
    places = [[at[id(v)] for v in group] for group in groups]

    def look(trainable, non_trainable, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def loss_of(trainable):
            mapping = [
                *zip(model.trainable_variables, trainable, strict=True),
                *zip(model.non_trainable_variables, non_trainable, strict=True),
            ]
            with keras.StatelessScope(mapping, collect_losses=True):
                return forward(x, y, sample_weight, training=True)[1]

        loss, gradients = jax.value_and_grad(loss_of)(list(trainable))
        squares = [jnp.sum(jnp.square(g.astype("float32"))) for g in gradients]
        norms = [jnp.sqrt(sum(squares[i] for i in group)) for group in places]
        return {"loss": loss.astype("float32"), "gradient_norm": jnp.stack(norms)}

    return look


# --- in double precision


def _attention(query, key, value, bias=None, mask=None, scale=None, is_causal=False, **ignored):
    """Attention by its formula. Keras' own, like JAX's, takes the softmax in float32."""
    logits = jnp.einsum("BTNH,BSNH->BNTS", query, key)
    logits *= query.shape[-1] ** -0.5 if scale is None else scale
    logits = logits if bias is None else logits + bias
    probabilities = jax.nn.softmax(nn._apply_masks(logits, mask, is_causal), axis=-1)
    return jnp.einsum("BNTS,BSNH->BTNH", probabilities, value)


# Functions of Keras that are others in double precision: (namespace, name, function).
REPLACED: list = [(vars(nn), "dot_product_attention", _attention)]


def double_context():
    """The context in which arrays of double precision are computed with, outside any gradient."""
    return jax.enable_x64(True)


def dropout(original, inputs, rate, noise_shape, seed, dtype):
    """Dropout of double precision with the mask that inputs of `dtype` would get."""
    shape = inputs.shape
    if noise_shape is not None:
        shape = [n if m is None else m for n, m in zip(shape, noise_shape, strict=True)]
    # JAX draws in the precision of the probability, which is float32 whatever the inputs are.
    probability = np.float32(1.0 - rate)
    mask = jax.random.bernoulli(jax_draw_seed(seed), probability, shape=tuple(shape))
    return jnp.where(jnp.broadcast_to(mask, inputs.shape), inputs / (1.0 - rate), 0.0)


def exact_program(model, loss_of):
    """The loss of moved weights, its gradient and its Hessian times a vector.

    Args:
        model: The compiled model: says whether to compile.
        loss_of: `(weights, rest, data) -> scalar` of float64 tensors.

    Returns:
        An `Exact`.
    """

    def loss(weights, rest, data):
        return loss_of(weights, rest, data)

    def gradient(weights, rest, data):
        return jax.value_and_grad(loss_of)(weights, rest, data)

    def hessian_vector(weights, vectors, rest, data):
        def slope(weights):
            return jax.grad(loss_of)(weights, rest, data)

        return jax.jvp(slope, (weights,), (vectors,))[1]

    eager = not compiles(model)
    return Exact(*(_on_arrays(f, eager) for f in (loss, gradient, hessian_vector)))


def _on_arrays(function, eager):
    if not eager:
        function = jax.jit(function)

    def call(*arguments):
        with jax.enable_x64(True):
            if eager:
                arguments = jax.tree.map(jnp.asarray, arguments)
            return jax.tree.map(np.asarray, function(*arguments))

    return call


def reseed(number):
    """Moves the framework's own generators on, to another state for each number: there are none here."""


def tap(function, take):
    """A train function that gives its next batch to `take` before it trains on it."""

    def tapped(state, iterator):
        data = next(iterator)
        take(data)
        return function(state, iter([data]))

    return tapped
