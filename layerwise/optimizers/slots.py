"""The optimizer's slots by block: kept, reset, or dropped, so that memory is held for the moving blocks only."""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import keras
import numpy as np

from layerwise.backends import backend, internals


class Memory(NamedTuple):
    """How a variable gets and loses its memory: another way for those whose arrays `fit` holds (JAX)."""

    fill: Callable[[Any, tuple, float], None]  # (variable, shape, number)
    release: Callable[[Any], None]


MEMORY = Memory(backend.fill, backend.release)


class Slots:
    """The slots of an optimizer, by block.

    Args:
        rule: The optimizer that holds them, built (of a LossScaleOptimizer, the inner one).
        blocks: The `Blocks`.
        shapes: `{id(slot): shape}` of slots that are released already.
    """

    def __init__(self, rule: Any, blocks: Any, shapes: dict[int, tuple]):
        self._rule, self._fills = rule, None
        index = {id(v): i for i, v in enumerate(internals.trained_variables(rule))}
        lists = internals.slot_lists(rule)
        self.by_block = [
            [
                (slots[index[id(v)]], name)
                for v in block.variables
                for name, slots in lists.items()
                if slots[index[id(v)]] is not None
            ]
            for block in blocks
        ]
        self._shapes = {
            id(slot): shapes.get(id(slot), tuple(slot.shape))
            for slots in self.by_block
            for slot, _ in slots
        }
        self.released = set(shapes) & set(self._shapes)

    def of(self, indices: Iterable[int]) -> list:
        """The slots of some blocks."""
        return [slot for k in indices for slot, _ in self.by_block[k]]

    def shape(self, variable: Any) -> tuple:
        """The shape of a variable, also while it is a slot that is released."""
        return self._shapes.get(id(variable), tuple(variable.shape))

    def nbytes(self, model: keras.Model) -> int:
        """The bytes that all slots hold now."""
        return sum(backend.nbytes(slot, model) for slot in self.of(range(len(self.by_block))))

    def check_reset(self) -> None:
        """Raises ValueError if the optimizer's slots do not start from one number each."""
        if self._fills is None:
            self._fills = _fills(self._rule)

    def reset(self, index: int, memory: Memory = MEMORY) -> None:
        """Sets a block's slots to what a new optimizer would have."""
        for slot, name in self.by_block[index]:
            memory.fill(slot, *self._initial(slot, name))
            self.released.discard(id(slot))

    def initial(self, index: int) -> list[tuple[Any, float]]:
        """A block's slots, each with the number that a new optimizer fills it with."""
        return [(slot, self._initial(slot, name)[1]) for slot, name in self.by_block[index]]

    def release(self, indices: Iterable[int], memory: Memory = MEMORY) -> None:
        """Frees the memory of some blocks' slots."""
        for slot in self.of(indices):
            if id(slot) not in self.released:
                memory.release(slot)
                self.released.add(id(slot))

    def restore(self, indices: Iterable[int], memory: Memory = MEMORY) -> None:
        """Gives the released slots of some blocks their memory and their initial value back."""
        for index in indices:
            for slot, name in self.by_block[index]:
                if id(slot) in self.released:
                    memory.fill(slot, *self._initial(slot, name))
                    self.released.discard(id(slot))

    def attach(self, optimizers: Iterable[Any]) -> None:
        """Lets optimizers save and load slots that have no memory."""
        for optimizer in optimizers:
            stock = optimizer.load_own_variables
            optimizer.save_own_variables = functools.partial(self._save, optimizer)
            optimizer.load_own_variables = functools.partial(self._load, optimizer, stock)

    def detach(self, optimizers: Iterable[Any]) -> None:
        """The optimizers save and load by themselves again."""
        for optimizer in optimizers:
            vars(optimizer).pop("save_own_variables", None)
            vars(optimizer).pop("load_own_variables", None)

    def _save(self, optimizer, store):
        """Writes an optimizer's variables as it would itself, released slots as new ones."""
        names = self._names()
        for i, variable in enumerate(optimizer.variables):
            if id(variable) in self.released:
                shape, number = self._initial(variable, names[id(variable)])
                store[str(i)] = np.full(shape, number, dtype="float32")
            else:
                store[str(i)] = backend.to_numpy(variable)

    def _load(self, optimizer, stock, store):
        """Reads an optimizer's variables as it would itself; released slots that are as new stay released."""
        variables, names = optimizer.variables, self._names()
        if len(store.keys()) != len(variables):
            stock(store)  # which says so
            return
        for i, variable in enumerate(variables):
            value = np.array(store[str(i)])
            if id(variable) in self.released:
                shape, number = self._initial(variable, names[id(variable)])
                if np.all(value == number):
                    continue
                backend.fill(variable, shape, number)
                self.released.discard(id(variable))
            variable.assign(value)

    def _names(self):
        return {id(slot): name for slots in self.by_block for slot, name in slots}

    def _initial(self, slot, name):
        """Shape and number of a slot as a new optimizer would have it."""
        self.check_reset()
        return self._shapes[id(slot)], self._fills[name]


class StateAtVisits:
    """What becomes of the moving blocks' optimizer state when a visit begins.

    Args:
        state: "keep", "reset", or "drop": reset, and only the moving blocks' slots have memory.
        optimizer: The `BlockOptimizer`.
    """

    def __init__(self, state: str, optimizer: Any):
        self.state, self._optimizer = state, optimizer
        self._settled = False
        if state != "keep":
            optimizer.slots.check_reset()

    def prepare(
        self, update: Any, starts: bool, sharing: Iterable[Any], memory: Memory = MEMORY
    ) -> None:
        """Makes the state ready for an Update.

        Args:
            update: The `Update` that comes next.
            starts: Whether a visit starts with it.
            sharing: The Updates that share its program: their state is held together.
            memory: How slots get and lose their memory.
        """
        if self.state == "keep" or update.blocks is None:
            return
        slots = self._optimizer.slots
        changes = self.state == "drop" and (starts or not self._settled)
        if changes:
            held = {*update.resident, *(k for shared in sharing for k in shared.blocks)}
            slots.release(set(range(len(slots.by_block))) - held, memory)
        if starts:
            for k in update.blocks:
                if k not in update.resident:
                    self._optimizer.reset(k, memory)
        if changes:
            slots.restore(held, memory)
        self._settled = True


def build_released(optimizer: Any, rule: Any, variables: list) -> dict[int, tuple]:
    """Builds an optimizer whose slots have no memory: each is released as soon as it is made.

    Args:
        optimizer: The optimizer.
        rule: The one that holds the slots: itself, or the inner one of a LossScaleOptimizer.
        variables: What it is built for.

    Returns:
        `{id(slot): shape}` of the released slots.
    """
    shapes = {}

    def release(slot):
        shapes[id(slot)] = tuple(slot.shape)
        backend.release(slot)

    with internals.watch_slots(rule, release):
        optimizer.build(variables)
    own = {id(slot) for slot in internals.slots(rule)}
    return {key: shape for key, shape in shapes.items() if key in own}


def like(rule: Any) -> Any:
    """A new optimizer with the same update rule; its learning rate is not used: the user's is handed to the rule."""
    return type(rule).from_config(internals.config_without_rate(rule))


def _fills(rule):
    """`{attribute: value}` that the optimizer's slots start from."""
    probe = like(rule)
    vector, matrix = np.array([2.0, 3.0], "float32"), np.array([[2.0, 3.0], [5.0, 7.0]], "float32")
    probe.build([keras.Variable(vector, name="vector"), keras.Variable(matrix, name="matrix")])
    fills = {}
    for name, slots in internals.slot_lists(probe).items():
        values = np.concatenate(
            [backend.to_numpy(slot).ravel() for slot in slots if slot is not None]
        )
        if np.any(values != values[0]):
            raise ValueError(
                f"{type(rule).__name__} starts its state from the weights, so that it cannot be reset. Use state='keep'."
            )
        fills[name] = float(values[0])
    return fills
