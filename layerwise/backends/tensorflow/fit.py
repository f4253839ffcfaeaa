"""What stands in for the functions of a running `fit` on TensorFlow."""

import itertools

import keras
import tensorflow as tf

from layerwise.backends import internals
from layerwise.backends.tensorflow.memory import fill, release
from layerwise.backends.tensorflow.step import Compiled, batch_size, unscaled


def check(model):
    """Raises where this backend cannot do what the model was compiled for."""


def build(model):
    """Builds a model from the spec of the data that the calling `fit` iterates over, which takes no batch from it."""
    iterator = internals.epoch_iterator(model)
    if iterator is None:
        return
    spec = iterator._distributed_dataset.element_spec
    if isinstance(spec, (tuple, list)) and len(spec) <= 3:
        internals.symbolic_build(model, tuple(spec))
    else:
        internals.symbolic_build(model, (spec,))


def train_function(model, batches):
    """What stands in for `model.train_function`: takes each batch its way through `batches`."""

    def train_function(iterator):
        n = model.steps_per_execution
        if n > 1 and batches.are_alike(n):
            return batches.carry_out_alike(n, lambda program: program(0, iterator), (fill, release))
        logs = None
        for _ in range(n):
            try:
                logs = one_batch(iterator, alone=n == 1)
            except (StopIteration, tf.errors.OutOfRangeError):
                if logs is None:
                    raise StopIteration from None
                break
        return logs

    def one_batch(iterator, alone):
        data = iterator
        if batches.looks():
            data = taken(iterator)
            batches.look(lambda program: program(data[0]))
        plan = batches.plan()
        if data is iterator and not (alone and len(plan) == 1 and not batches.substitutes):
            data = taken(iterator)
        if data is not iterator:
            batch = batches.substitute(data[0])
            data = batch, data[1] if batch is data[0] else None
        return batches.carry_out(plan, lambda program, index: program(index, data), (fill, release))

    def taken(iterator):
        """The next batch, and its spec."""
        return next(iterator), getattr(iterator, "element_spec", None)

    return train_function


def stock_program(function):
    """The model's own train function as a program."""
    return lambda index, data: function(data if _is_iterator(data) else [data[0]])


def test_program(model, forward, heads):
    """The compiled test step of a forward pass."""

    def step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, loss = forward(x, y, sample_weight, training=False)
        internals.update_loss_tracker(model, unscaled(loss), batch_size(x))
        return model.compute_metrics(x, y, y_pred, sample_weight)

    compiled = Compiled(model, step)

    def program(iterator):
        if _is_iterator(iterator):
            return compiled(iterator)
        batches = itertools.islice(iterator, model.steps_per_execution)
        return [compiled((batch, None)) for batch in batches][-1]

    return program


def test_function(program, batches):
    """What stands in for `model.test_function` while a stage is trained."""
    if not batches.substitutes:
        return program

    def test_function(iterator):
        first = batches.substitute(next(iterator))
        return program(itertools.chain([first], map(batches.substitute, iterator)))

    return test_function


def inference(model, function, variables):
    """`function` of tensors compiled, with `variables` (all that it reads) as they are now."""
    if model.run_eagerly:
        return function
    function = internals.with_code_of_its_own(function)  # one for each stage, of one piece of code
    return tf.function(
        function, reduce_retracing=True, autograph=False, jit_compile=model.jit_compile
    )


def wait(result):
    """Returns when a result is there."""
    tf.nest.map_structure(lambda t: t.numpy() if hasattr(t, "numpy") else t, result)


def settle(model):
    """Returns when all is done that steps of a model have begun."""


def _is_iterator(data):
    return isinstance(data, (tf.data.Iterator, tf.distribute.DistributedIterator))
