"""Several batches in one `tf.function`: a loop over them, with a branch for each of the steps that it may take."""

import functools

import keras
import tensorflow as tf

from layerwise.backends import internals
from layerwise.backends.tensorflow.step import on_replicas, own_function


def execution(spec):
    """The compiled execution of an `ExecutionSpec`.

    Returns:
        `run(turns, source)`: carries out some `Turns` on the next batches of an iterator, or on those that their rows of
        arrays are, and returns the logs of the last and how many there were.
    """
    model = spec.model

    def on_source(turns, source):
        spec.traced()
        batch = functools.partial(_batch, spec.programs, turns)
        if turns.rows is None:
            done = _over_iterator(turns.batches, batch, source)
        else:
            done = _over_rows(turns, batch, source)
        return on_replicas(model, model.get_metrics_result), done

    function = own_function(on_source)

    def run(turns, source):
        logs, done = function(turns, source)
        return logs, int(done)

    return run


def can_execute(model, sets_state):
    """Whether steps of a model can be looped over; `sets_state`: state is reset or rates are set within the loop."""
    replicated = model.distribute_strategy.num_replicas_in_sync > 1
    return (
        internals.keeps_stock_steps(model)
        and not model.run_eagerly
        and not (sets_state and replicated)
    )


def loops_pay(model, x):
    """Whether steps of a model, which takes such x, are as fast within a loop as one by one."""
    return True


def resident(arrays):
    """Arrays on the device, from which batches are taken by their rows."""
    return keras.tree.map_structure(tf.convert_to_tensor, arrays)


def nothing():
    """Batches without end that nobody reads, for a `fit` whose data is resident."""
    # Of no function: when one is thrown away, TensorFlow forgets how it runs all others (0.1 to 0.5 s a program).
    return tf.data.Dataset.from_tensors(tf.zeros((1, 1))).repeat()


def rows_of(arrays, rows):
    """Some rows of arrays."""
    return keras.tree.map_structure(lambda array: tf.gather(array, rows), arrays)


def _over_iterator(most, batch, iterator):
    """The loop ends with the data, or after as many batches as were asked for."""

    def body(i, goes_on):
        found = iterator.get_next_as_optional()

        def carry_out():
            batch(i, found.get_value())
            return i + 1

        goes_on = found.has_value()
        return tf.cond(goes_on, carry_out, lambda: i), goes_on

    return tf.while_loop(
        lambda i, goes_on: tf.logical_and(i < most, goes_on), body, [tf.constant(0), True]
    )[0]


def _over_rows(turns, batch, arrays):
    def body(i):
        batch(i, rows_of(arrays, turns.rows[i]))
        return (i + 1,)

    return tf.while_loop(lambda i: i < turns.batches, body, [tf.constant(0)])[0]


def _batch(programs, turns, i, data):
    """All Updates of one batch."""

    def turn(t):
        resets, rates = (None if a is None else a[i, t] for a in (turns.resets, turns.rates))

        def take(program):
            program.spec.begin(resets, rates)
            program.on_batch(turns.index[i, t], data)
            return 0

        branches = [functools.partial(take, program) for program in programs]
        if len(branches) == 1:
            branches[0]()
        else:
            tf.switch_case(turns.step[i, t], branches)
        return (t + 1,)

    if turns.step.shape[1] == 1:
        turn(0)
    else:
        tf.while_loop(lambda t: t < turns.count[i], turn, [tf.constant(0)])
