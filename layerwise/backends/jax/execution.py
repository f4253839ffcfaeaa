"""Several batches in one `jax.jit`: a loop over them, with a branch for each of the steps that it may take."""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np

from layerwise.backends import internals
from layerwise.backends.jax.layout import Layout
from layerwise.backends.jax.step import compiles, traced_step


def execution(spec):
    """The compiled execution of an `ExecutionSpec`.

    Returns:
        `run(turns, state, source)`: carries out some `Turns` on the batches that their rows of arrays are, and returns the
        logs of the last and fit's state.
    """
    layout = Layout(*(program.spec for program in spec.programs))
    layouts = [program.layout for program in spec.programs]
    jitted = jax.jit(functools.partial(_traced, spec, layout, layouts), donate_argnums=0)

    def run(turns, state, source):
        logs, moving, others = jitted(*layout.split(state), turns, source)
        return logs, layout.join(state, moving, others)

    return run


def can_execute(model, sets_state):
    """Whether steps of a model can be looped over; `sets_state`: state is reset or rates are set within the loop."""
    alone = keras.distribution.distribution() is None
    return internals.keeps_stock_steps(model) and compiles(model) and alone


def loops_pay(model, x):
    """Whether steps of a model, which takes such x, are as fast within a loop as one by one.

    On a CPU, XLA runs convolutions within loops several times slower.
    """
    if jax.default_backend() != "cpu":
        return True

    def forward(x):
        with keras.StatelessScope():
            return internals.call(model, x, training=True)

    return "conv_general_dilated" not in str(jax.make_jaxpr(forward)(x))


def resident(arrays):
    """Arrays on the device, from which batches are taken by their rows."""
    return keras.tree.map_structure(jnp.asarray, arrays)


def nothing():
    """Batches without end that nobody reads, for a `fit` whose data is resident."""
    while True:
        yield (np.zeros((1, 1), "float32"),)


def rows_of(arrays, rows):
    """Some rows of arrays."""
    return keras.tree.map_structure(lambda array: jnp.take(array, rows, axis=0), arrays)


def alike(batches):
    """How many batches from the first on have its shapes: one program can carry them out."""
    shapes = [str(keras.tree.map_structure(_shape, batch)) for batch in batches]
    return next((i for i, shape in enumerate(shapes) if shape != shapes[0]), len(shapes))


def can_stack(batch):
    """Whether a batch is arrays alone, which can be put under those of others: nothing is missing, and nothing sparse."""
    return all(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in keras.tree.flatten(batch))


def stacked(batches, room):
    """The rows of some batches of one shape under each other, with room for so many, and the rows of each batch."""
    filled = [*batches, *batches[:1] * (room - len(batches))]
    source = keras.tree.map_structure(lambda *arrays: np.concatenate(arrays), *filled)
    size = len(keras.tree.flatten(batches[0])[0])
    return source, np.arange(room * size).reshape(room, size)


def _shape(array):
    return None if array is None else (array.shape, str(array.dtype))


def _traced(spec, layout, layouts, moving, others, turns, source):
    """The execution. A step that is not taken hands its block's arrays on, which costs nothing; others it never sees."""
    spec.traced()
    resting, *changing = others

    def batch(i, carried):
        data = rows_of(source, turns.rows[i])

        def turn(t, carried):
            resets, rates = (None if a is None else a[i, t] for a in (turns.resets, turns.rates))
            for k, (program, own) in enumerate(zip(spec.programs, layouts, strict=True)):
                step = functools.partial(
                    _step, program.spec, own, data, turns.index[i, t], resets, rates
                )
                taken = turns.step[i, t] == k if len(layouts) > 1 else None
                carried = _branch(layout, own, resting, carried, step, taken)
            return carried

        if turns.step.shape[1] == 1:
            return turn(0, carried)
        return jax.lax.fori_loop(0, turns.count[i], turn, carried)

    moving, changing = jax.lax.fori_loop(0, turns.batches, batch, (moving, changing))
    metrics = zip(spec.model.metrics_variables, changing[2], strict=True)
    with keras.StatelessScope(list(metrics)):
        logs = spec.model.get_metrics_result()
    return logs, moving, changing


def _branch(layout, own, resting, carried, step, taken):
    """Takes a step where `taken` says so (None: always)."""
    values = layout.values(carried[0], [resting, *carried[1]])
    moving, others = own.arrays(values)
    if taken is None:
        moving, changed = step(moving, others)
    else:
        moving, changed = jax.lax.cond(
            taken, lambda: step(moving, others), lambda: (moving, others[1:])
        )
    values |= own.values(moving, [others[0], *changed])
    moving, (_, *changing) = layout.arrays(values)
    return moving, changing


def _step(spec, layout, data, index, resets, rates, moving, others):
    chosen = None
    if len(spec.moves) > 1:
        chosen = [index == i for i in range(len(spec.moves))]
    begin = functools.partial(spec.begin, resets, rates)
    return traced_step(spec, layout, moving, others, data, chosen, begin=begin)[1:]
