"""What stands in for the functions of a running `fit` on JAX, which holds all arrays in a state of its own."""

import contextlib
import functools
import itertools
import signal
import threading

import jax
import jax.numpy as jnp
import keras
import numpy as np

from layerwise.backends.jax.execution import alike, can_stack, rows_of, stacked
from layerwise.backends.jax.memory import empty_shape
from layerwise.backends.jax.step import compiles


def check(model):
    """Raises where this backend cannot do what the model was compiled for."""


def build(model, with_optimizer=True):
    """Builds a model from the data of the calling `fit`: here `fit` did that itself."""


def train_function(model, batches):
    """What stands in for `model.train_function`: takes each batch its way through `batches`."""
    at = {id(v): i for i, v in enumerate(model.optimizer.variables)}
    executions = batches.executions

    def train_function(state, iterator):
        now = [state]  # as the last Update left it
        _attach(model, state)
        if batches.resident is not None:
            return executions.epoch(
                functools.partial(execute, now),
                lambda arrays, rows: one_batch(now, rows_of(arrays, rows)),
            ), now[0]
        waiting = list(itertools.islice(iterator, model.steps_per_execution))
        if not waiting:
            raise StopIteration
        while waiting:
            logs, done = some_batches(now, waiting)
            waiting = waiting[done:]
        return logs, now[0]

    def some_batches(now, waiting):
        room = model.steps_per_execution
        plans = executions.ahead(alike(waiting)) if room > 1 else []
        if executions.are_stock(plans):
            several = waiting[: len(plans)]
            return executions.carry_out_stock(plans, lambda program: stock(now, program, several))
        if len(plans) > 1 and can_stack(waiting[0]):
            source, rows = stacked(waiting[: len(plans)], room)
            return execute(now, plans, room, source, rows)
        return one_batch(now, waiting[0]), 1

    def stock(now, program, several):
        with _uninterrupted():
            logs, now[0] = program(0, now[0], several, None)
            _attach(model, now[0])
        return logs

    def execute(now, plans, room, source, rows):
        def run(program, turns):
            logs, now[0] = program(turns, now[0], source)
            _attach(model, now[0])
            return logs, int(turns.batches)

        with _uninterrupted():
            return executions.carry_out(plans, room, run, memory(now), rows)

    def one_batch(now, data):
        if batches.looks():
            batches.look(lambda program: program(data, now[0]))
        batch = batches.substitute(data)

        def run(program, index):
            logs, now[0] = program(index, now[0], batch, batches.following)
            _attach(model, now[0])
            return logs

        return batches.carry_out(batches.plan(), run, memory(now), _uninterrupted)

    def memory(now):
        """How slots get and lose their memory, which fit's state holds."""

        def fill(variable, shape, number):
            value = jnp.asarray(np.full(shape, number, "float32"), variable.dtype)
            now[0][2][at[id(variable)]] = _placed(variable, value)
            variable._shape = shape

        def release(variable):
            fill(variable, empty_shape(variable), 0)

        return fill, release

    return train_function


def stock_program(function):
    """The model's own train function as a program: of a batch, or of a list of them."""
    return lambda index, state, data, following: function(
        state, iter(data if isinstance(data, list) else [data])
    )


def test_program(model, forward, heads):
    """The compiled test step of a forward pass."""

    def step(state, head_values, data):
        trainable, non_trainable, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        mapping = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, non_trainable, strict=True),
            *zip(model.metrics_variables, metrics, strict=True),
            *zip(heads, head_values, strict=True),
        ]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            y_pred, loss = forward(x, y, sample_weight, training=False)
        metrics = [scope.get_current_value(v) for v in model.metrics_variables]
        logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
        return logs, metrics

    if compiles(model):
        step = jax.jit(step)

    def test_step(state, data):
        logs, metrics = step(state, [v.value for v in heads], data)
        return logs, (*state[:2], metrics)

    return model._make_function(test_step)


def test_function(program, batches):
    """What stands in for `model.test_function` while a stage is trained."""
    return lambda state, iterator: program(state, map(batches.substitute, iterator))


def inference(model, function, variables):
    """`function` of tensors compiled, with `variables` (all that it reads) as they are now."""
    # The variables themselves are empty while fit holds the state.
    values = [v.value for v in variables]

    def run(values, *tensors):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(*tensors)

    if compiles(model):
        run = jax.jit(run)
    return functools.partial(run, values)


def wait(result):
    """Returns when a result is there."""
    jax.block_until_ready(result)


def settle(model):
    """Returns when all is done that steps of a model have begun."""
    jax.block_until_ready(vars(model).get("_jax_state"))


@contextlib.contextmanager
def _uninterrupted():
    """Lets Ctrl-C wait for the end of an Update: one between a step and its result would lose the donated arrays."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():
        yield  # Python does not handle signals here
        return
    caught = []
    signal.signal(signal.SIGINT, lambda *arguments: caught.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)


def _attach(model, state):
    """Lets Keras find the state if what comes next is interrupted: donated arrays are gone."""
    names = (
        "trainable_variables",
        "non_trainable_variables",
        "optimizer_variables",
        "metrics_variables",
    )
    # As it is: an attribute would be copied.
    vars(model)["_jax_state"] = dict(zip(names, state, strict=True))


def _placed(variable, value):
    """An array laid out as a variable's is, under a `keras.distribution`."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return value
    return jax.device_put(value, distribution.get_variable_layout(variable).backend_layout)
