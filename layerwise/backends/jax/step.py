"""The step of an Update on JAX: one `jax.jit`. Weights and slots of the moving blocks are donated, the rest is read."""

import contextlib
import functools
import threading

import jax
import jax.numpy as jnp
import keras

from layerwise.backends.jax.layout import Layout

# Whether several Updates share a program.
SHARES = True

# What stock `fit` calls of an optimizer on the way to `apply`.
BEFORE_APPLY = ("stateless_apply",)


def program(spec):
    """The compiled step of a `StepSpec`.

    Returns:
        `run(index, state, data, following)`: carries out the Update of that index, and returns logs (empty unless the step
        shows any) and fit's state. `following()`, the program that is needed next and not compiled yet, or None, is traced
        while this one compiles.
    """
    return Program(spec)


class Program:
    """The compiled step of some Updates."""

    def __init__(self, spec):
        self.spec, self.layout = spec, Layout(spec)
        # jit caches by function: one for each program
        self.step = functools.partial(traced_step, spec, self.layout)
        self.jitted, self.compiled = None, False

    def __call__(self, index, state, data, following):
        step = self.step
        if compiles(self.spec.model):
            if not self.compiled:
                self._compile(index, state, data, following)
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

    def _compile(self, index, state, data, following):
        """Compiles in a thread, while this one traces the program that comes next. Errors are left to the steps."""
        lowered = self.lower(index, state, data)

        def compiling():
            with contextlib.suppress(Exception):
                lowered.compile()  # jit has it then

        thread = threading.Thread(target=compiling)
        thread.start()
        with contextlib.suppress(Exception):
            coming = following()
            if coming is not None:
                coming.lower(0, state, data)
        thread.join()

    def _arguments(self, index, state, data):
        chosen, n = None, len(self.spec.moves)
        if n > 1:  # not the index: XLA would make a kernel of each comparison
            chosen = [i == index for i in range(n)]
        return *self.layout.split(state), data, chosen


def traced_step(spec, layout, moving, others, data, chosen, only=None, begin=None):
    """The step. `chosen`: for each Update, whether it runs; `only`: the index of the one that always does; `begin`: what
    comes first within an execution.
    """
    if only is None:
        spec.traced()
    if spec.forward is None:
        return _stock_step(spec, layout, moving, others, data)
    model = spec.model
    values = layout.values(moving, others)
    if begin is not None:
        begun = [values[id(v)] for move in spec.moves for v in (*move.slots, *move.state)]
        with keras.StatelessScope(begun) as scope:
            begin()
        values |= {id(v): (v, scope.get_current_value(v)) for v, _ in begun}
    loss, y_pred, changed, gradients = _backward(spec, layout, values, data)
    values |= changed

    for i, move in enumerate(spec.moves if only is None else (spec.moves[only],)):
        written = [values[id(v)] for v in layout.written(move)]
        moved = [gradients[id(v)] for v in move.weights]
        apply = functools.partial(_apply, model.optimizer, move, moved, written)
        if chosen is None:
            new = apply()
        else:
            new = jax.lax.cond(chosen[i], apply, lambda old=written: [array for _, array in old])
        values |= {id(v): (v, value) for (v, _), value in zip(written, new, strict=True)}

    logs = {}
    if spec.shows:
        metrics = [values[id(v)][1] for v in model.metrics_variables]
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        logs, metrics = model._update_metrics_variables(metrics, loss, x, y, y_pred, sample_weight)
        values |= {id(v): (v, m) for v, m in zip(model.metrics_variables, metrics, strict=True)}
    moving, others = layout.arrays(values)
    return logs, moving, others[1:]


def _stock_step(spec, layout, moving, others, data):
    """The model's own train step, which moves all weights: its state is fit's."""
    model, values = spec.model, layout.values(moving, others)
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    state = tuple([values[id(v)][1] for v in group] for group in groups)
    logs, state = model.train_step(state, data)
    for group, arrays in zip(groups, state, strict=True):
        values |= {id(v): (v, array) for v, array in zip(group, arrays, strict=True)}
    moving, others = layout.arrays(values)
    return logs, moving, others[1:]


def _backward(spec, layout, values, data):
    """Loss, predictions, what the forward pass changes as `{id: (variable, array)}`, and `{id: gradient}`.

    Tracing costs as much as compiling where layers are many. So all steps of the whole model share one trace, with the
    gradients of all weights; JAX drops from a program what leads only to gradients that it does not use.
    """
    model, shares = spec.model, compiles(spec.model) and spec.whole
    weights = model.trainable_variables if shares else layout.weights
    ids = {id(v) for v in weights}
    changing = [*model.non_trainable_variables, *model.metrics_variables]
    changing += [v for v in spec.heads if id(v) not in ids]
    rest = [v for v in model.trainable_variables if id(v) not in ids]
    rest += [*changing, *layout.scalar_variables]

    def loss_and_updates(weight_values, rest_values, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        mapping = [*zip(weights, weight_values, strict=True), *zip(rest, rest_values, strict=True)]
        with keras.StatelessScope(mapping, collect_losses=True) as scope:
            y_pred, loss = spec.forward(x, y, sample_weight, training=True)
            scaled = model.optimizer.scale_loss(loss)
        return scaled, (loss, y_pred, [scope.get_current_value(v) for v in changing])

    arguments = [values[id(v)][1] for v in weights], [values[id(v)][1] for v in rest], data
    backward = jax.value_and_grad(loss_and_updates, has_aux=True)
    if shares:
        backward = spec.shared.setdefault("backward", jax.jit(backward, inline=True))
    (_, (loss, y_pred, changed)), gradients = backward(*arguments)
    changed = {id(v): (v, value) for v, value in zip(changing, changed, strict=True)}
    return loss, y_pred, changed, {id(v): g for v, g in zip(weights, gradients, strict=True)}


def _apply(optimizer, move, gradients, written):
    """What the optimizer's step makes of `[(variable, array)]`, all that it may write, without side effects."""

    def apply(gradients):
        with keras.StatelessScope(written) as scope:
            move.apply(gradients, unscaled=True)
        return [scope.get_current_value(v) for v, _ in written]

    if not hasattr(optimizer, "inner_optimizer"):
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


def compiles(model):
    """Whether the model's functions are compiled, rather than run as Python at every step."""
    return model.jit_compile and not model.run_eagerly


def _out_shardings(moving, others):
    """Keeps every array where it is laid out, under a `keras.distribution`."""
    if keras.distribution.distribution() is None:
        return None
    moving = [[a.sharding for a in arrays] for arrays in moving]
    return None, moving, [[a.sharding for a in others[i]] for i in (1, 2, 3, 4)]
