"""Derivatives of a loss on JAX, for what looks at a batch without changing anything."""

import jax
import jax.numpy as jnp
import keras
import numpy as np

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
