"""Derivatives of a loss on TensorFlow, for what looks at a batch without changing anything."""

import keras
import tensorflow as tf


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
