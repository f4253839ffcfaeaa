"""What the model's optimizer would do to the moving blocks, from its present state, without doing it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from layerwise.backends import backend, clocked, double, internals, twin
from layerwise.optimizers.slots import like
from layerwise.steps import Update


class Clock(NamedTuple):
    """How a schedule's optimizer sees a block.

    Attributes:
        updates: The block's own step count.
        product: The block's own running product of Nadam, or None.
        factor: The factor of the block's learning rate.
    """

    updates: int
    product: float | None
    factor: float


class _BlockGroup:
    """Variables with one clock, as `clocked` wants them."""

    def __init__(self, clock, rule):
        self.factor, self._stock_product = clock.factor, internals.running_product(rule)
        self._count = keras.Variable(clock.updates, dtype=rule.iterations.dtype, trainable=False)
        self._product = None
        if clock.product is not None:
            self._product = keras.Variable(clock.product, dtype="float64", trainable=False)

    def update(self, optimizer, rule, gradients, variables, learning_rate):
        products = None if self._product is None else (self._product, self._stock_product)
        clocked.update_with_count(
            optimizer, rule, gradients, variables, learning_rate, self._count, products, self.factor
        )


class _HeadGroup:
    """The variables of an auxiliary head: an optimizer like the one that a schedule has for it, in its state."""

    factor = None

    def __init__(self, optimizer):
        self._optimizer = optimizer

    def update(self, optimizer, rule, gradients, variables, learning_rate):
        clocked.update_step(self._optimizer, gradients, variables, learning_rate)


def clocks_of(session: Any) -> dict[int, Clock]:
    """`{id(variable): Clock}` of the blocks that a schedule trains now."""
    optimizer, position = session.block_model.optimizer, session.progress.position
    products = iter(optimizer.own_variables())
    has_product = internals.running_product(optimizer.rule) is not None
    factors = session.schedule.factors(position.epoch, position.step)
    clocks: dict[int, Clock] = {}
    for k, count in enumerate(optimizer.counts()):
        next(products)
        product = float(backend.to_numpy(next(products))) if has_product else None
        clock = Clock(count, product, float(factors.get(k, 1.0)))
        clocks |= {id(v): clock for v in session.block_model.blocks[k].variables}
    return clocks


def displacement_in(
    session: Any,
    model: keras.Model,
    variables: Sequence[Any],
    gradients: Sequence[np.ndarray | None],
    heads: Mapping[int, Any],
    update: Update,
) -> list[np.ndarray]:
    """How far each variable would move in a running fit of a schedule, or in none.

    Args:
        session: The schedule's session; None: no schedule trains the model.
        model: The compiled model.
        variables: The variables that move.
        gradients: One for each, None where the loss does not depend on it.
        heads: `{k: keras.Model}`: the schedule's auxiliary heads that the losses go through.
        update: The Update.
    """
    known = None if session is None else session.block_model.optimizer
    if known is None:
        return displacement(model.optimizer, variables, gradients, every=model.trainable_variables)
    return displacement(
        model.optimizer,
        variables,
        gradients,
        clocks=clocks_of(session),
        released=frozenset(known.slots.released),
        heads=[(heads[k].trainable_variables, k in update.heads) for k in heads],
        head_state=[backend.to_numpy(v) for v in known.head_variables()],
    )


def displacement(
    optimizer: Any,
    variables: Sequence[Any],
    gradients: Sequence[np.ndarray | None],
    clocks: Mapping[int, Clock] | None = None,
    released: frozenset[int] = frozenset(),
    heads: Sequence[tuple[Sequence[Any], bool]] = (),
    head_state: Sequence[np.ndarray] = (),
    every: Sequence[Any] = (),
) -> list[np.ndarray]:
    """How far each variable would move, in float64: momentum, bias correction, clipping, decay and constraints included.

    Args:
        optimizer: The model's optimizer. One that is not built stays so.
        variables: The variables that move.
        gradients: One for each, None where the loss does not depend on it.
        clocks: `{id(variable): Clock}` where a schedule trains block by block; None: the optimizer's own step count.
        released: The ids of slots that a schedule has released: they start afresh.
        heads: The variables of each auxiliary head of the schedule, and whether the head moves.
        head_state: The values of the state of the heads' optimizers, one after another.
        every: All variables that the optimizer would be built for, if it is not built.

    Returns:
        One float64 array for each variable.
    """
    if all(g is None for g in gradients):
        return [np.zeros(tuple(v.shape)) for v in variables]
    rule = getattr(optimizer, "inner_optimizer", optimizer)
    with backend.double_context(), double.promoting(backend.REPLACED):
        copy, copies = twin.twin(rule, backend.to_numpy, every)
        cls = type(copy)
        groups = {} if clocks is None else _groups(copy, copies, rule, clocks, heads, head_state)
        moved = [copies[id(v)] for v in variables]
        if released:
            _renew(rule, copy, variables, copies, released)
        before = [np.array(backend.to_numpy(v)) for v in moved]
        # What the loss does not depend on stays as it is: Keras leaves it, with a warning.
        pairs = [
            (keras.ops.convert_to_tensor(g, "float64"), v)
            for g, v in zip(gradients, moved, strict=True)
            if g is not None
        ]
        tensors, targets = [g for g, _ in pairs], [v for _, v in pairs]
        if clocks is None:
            copy.apply(tensors, targets)
        else:
            with clocked.clocked(copy, cls, clocked.clocked_class(cls), groups, True):
                copy.apply(tensors, targets)
        return [backend.to_numpy(v) - b for v, b in zip(moved, before, strict=True)]


def _groups(copy, copies, rule, clocks, heads, head_state):
    """`{id(copy of a variable): group}`; copies of the heads' variables are added to `copies`."""
    by_clock = {clock: _BlockGroup(clock, copy) for clock in clocks.values()}
    groups = {id(copies[key]): by_clock[clock] for key, clock in clocks.items() if key in copies}
    values = iter(head_state)
    for variables, moves in heads:
        own = like(rule)
        doubles = [twin.double_copy(v, backend.to_numpy) for v in variables]
        own.build(doubles)
        product = internals.running_product(own)
        for variable in [*own.variables, *([] if product is None else [product])]:
            variable.assign(next(values))
        if moves:
            group = _HeadGroup(own)
            copies |= {id(v): d for v, d in zip(variables, doubles, strict=True)}
            groups |= {id(d): group for d in doubles}
    return groups


def _renew(rule, copy, variables, copies, released):
    """Gives a copy those of a new optimizer in the place of slots that are released and have no values."""
    fresh, known = like(rule), internals.trained_variables(rule)
    index = {id(v): i for i, v in enumerate(known)}
    own = [v for v in variables if id(v) in index]
    fresh.build([copies[id(v)] for v in own])
    new = internals.slot_lists(fresh)
    for name, slots in internals.slot_lists(rule).items():
        for i, variable in enumerate(own):
            place = index[id(variable)]
            if slots[place] is not None and id(slots[place]) in released:
                vars(copy)[name][place] = new[name][i]
