"""The step of an Update on TensorFlow: one `tf.function`, traced once."""

import functools

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import reduce_per_replica

from layerwise.backends import internals

# Whether several Updates share a program.
SHARES = True

# What stock `fit` calls of an optimizer on the way to `apply`.
BEFORE_APPLY = ("apply_gradients",)


def program(spec):
    """The compiled step of a `StepSpec`.

    Returns:
        `run(index, data)`: carries out the Update of that index on the next batch of an iterator, or on the batch in a
        list, and returns logs (empty unless the step shows any).
    """
    return Program(spec)


class Program:
    """The compiled step of some Updates."""

    def __init__(self, spec):
        self.spec, self._which = spec, None
        if len(spec.moves) > 1:
            replicas = spec.model.distribute_strategy.num_replicas_in_sync
            if replicas > 1:
                raise ValueError(
                    f"max_programs shares programs by a branch, in which {replicas} replicas of a tf.distribute strategy "
                    "cannot reduce gradients. Leave max_programs=None."
                )
            self._which = tf.Variable(0, dtype="int32", trainable=False)
        self._compiled = Compiled(spec.model, traced_step(spec, self._which))

    def __call__(self, index, data):
        self._choose(index)
        return self._compiled(data)

    def on_batch(self, index, batch):
        """The step while an execution is traced."""
        self._choose(index)
        return self._compiled.on_batch(batch)

    def _choose(self, index):
        if self._which is not None:
            self._which.assign(index)


def traced_step(spec, which=None, only=None):
    """The step as a function of a batch. `which`: the index of the Update that runs; `only`: it is always this one."""
    model, weights = spec.model, spec.weights
    if spec.forward is None:
        return model.train_step

    def step(data):
        if only is None:
            spec.traced()
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in weights:
                tape.watch(variable.value)
            y_pred, loss = spec.forward(x, y, sample_weight, training=True)
            if spec.shows:
                internals.update_loss_tracker(model, unscaled(loss), batch_size(x))
            loss = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, weights)
        by_variable = {id(v): g for v, g in zip(weights, gradients, strict=True)}

        def apply(move):
            gradients = [by_variable[id(v)] for v in move.weights]
            if all(g is None for g in gradients):
                move.warn_of_no_gradient()
                gradients = [tf.zeros_like(v.value) for v in move.weights]
            move.apply(gradients)
            return 0

        # Weight decay and step counts do not depend on the data: where there was no batch, they must not run either.
        with tf.control_dependencies([loss]):
            if which is None:
                apply(spec.moves[only or 0])
            else:
                branches = [functools.partial(apply, move) for move in spec.moves]
                tf.switch_case(which.read_value(), branches)
        if not spec.shows:
            return {}
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    return step


class Compiled:
    """A step compiled as Keras compiles its own (`TensorFlowTrainer._make_function`).

    Unlike there, batches from a list are traced with the spec that the iterator gave, so that a smaller last batch needs
    no program of its own.
    """

    def __init__(self, model, step):
        self.model, self.step = model, step

        def on_batch(data):
            return on_replicas(model, step, data)

        self._traces = not model.run_eagerly
        self._traced_on_batch, self._specs = on_batch, []
        if self._traces:
            self._traced_on_batch = own_function(on_batch, jit_compile=model.jit_compile)
        self.on_batch = model._autoconvert_optionals(self._traced_on_batch)
        # For XLA alone a function within that of the iterator, as in Keras: to trace two takes longer.
        within = self.on_batch if model.jit_compile else model._autoconvert_optionals(on_batch)

        def on_iterator(iterator):
            return within(iterator.get_next())

        self.on_iterator = own_function(on_iterator) if self._traces else on_iterator

    def __call__(self, data):
        if isinstance(data, (tf.data.Iterator, tf.distribute.DistributedIterator)):
            return self.on_iterator(data)
        batch, spec = data
        if self._traces and spec is not None and spec not in self._specs:
            self._traced_on_batch.get_concrete_function(spec)
            self._specs.append(spec)
        return self.on_batch(batch)


def on_replicas(model, function, *arguments):
    """What a function gives on the model's replicas, put together as Keras does."""
    strategy = model.distribute_strategy
    return reduce_per_replica(strategy.run(function, args=arguments), strategy, reduction="auto")


def own_function(function, **arguments):
    """A function as a `tf.function` with a code of its own: TensorFlow warns of many traces of one piece of code."""
    function = tf.autograph.experimental.do_not_convert(internals.with_code_of_its_own(function))
    return tf.function(function, reduce_retracing=True, **arguments)


def unscaled(loss):
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss * replicas if replicas > 1 else loss


def batch_size(x):
    return tf.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]
