"""Programs on JAX: one `jax.jit` per Update. The moving blocks' weights and slots are donated, the rest is only read."""

import contextlib
import functools
import signal
import threading

import jax
import jax.numpy as jnp
import keras

USED = {
    "keras.src.backend.jax.trainer.JAXTrainer": (
        "_make_function",
        "_update_metrics_variables",
        "_get_jax_state",
        "jax_state_sync",
    ),
    "keras.src.optimizers.loss_scale_optimizer.LossScaleOptimizer": ("check_finite",),
}


def check(model, schedule):
    """Raises where this backend cannot do what the model was compiled for."""


def scope(model):
    """The context in which variables for a model are created."""
    return contextlib.nullcontext()


def assign(variable, value):
    """Gives a variable a value, and its memory back if it was released."""
    variable._shape = tuple(value.shape)
    variable.assign(value)


def release(variable):
    """Frees a variable's memory; `assign` brings it back."""
    assign(variable, _empty(variable))


def nbytes(variable, model):
    """The bytes that a variable holds now."""
    model.jax_state_sync()
    return variable.value.nbytes


def to_numpy(variable):
    """A variable's value as an array."""
    return keras.ops.convert_to_numpy(variable.value)


def replicas(model):
    """The number of devices that share a batch."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.device_mesh.devices.size


def inference(model, function, variables):
    """`function` of tensors compiled, with `variables` (all that it reads) as they are now."""
    values = [
        v.value for v in variables
    ]  # the variables themselves are empty while fit holds the state

    def run(values, *tensors):
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(*tensors)

    if model.jit_compile and not model.run_eagerly:
        run = jax.jit(run)
    return functools.partial(run, values)


def wait(result):
    """Returns when a result is there."""
    jax.block_until_ready(result)


def program(session, updates, record):
    """The compiled step that some Updates share.

    It takes which one, fit's state, and a batch, and returns logs (empty unless `record`) and the state.
    """
    model = session.model
    if updates[0].blocks is None:
        return lambda index, state, data: session.stock_train_function(state, iter([data]))
    layout = _Layout(session, updates)
    step = functools.partial(
        _step, session, updates, record, layout
    )  # jit caches by function: one for each program
    compiled = step

    def run(index, state, data):
        nonlocal compiled
        moving, others = layout.split(state)
        if compiled is step and model.jit_compile and not model.run_eagerly:
            compiled = jax.jit(step, donate_argnums=0, out_shardings=_out_shardings(moving, others))
        logs, moving, others = compiled(moving, others, data, index if len(updates) > 1 else None)
        return logs, layout.join(state, moving, others)

    return run


def train_function(session):
    """What stands in for `model.train_function`: finds the program of each Update and runs it."""
    model = session.model

    def train_function(state, iterator):
        _attach(model, state)
        logs = None
        for _ in range(model.steps_per_execution):
            try:
                data = session.take(next(iterator))
            except StopIteration:
                if logs is None:
                    raise
                break
            logs, state = _one_batch(session, state, data)
        return logs, state

    return train_function


def test_function(session, update):
    """What stands in for `model.test_function` while the stage of an Update is trained."""
    model = session.model
    extra = [] if update.head is None else session.heads[update.head].variables

    def step(state, extra_values, data):
        trainable, non_trainable, metrics = state
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        mapping = [
            *zip(model.trainable_variables, trainable, strict=True),
            *zip(model.non_trainable_variables, non_trainable, strict=True),
            *zip(model.metrics_variables, metrics, strict=True),
            *zip(extra, extra_values, strict=True),
        ]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            y_pred, loss = session.forward(update, x, y, sample_weight, training=False)
        metrics = [scope.get_current_value(v) for v in model.metrics_variables]
        logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
        return logs, metrics

    if model.jit_compile and not model.run_eagerly:
        step = jax.jit(step)

    def test_step(state, data):
        logs, metrics = step(state, [v.value for v in extra], data)
        return logs, (*state[:2], metrics)

    program = session.test_program(update, lambda: model._make_function(test_step))
    return lambda state, iterator: program(state, map(session.take, iterator))


def flops(session, update, x, y):
    """FLOPs of the lowered step, by XLA's cost analysis."""
    model = session.model
    model.jax_state_sync()

    def spec(a):
        return jax.ShapeDtypeStruct(a.shape, keras.backend.standardize_dtype(a.dtype))

    data = keras.tree.map_structure(spec, (x, y))
    variables = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    if update.blocks is None:
        state = keras.tree.map_structure(spec, variables)
        lowered = jax.jit(lambda state, data: model.train_step(state, data)).lower(state, data)
    else:
        shared = session.sharing(update)
        layout = _Layout(session, shared)
        state = [[_full(session, v, spec) for v in group] for group in variables]
        moving, others = layout.split(state)
        step = functools.partial(_step, session, shared, True, layout, index=None, only=update)
        others = keras.tree.map_structure(spec, others)
        lowered = jax.jit(step).lower(keras.tree.map_structure(spec, moving), others, data)
    return int(lowered.cost_analysis()["flops"])


class _Layout:
    """Where the arrays of a program are in fit's state: those that its Updates move, and those that they read.

    fit's state is four lists: trainable, non-trainable, optimizer and metrics variables.
    """

    def __init__(self, session, updates):
        model, optimizer, update = session.model, session.optimizer, updates[0]
        self.variables = session.variables(*updates)
        blocks = sorted({k for update in updates for k in update.blocks})
        at = {id(v): i for i, v in enumerate(model.trainable_variables)}
        self.moving = [at[id(v)] for v in self.variables if id(v) in at]
        self.resting = sorted(set(at.values()) - set(self.moving))
        at = {id(v): i for i, v in enumerate(model.optimizer.variables)}
        slots = [slot for k in range(len(session.blocks)) for slot, _ in optimizer.slots[k]]
        moving_slots = [slot for k in blocks for slot, _ in optimizer.slots[k]]
        self.slots = [at[id(slot)] for slot in moving_slots if id(slot) in at]
        every = {at[id(slot)] for slot in slots if id(slot) in at}
        self.scalars = [i for i in range(len(at)) if i not in every]
        self.own = optimizer.block_variables(blocks)
        if update.head is not None:
            head = session.heads[update.head]
            self.own += head.variables + optimizer.head_variables(update.head)
        groups = (model.trainable_variables, model.optimizer.variables)
        self.moving_variables = [
            [groups[0][i] for i in self.moving],
            [groups[1][i] for i in self.slots],
        ]
        self.other_variables = [
            [groups[0][i] for i in self.resting],
            model.non_trainable_variables,
            [groups[1][i] for i in self.scalars],
            model.metrics_variables,
            self.own,
        ]

    def split(self, state):
        """The arrays that move and those that do not, each as a list of lists."""
        trainable, non_trainable, optimizer, metrics = state
        moving = [[trainable[i] for i in self.moving], [optimizer[i] for i in self.slots]]
        others = [
            [trainable[i] for i in self.resting],
            non_trainable,
            [optimizer[i] for i in self.scalars],
            metrics,
            [v.value for v in self.own],
        ]
        return moving, others

    def join(self, state, moving, others):
        """Fit's state after a step."""
        trainable, optimizer = list(state[0]), list(state[2])
        non_trainable, scalars, metrics, own = others
        for indices, values, target in (
            (self.moving, moving[0], trainable),
            (self.slots, moving[1], optimizer),
            (self.scalars, scalars, optimizer),
        ):
            for i, value in zip(indices, values, strict=True):
                target[i] = value
        for variable, value in zip(self.own, own, strict=True):
            variable._value = value
        return trainable, non_trainable, optimizer, metrics


def _step(session, updates, record, layout, moving, others, data, index, only=None):
    """The step of Updates that share a program. `index`: which of them runs; `only`: it is always this one."""
    if only is None:
        session.traces[updates, record] += 1
    model, own = session.model, layout.own
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    groups = [*layout.moving_variables, *layout.other_variables]
    values = {
        id(v): (v, array)
        for variables, arrays in zip(groups, [*moving, *others], strict=True)
        for v, array in zip(variables, arrays, strict=True)
    }
    changing = [*model.non_trainable_variables, *model.metrics_variables, *own]

    def loss_and_updates(weights):
        mapping = values | {id(v): (v, w) for v, w in zip(layout.variables, weights, strict=True)}
        with keras.StatelessScope(list(mapping.values()), collect_losses=True) as scope:
            y_pred, loss = session.forward(updates[0], x, y, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        updated = [scope.get_current_value(v) for v in changing]
        return scaled, (loss, y_pred, updated)

    weights = [values[id(v)][1] for v in layout.variables]
    (_, (loss, y_pred, updated)), gradients = jax.value_and_grad(loss_and_updates, has_aux=True)(
        weights
    )
    values |= {id(v): (v, value) for v, value in zip(changing, updated, strict=True)}
    by_variable = {id(v): g for v, g in zip(layout.variables, gradients, strict=True)}
    written = [
        v for group in (*layout.moving_variables, layout.other_variables[2], own) for v in group
    ]

    def apply(update):
        moving = session.variables(update)
        return _apply(session, [by_variable[id(v)] for v in moving], moving, values, written)

    if index is None:
        new = apply(only or updates[0])
    else:
        new = jax.lax.switch(index, [functools.partial(apply, update) for update in updates])
    values |= {id(v): (v, value) for v, value in zip(written, new, strict=True)}

    logs = {}
    metrics = [values[id(v)][1] for v in model.metrics_variables]
    if record:
        logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
    moving = [[values[id(v)][1] for v in variables] for variables in layout.moving_variables]
    non_trainable, scalars, _, own = (
        [values[id(v)][1] for v in variables] for variables in layout.other_variables[1:]
    )
    return logs, moving, [non_trainable, scalars, metrics, own]


def _apply(session, gradients, variables, values, written):
    """What the optimizer's step on `{id: (variable, array)}` writes, without side effects."""

    def apply(gradients):
        with keras.StatelessScope(list(values.values())) as scope:
            session.optimizer.apply(gradients, variables, unscaled=True)
        return [scope.get_current_value(v) for v in written]

    optimizer = session.model.optimizer
    if optimizer is session.optimizer.rule:
        return apply(gradients)
    # LossScaleOptimizer's own branches assign variables, which under JAX leaks them out of the branch
    counter, scale = (values[id(v)][1] for v in (optimizer.step_counter, optimizer.dynamic_scale))
    finite = optimizer.check_finite(gradients)
    new = jax.lax.cond(
        finite,
        lambda: apply([g / scale.astype(g.dtype) for g in gradients]),
        lambda: [values[id(v)][1] for v in written],
    )
    grows = finite & (counter == optimizer.dynamic_growth_steps - 1)
    counter = jnp.where(finite & ~grows, counter + 1, 0).astype(counter.dtype)
    scale = jnp.where(finite, jnp.where(grows, scale * 2.0, scale), scale * 0.5)
    own = {id(optimizer.step_counter): counter, id(optimizer.dynamic_scale): scale}
    return [own.get(id(v), value) for v, value in zip(written, new, strict=True)]


def _one_batch(session, state, data):
    at = {id(v): i for i, v in enumerate(session.model.optimizer.variables)}

    def assign_in_state(variable, value):
        value = jnp.asarray(value, variable.dtype)
        if id(variable) not in at:
            variable.assign(value)
            return
        state[2][at[id(variable)]] = _placed(variable, value)
        variable._shape = tuple(value.shape)

    def release_in_state(variable):
        assign_in_state(variable, _empty(variable))

    def run(update, record):
        nonlocal state
        logs, state = session.run(update, record, state, data)
        _attach(session.model, state)
        return logs

    plan = session.plan()
    shown = session.carry_out(plan, run, assign_in_state, release_in_state, _uninterrupted)
    return shown, state


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
    vars(model)["_jax_state"] = dict(
        zip(names, state, strict=True)
    )  # as it is: an attribute would be copied


def _empty(variable):
    """No elements, in as many dimensions (a layout has one name for each)."""
    return jnp.zeros((0, *variable.shape[1:]) if variable.shape else (), variable.dtype)


def _placed(variable, value):
    """An array laid out as a variable's is, under a `keras.distribution`."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return value
    return jax.device_put(value, distribution.get_variable_layout(variable).backend_layout)


def _out_shardings(moving, others):
    """Keeps every array where it is laid out, under a `keras.distribution`."""
    if keras.distribution.distribution() is None:
        return None
    moving = [[a.sharding for a in arrays] for arrays in moving]
    return None, moving, [[a.sharding for a in others[i]] for i in (1, 2, 3, 4)]


def _full(session, variable, spec):
    """The spec of a variable with its memory, also while that is released."""
    shape = session.optimizer.shape(variable)
    return jax.ShapeDtypeStruct(shape, spec(variable).dtype)
