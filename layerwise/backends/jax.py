"""Programs on JAX: one `jax.jit` for some Updates. Weights and slots of the moving blocks are donated, the rest is read."""

import contextlib
import functools
import itertools
import signal
import threading

import jax
import jax.numpy as jnp
import keras
import numpy as np

USED = {
    "keras.src.backend.jax.trainer.JAXTrainer": (
        "_make_function",
        "_update_metrics_variables",
        "_get_jax_state",
        "jax_state_sync",
    ),
    "keras.src.optimizers.loss_scale_optimizer.LossScaleOptimizer": ("check_finite",),
}

# Whether several Updates share a program.
SHARES = True


def check(model, schedule):
    """Raises where this backend cannot do what the model was compiled for."""


def scope(model):
    """The context in which variables for a model are created."""
    return contextlib.nullcontext()


def fill(variable, shape, number):
    """Fills a variable with a number, and gives it its memory back if it was released."""
    variable._shape = shape
    variable.assign(np.full(shape, number, "float32"))


def release(variable):
    """Frees a variable's memory; `fill` brings it back."""
    fill(variable, _empty(variable), 0)


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

    if _compiles(model):
        run = jax.jit(run)
    return functools.partial(run, values)


def wait(result):
    """Returns when a result is there."""
    jax.block_until_ready(result)


def program(session, updates, record):
    """The compiled step that some Updates share.

    It takes which one, fit's state, and a batch, and returns logs (empty unless `record`) and the state.
    """
    if updates[0].blocks is None:
        return lambda index, state, data: session.stock_train_function(state, iter([data]))
    return _Program(session, updates, record)


def train_function(session):
    """What stands in for `model.train_function`: finds the program of each Update and runs it."""
    model = session.model
    at = {id(v): i for i, v in enumerate(model.optimizer.variables)}

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
            logs, state = _one_batch(session, state, data, at)
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

    if _compiles(model):
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
        step = functools.partial(_step, session, shared, True, layout, chosen=None, only=update)
        others = keras.tree.map_structure(spec, others)
        lowered = jax.jit(step).lower(keras.tree.map_structure(spec, moving), others, data)
    return int(lowered.cost_analysis()["flops"])


def _compiles(model):
    """Whether the model's functions are compiled, rather than run as Python at every step."""
    return model.jit_compile and not model.run_eagerly


class _Program:
    """The compiled step of some Updates."""

    def __init__(self, session, updates, record):
        self.session, self.updates = session, updates
        self.layout = _Layout(session, updates)
        # jit caches by function: one for each program
        self.step = functools.partial(_step, session, updates, record, self.layout)
        self.jitted, self.compiled = None, False

    def __call__(self, index, state, data):
        model, step = self.session.model, self.step
        if _compiles(model):
            if not self.compiled:
                self._compile(index, state, data)
                self.compiled = True
            step = self.jitted
        logs, moving, others = step(*self._arguments(index, state, data))
        return logs, self.layout.join(state, moving, others)

    def lower(self, index, state, data):
        """The traced step, which jit remembers."""
        moving, others, *rest = self._arguments(index, state, data)
        if self.jitted is None:
            shardings = _out_shardings(moving, others)
            self.jitted = jax.jit(self.step, donate_argnums=0, out_shardings=shardings)
        return self.jitted.lower(moving, others, *rest)

    def _compile(self, index, state, data):
        """Compiles in a thread, while this one traces the program that comes next. Errors are left to the steps."""
        lowered = self.lower(index, state, data)

        def compiling():
            with contextlib.suppress(Exception):
                lowered.compile()  # jit has it then

        thread = threading.Thread(target=compiling)
        thread.start()
        with contextlib.suppress(Exception):
            following = self.session.following()
            if following is not None:
                following.lower(0, state, data)
        thread.join()

    def _arguments(self, index, state, data):
        chosen = None
        if len(self.updates) > 1:  # not the index: XLA would make a kernel of each comparison
            chosen = [i == index for i in range(len(self.updates))]
        return *self.layout.split(state), data, chosen


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
        slots = [[at[id(slot)] for slot, _ in slots] for slots in optimizer.slots]
        self.slots = [i for k in blocks for i in slots[k]]
        self.scalars = sorted(set(at.values()) - set(itertools.chain(*slots)))
        self.head = []
        if update.head is not None:
            head = session.heads[update.head]
            self.head = head.variables + optimizer.head_variables(update.head)
        self.own = optimizer.block_variables(blocks) + self.head
        groups = (model.trainable_variables, model.optimizer.variables)
        self.moving_variables = [
            [groups[0][i] for i in self.moving],
            [groups[1][i] for i in self.slots],
        ]
        self.scalar_variables = [groups[1][i] for i in self.scalars]
        self.other_variables = [
            [groups[0][i] for i in self.resting],
            model.non_trainable_variables,
            self.scalar_variables,
            model.metrics_variables,
            self.own,
        ]

    def written(self, session, update):
        """The variables that the optimizer's step of one of the Updates may write."""
        optimizer = session.optimizer
        weights = [v for k in update.blocks for v in session.blocks[k].variables]
        slots = [slot for k in update.blocks for slot, _ in optimizer.slots[k]]
        own = optimizer.block_variables(update.blocks) + self.head
        return [*weights, *slots, *self.scalar_variables, *own]

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


def _step(session, updates, record, layout, moving, others, data, chosen, only=None):
    """The step of Updates that share a program. `chosen`: for each, whether it runs; `only`: it is always this one."""
    if only is None:
        session.traces[updates, record] += 1
    model = session.model
    groups = [*layout.moving_variables, *layout.other_variables]
    values = {
        id(v): (v, array)
        for variables, arrays in zip(groups, [*moving, *others], strict=True)
        for v, array in zip(variables, arrays, strict=True)
    }
    loss, y_pred, changed, gradients = _backward(session, updates[0], layout, values, data)
    values |= changed

    for i, update in enumerate(updates if only is None else (only,)):
        variables = session.variables(update)
        written = [values[id(v)] for v in layout.written(session, update)]
        moved = [gradients[id(v)] for v in variables]
        apply = functools.partial(_apply, session, moved, variables, written)
        if chosen is None:
            new = apply()
        else:
            new = jax.lax.cond(chosen[i], apply, lambda old=written: [array for _, array in old])
        values |= {id(v): (v, value) for (v, _), value in zip(written, new, strict=True)}

    logs = {}
    metrics = [values[id(v)][1] for v in model.metrics_variables]
    if record:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
    moving = [[values[id(v)][1] for v in variables] for variables in layout.moving_variables]
    non_trainable, scalars, _, own = (
        [values[id(v)][1] for v in variables] for variables in layout.other_variables[1:]
    )
    return logs, moving, [non_trainable, scalars, metrics, own]


def _backward(session, update, layout, values, data):
    """Loss, predictions, what the forward pass changes as `{id: (variable, array)}`, and `{id: gradient}`.

    Tracing costs as much as compiling where layers are many. So all Updates of the whole model share one trace, with
    all gradients; JAX drops from a program what leads only to gradients that it does not use.
    """
    model = session.model
    compiles = _compiles(model)
    weights = model.trainable_variables if compiles and not update.stage else layout.variables
    changing = [*model.non_trainable_variables, *model.metrics_variables]
    if update.head is not None:
        changing += session.heads[update.head].non_trainable_variables
    ids = {id(v) for v in weights}
    rest = [v for v in model.trainable_variables if id(v) not in ids]
    rest += [*changing, *layout.scalar_variables]

    def loss_and_updates(weight_values, rest_values, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        mapping = [*zip(weights, weight_values, strict=True), *zip(rest, rest_values, strict=True)]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            y_pred, loss = session.forward(update, x, y, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        return scaled, (loss, y_pred, [scope.get_current_value(v) for v in changing])

    arguments = [values[id(v)][1] for v in weights], [values[id(v)][1] for v in rest], data
    backward = jax.value_and_grad(loss_and_updates, has_aux=True)
    if compiles:
        key = update if update.stage else None
        backward = session.backwards.setdefault(key, jax.jit(backward, inline=True))
    (_, (loss, y_pred, changed)), gradients = backward(*arguments)
    changed = {id(v): (v, value) for v, value in zip(changing, changed, strict=True)}
    return loss, y_pred, changed, {id(v): g for v, g in zip(weights, gradients, strict=True)}


def _apply(session, gradients, variables, written):
    """What the optimizer's step makes of `[(variable, array)]`, all that it may write, without side effects."""

    def apply(gradients):
        with keras.StatelessScope(written) as scope:
            session.optimizer.apply(gradients, variables, unscaled=True)
        return [scope.get_current_value(v) for v, _ in written]

    optimizer = session.model.optimizer
    if optimizer is session.optimizer.rule:
        return apply(gradients)
    # LossScaleOptimizer's own branches assign variables, which under JAX leaks them out of the branch
    arrays = {id(v): array for v, array in written}
    counter, scale = arrays[id(optimizer.step_counter)], arrays[id(optimizer.dynamic_scale)]
    finite = optimizer.check_finite(gradients)
    new = jax.lax.cond(
        finite,
        lambda: apply([g / scale.astype(g.dtype) for g in gradients]),
        lambda: [array for _, array in written],
    )
    grows = finite & (counter == optimizer.dynamic_growth_steps - 1)
    counter = jnp.where(finite & ~grows, counter + 1, 0).astype(counter.dtype)
    scale = jnp.where(finite, jnp.where(grows, scale * 2.0, scale), scale * 0.5)
    own = {id(optimizer.step_counter): counter, id(optimizer.dynamic_scale): scale}
    return [own.get(id(v), value) for (v, _), value in zip(written, new, strict=True)]


def _one_batch(session, state, data, at):
    """One batch's Updates. `at`: where the optimizer's variables are in fit's state."""

    def fill_in_state(variable, shape, number):
        value = jnp.asarray(np.full(shape, number, "float32"), variable.dtype)
        state[2][at[id(variable)]] = _placed(variable, value)
        variable._shape = shape

    def release_in_state(variable):
        fill_in_state(variable, _empty(variable), 0)

    def run(update, record):
        nonlocal state
        logs, state = session.run(update, record, state, data)
        _attach(session.model, state)
        return logs

    plan = session.plan()
    shown = session.carry_out(plan, run, fill_in_state, release_in_state, _uninterrupted)
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
    """The shape of no elements, in as many dimensions (a layout has one name for each)."""
    return (0, *variable.shape[1:]) if variable.shape else ()


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
