"""by_hand: a whole epoch of training as one would write it by hand for each backend, the yardstick of `grid`."""

import functools
import time
from collections.abc import Callable
from typing import Any

import keras

import layerwise

RATE = 1e-5  # weights must stay finite, or arithmetic on denormals is timed


def hand_written(build: Callable, data: layerwise.Data, batch_size: int) -> Callable[[], float]:
    """Returns a call that takes the seconds of an epoch as one would write it by hand for this backend."""
    model = compiled(build)
    model.optimizer.build(model.trainable_variables)
    rows = next(data.source.epochs(0, batch_size))
    write = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}[keras.backend.backend()]
    return functools.partial(_seconds, write(model, *data.source.batch(slice(None)), rows))


def _seconds(epoch):
    start = time.perf_counter()
    float(epoch())
    return time.perf_counter() - start


def _seconds_of_the_second_call(epoch):
    epoch()
    return _seconds(epoch)


def _tensorflow(model, x, y, rows):
    import tensorflow as tf

    x, y, rows = tf.constant(x), tf.constant(y), tf.constant(rows)

    def epoch():
        def body(i, total):
            with tf.GradientTape() as tape:
                loss = model.loss(
                    tf.gather(y, rows[i]), model(tf.gather(x, rows[i]), training=True)
                )
            gradients = tape.gradient(loss, model.trainable_variables)
            model.optimizer.apply(gradients, model.trainable_variables)
            return i + 1, total + loss

        return tf.while_loop(lambda i, _: i < len(rows), body, (0, 0.0))[1]

    # XLA makes dense nets faster and convolutions on a CPU many times slower: one writes what is faster.
    ways = [tf.function(epoch, jit_compile=jit, autograph=False) for jit in (True, False)]
    return min(ways, key=_seconds_of_the_second_call)


def jax_epoch(model: keras.Model, x: Any, y: Any) -> tuple[Callable, Callable, Callable]:
    """An epoch on JAX as functions of the state `(weights, others, slots)`.

    Returns:
        `(start, step, epoch)`: `start()` gives the model's state; `step(state, batch)` and `epoch(state, rows)` give the
        state after a batch of row numbers, or after one after the other of `rows` (batches, batch size), and a loss.
    """
    import jax
    import jax.numpy as jnp

    x, y, optimizer = jnp.asarray(x), jnp.asarray(y), model.optimizer

    def start():
        groups = model.trainable_variables, model.non_trainable_variables, optimizer.variables
        return tuple([jnp.array(v.value) for v in group] for group in groups)

    def loss_of(weights, others, batch):
        predictions, others = model.stateless_call(weights, others, x[batch], training=True)
        return model.loss(y[batch], predictions), others

    def step(state, batch):
        weights, others, slots = state
        found, gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, others, batch)
        weights, slots = optimizer.stateless_apply(slots, gradients, weights)
        return (weights, found[1], slots), found[0]

    def epoch(state, rows):
        state, losses = jax.lax.scan(step, state, rows)
        return state, losses[-1]

    return start, step, epoch


def _jax(model, x, y, rows):
    import jax
    import jax.numpy as jnp

    rows = jnp.asarray(rows)
    start, step, scan = jax_epoch(model, x, y)
    one = jax.jit(step, donate_argnums=0)

    def each(state):
        for batch in rows:
            state, loss = one(state, batch)
        return state, loss

    scanned = jax.jit(scan, donate_argnums=0)

    def way(carry_out):
        state = start()

        def epoch():
            nonlocal state
            state, loss = carry_out(state)
            return loss

        return epoch

    # On a CPU a loop makes convolutions many times slower: one writes what is faster.
    ways = [way(lambda state: scanned(state, rows)), way(each)]
    return min(ways, key=_seconds_of_the_second_call)


def _torch(model, x, y, rows):
    import torch

    x, y = keras.ops.convert_to_tensor(x), keras.ops.convert_to_tensor(y)
    rows = torch.as_tensor(rows, dtype=torch.int64, device=x.device)

    def epoch():
        for batch in rows:
            loss = model.loss(y[batch], model(x[batch], training=True))
            weights = [v.value for v in model.trainable_variables]
            gradients = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                model.optimizer.apply(gradients, model.trainable_variables)
        return loss.detach()

    return epoch


def compiled(build: Callable) -> keras.Model:
    """The model, compiled as all are that are timed here."""
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss)
    return model
