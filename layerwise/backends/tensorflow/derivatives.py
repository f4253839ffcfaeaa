"""Derivatives of a loss on TensorFlow, for what looks at a batch without changing anything."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import core, nn

from layerwise.backends.double import Exact


def look_program(model, forward, groups):
    """Measures the loss, and the gradient norm of each group of variables.

    Args:
        model: The compiled model.
        forward: `(x, y, sample_weight, training) -> (predictions, loss)`.
        groups: A list of lists of variables.

    Returns:
        `look(data) -> {"loss": (), "gradient_norm": (len(groups),)}`, NumPy arrays, for a batch.
    """
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise ValueError(
            f"A schedule that looks at gradients works on one device; this model is spread over {replicas} by a "
            "tf.distribute strategy. Use a schedule that does not look, or one device."
        )
    look = traced_look(model, forward, groups)
    if not model.run_eagerly:
        look = tf.function(
            look, reduce_retracing=True, autograph=False, jit_compile=model.jit_compile
        )
    return lambda data: {name: value.numpy() for name, value in look(data).items()}


def traced_look(model, forward, groups):
    """The look as a function of a batch. What a forward pass in training changes is put back."""
    variables = [v for group in groups for v in group]

    def look(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        changing = model.non_trainable_variables
        before = [tf.identity(v.value) for v in changing]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(variable.value)
            _, loss = forward(x, y, sample_weight, training=True)
        gradients = iter(tape.gradient(loss, variables))
        for variable, value in zip(changing, before, strict=True):
            variable.assign(value)
        norms = [_norm([next(gradients) for _ in group]) for group in groups]
        return {"loss": tf.cast(loss, "float32"), "gradient_norm": tf.stack(norms)}

    return look


def _norm(gradients):
    squares = [
        tf.reduce_sum(tf.square(tf.cast(tf.convert_to_tensor(g), "float32")))
        for g in gradients
        if g is not None
    ]
    return tf.sqrt(tf.add_n(squares)) if squares else tf.constant(0.0)


# --- in double precision


def _moments(x, axes, keepdims):
    """Mean and variance. TensorFlow's own stop the gradient at the mean, which spoils second derivatives."""
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance


def _cast(x, dtype):
    """Keras' cast, but for Python numbers, which TensorFlow's takes to float32 on the way."""
    return tf.constant(x, dtype) if isinstance(x, float) else _stock_cast(x, dtype)


def _attention(query, key, value, bias=None, mask=None, scale=None, is_causal=False, **ignored):
    """Attention by its formula. Keras' own rounds the scale to float32."""
    logits = tf.einsum("BTNH,BSNH->BNTS", query, key)
    logits *= tf.constant(query.shape[-1] ** -0.5 if scale is None else scale, logits.dtype)
    logits = logits if bias is None else logits + tf.cast(bias, logits.dtype)
    probabilities = tf.nn.softmax(nn._apply_masks(logits, mask, is_causal), axis=-1)
    return tf.einsum("BNTS,BSNH->BTNH", probabilities, value)


def _gelu(x, approximate=True):
    """The Gaussian error linear unit by its formula. TensorFlow's own rounds the constants to float32."""
    if approximate:
        return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2)))


def _leaky_relu(x, negative_slope=0.2):
    """The leaky rectifier. TensorFlow's own rounds the slope to float32."""
    return tf.where(x > 0, x, negative_slope * x)


_stock_cast = core.cast

# Functions of Keras that are others in double precision: (namespace, name, function).
REPLACED: list = [
    (vars(nn), "_compute_moments", _moments),
    (vars(nn), "dot_product_attention", _attention),
    (vars(nn), "gelu", _gelu),
    (vars(nn), "leaky_relu", _leaky_relu),
    (vars(core), "cast", _cast),
]


def double_context():
    """The context in which arrays of double precision are computed with, outside any gradient."""
    return contextlib.nullcontext()


def dropout(original, inputs, rate, noise_shape, seed, dtype):
    """Dropout of double precision with the mask that inputs of `dtype` would get."""
    mask = original(tf.ones_like(inputs, dtype), rate, noise_shape, seed) != 0
    return tf.where(mask, inputs / (1.0 - rate), tf.zeros_like(inputs))


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
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(weights)
            value = loss_of(weights, rest, data)
        return value, _dense(tape.gradient(value, weights))

    def hessian_vector(weights, vectors, rest, data):
        with tf.GradientTape(watch_accessed_variables=False) as outer:
            outer.watch(weights)
            _, gradients = gradient(weights, rest, data)
            pairs = zip(gradients, vectors, strict=True)
            product = sum(tf.reduce_sum(g * v) for g, v in pairs if g is not None)
        products = outer.gradient(product, weights)
        return [
            tf.zeros_like(w) if p is None else tf.convert_to_tensor(p)
            for w, p in zip(weights, products, strict=True)
        ]

    return Exact(*(_on_arrays(f, model.run_eagerly) for f in (loss, gradient, hessian_vector)))


def _dense(gradients):
    return [None if g is None else tf.convert_to_tensor(g) for g in gradients]


def _on_arrays(function, eager):
    programs = {}

    def program(tensors):
        """One for all batch sizes. TensorFlow would let go of the ranks, too, when these change once."""
        if eager:
            return function
        key = tuple(
            getattr(t, "shape", tf.TensorShape(None)).rank for t in tf.nest.flatten(tensors)
        )
        if key not in programs:
            programs[key] = tf.function(function, reduce_retracing=True, autograph=False)
        return programs[key]

    def call(*arguments):
        tensors = tf.nest.map_structure(
            lambda a: tf.convert_to_tensor(a) if isinstance(a, np.ndarray) else a, arguments
        )
        found = program(tensors)(*tensors)
        return tf.nest.map_structure(lambda t: None if t is None else t.numpy(), found)

    return call


def reseed(number):
    """Moves the framework's own generators on, to another state for each number: there are none here."""


def tap(function, take):
    """A train function that gives its next batch to `take` before it trains on it."""

    def tapped(iterator):
        taken = _Taken((next(iterator), getattr(iterator, "element_spec", None)))
        take(taken[0])
        return function(taken)

    return tapped


class _Taken(tuple):
    """A batch and its spec, that stands in for the iterator that they come from."""

    @property
    def element_spec(self):
        return self[1]

    def __next__(self):
        return self[0]
