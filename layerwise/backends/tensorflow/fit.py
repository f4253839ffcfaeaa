"""What stands in for the functions of a running `fit` on TensorFlow."""

import itertools

import keras
import tensorflow as tf

from layerwise.backends import calling, internals
from layerwise.backends.tensorflow.execution import rows_of
from layerwise.backends.tensorflow.memory import fill, release
from layerwise.backends.tensorflow.step import Compiled, batch_size, unscaled


def check(model):
    """Raises where this backend cannot do what the model was compiled for."""


def build(model, with_optimizer=True):
    """Builds a model, and its optimizer where that is wanted, from the spec of the data that the calling `fit` iterates
    over, which takes no batch from it.
    """
    iterator = calling.epoch_iterator(model)
    if iterator is None:
        return
    spec = iterator._distributed_dataset.element_spec
    whole = isinstance(spec, (tuple, list)) and len(spec) <= 3
    internals.symbolic_build(model, tuple(spec) if whole else (spec,), with_optimizer)


def train_function(model, batches):
    """What stands in for `model.train_function`: takes each batch its way through `batches`."""
    executions, memory = batches.executions, (fill, release)

    def train_function(iterator):
        if batches.resident is not None:
            return executions.epoch(several, one_row)
        logs, left = None, model.steps_per_execution
        while left:
            try:
                logs, done = some_batches(iterator, left)
            except (StopIteration, tf.errors.OutOfRangeError):
                if logs is None:
                    raise StopIteration from None
                break
            left -= done
        return logs

    def some_batches(iterator, most):
        room = model.steps_per_execution
        plans = executions.ahead(most) if room > 1 else []
        if executions.are_stock(plans) and most == room and batches.foresight.left is not None:
            return executions.carry_out_stock(plans, lambda program: program(0, iterator))
        if len(plans) > 1:
            return several(plans, room, iterator)
        return one_batch(iterator), 1

    def one_batch(iterator):
        data = iterator
        if batches.looks():
            data = taken(iterator)
            batches.look(lambda program: program(data[0]))
        plan = batches.plan()
        alone = model.steps_per_execution == len(plan) == 1 and not batches.substitutes
        if data is iterator and not alone:
            data = taken(iterator)
        if data is not iterator:
            batch = batches.substitute(data[0])
            data = batch, data[1] if batch is data[0] else None
        return batches.carry_out(plan, lambda program, index: program(index, data), memory)

    def several(plans, room, source, rows=None):
        return executions.carry_out(
            plans, room, lambda program, turns: program(turns, source), memory, rows
        )

    def one_row(arrays, rows):
        batch = rows_of(arrays, rows)
        if batches.looks():
            batches.look(lambda program: program(batch))
        plan = batches.plan()
        return batches.carry_out(plan, lambda program, index: program(index, (batch, None)), memory)

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
    several = model._make_function(step) if model.steps_per_execution > 1 else compiled

    def program(iterator):
        if _is_iterator(iterator):
            return several(iterator)
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
