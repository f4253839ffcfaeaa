"""The user's optimizer with one step count per block, and its state kept, reset or dropped.

Nothing stands in for the user's optimizer: it holds its slots, its learning rate and the count of all Updates, which
learning-rate schedules see. While a step is traced, the update rule runs block by block, and what it reads as its own
step count (bias correction) is the block's.
"""

import keras
import numpy as np

from layerwise.backends import backend, internals


class _BlockGroup:
    """The variables of one block: the user's optimizer with the block's own step count."""

    def __init__(self, count, product):
        self.count, self.product = count, product

    def update(self, optimizer, rule, gradients, variables, learning_rate):
        internals.update_with_count(
            optimizer, rule, gradients, variables, learning_rate, self.count, self.product
        )
        self.count.assign_add(1)

    @property
    def variables(self):
        return [self.count] if self.product is None else [self.count, self.product]


class _HeadGroup:
    """The variables of an auxiliary head: its own slots and step count, in a copy of the user's optimizer."""

    def __init__(self, optimizer):
        self.optimizer = optimizer

    def update(self, optimizer, rule, gradients, variables, learning_rate):
        internals.update_step(self.optimizer, gradients, variables, learning_rate)

    @property
    def variables(self):
        product = internals.running_product(self.optimizer)
        return self.optimizer.variables + ([] if product is None else [product])


class BlockOptimizer:
    """The user's optimizer, seen block by block.

    Args:
        model: The compiled model; its optimizer is built here if it was not.
        blocks: The `Blocks` of the model.
        heads: `{k: keras.Model}`, the auxiliary heads.
        state: What becomes of a block's state at the start of a visit: "keep", "reset" or "drop".

    Raises:
        ValueError: If the optimizer cannot be run block by block, with the reason and the remedy.
    """

    def __init__(self, model, blocks, heads, state):
        self.optimizer, self._heads = model.optimizer, heads
        self.rule = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        self._class = type(self.rule)
        _check(self.optimizer, self.rule)
        with backend.scope(model):
            if not self.optimizer.built:
                self.optimizer.build(model.trainable_variables)
            self._groups = [_BlockGroup(*_clock(self.rule, block.name)) for block in blocks]
            self._head_groups = {k: _HeadGroup(_copy(self.rule, head)) for k, head in heads.items()}
        self._group_of = {
            id(v): group
            for block, group in zip(blocks, self._groups, strict=True)
            for v in block.variables
        } | {
            id(v): self._head_groups[k]
            for k, head in heads.items()
            for v in head.trainable_variables
        }
        trained = [id(v) for v in internals.trained_variables(self.rule)]
        unknown = [v.path for v in model.trainable_variables if id(v) not in set(trained)]
        if unknown:
            raise ValueError(
                f"The model's optimizer was built for other variables: it does not know {unknown[:3]}. Call compile() "
                "with a new optimizer after changing which layers are trainable."
            )
        lists = internals.slot_lists(self.rule)
        index = {key: i for i, key in enumerate(trained)}
        self.slots = [
            [
                (slots[index[id(v)]], name)
                for v in block.variables
                for name, slots in lists.items()
                if slots[index[id(v)]] is not None
            ]
            for block in blocks
        ]
        self.released = set()
        self._shapes = {id(slot): tuple(slot.shape) for slots in self.slots for slot, _ in slots}
        self._fills = {} if state == "keep" else _fills(self.rule)

    def groups(self, variables):
        """The groups that `variables` fall into, with the positions of each one's members."""
        members = {}
        for i, variable in enumerate(variables):
            group = self._group_of[id(variable)]
            members.setdefault(id(group), (group, []))[1].append(i)
        return list(members.values())

    def apply(self, gradients, variables, unscaled=False):
        """One step of the user's optimizer on some variables: one clipping over all of them, then group by group.

        `unscaled`: the gradients are free of a LossScaleOptimizer's factor already.
        """
        with internals.clocked(self.rule, self._class, self.groups):
            (self.rule if unscaled else self.optimizer).apply(gradients, variables)

    def shape(self, variable):
        """The shape of a variable, also while a slot is released."""
        return self._shapes.get(id(variable), tuple(variable.shape))

    def counts(self):
        """Each block's own number of Updates since its state was last reset."""
        return [int(backend.to_numpy(group.count)) for group in self._groups]

    def block_variables(self, indices):
        """The state beside the user's optimizer that an Update of these blocks reads and writes."""
        return [v for i in indices for v in self._groups[i].variables]

    def head_variables(self, k):
        """The state of the head's copy of the optimizer."""
        return self._head_groups[k].variables

    def own_variables(self):
        """All state that is not the user's optimizer's: what a checkpoint must hold besides."""
        groups = [*self._groups, *self._head_groups.values()]
        return [v for group in groups for v in group.variables]

    def reset(self, index, fill):
        """Sets a block's state to what a new optimizer would have, through `fill(variable, shape, number)`."""
        for slot, name in self.slots[index]:
            fill(slot, *self._initial(slot, name))
            self.released.discard(id(slot))
        group = self._groups[index]
        # Not assign(0), which on JAX waits for the step that runs.
        backend.fill(group.count, (), 0)
        if group.product is not None:
            backend.fill(group.product, (), 1)

    def restart(self):
        """Step counts and the heads' optimizers as they were created."""
        for group in self._groups:
            group.count.assign(self.rule.iterations)
            if group.product is not None:
                group.product.assign(1.0)
        for k, head in self._heads.items():
            fresh = _HeadGroup(_copy(self.rule, head))
            for variable, initial in zip(
                self._head_groups[k].variables, fresh.variables, strict=True
            ):
                variable.assign(initial)

    def release(self, indices, release):
        """Frees the memory of some blocks' slots, through `release(variable)`."""
        for index in indices:
            for slot, _ in self.slots[index]:
                if id(slot) not in self.released:
                    release(slot)
                    self.released.add(id(slot))

    def restore(self, fill, indices):
        """Gives the released slots of some blocks their memory and their initial value back."""
        for index in indices:
            for slot, name in self.slots[index]:
                if id(slot) in self.released:
                    fill(slot, *self._initial(slot, name))
                    self.released.discard(id(slot))

    def _initial(self, slot, name):
        """Shape and number of a slot as a new optimizer would have it."""
        return self._shapes[id(slot)], self._fills[name]

    def finish(self):
        """Leaves Nadam's running product as the block with the most Updates has it."""
        product = internals.running_product(self.rule)
        if product is not None:
            most = int(np.argmax(self.counts()))
            product.assign(self._groups[most].product.value)

    def save(self, optimizer, store):
        """Writes an optimizer's variables as it would itself, released slots as new ones."""
        names = {id(slot): name for slots in self.slots for slot, name in slots}
        for i, variable in enumerate(optimizer.variables):
            if id(variable) in self.released:
                initial = self._initial(variable, names[id(variable)])
                store[str(i)] = np.full(*initial, "float32")
            else:
                store[str(i)] = backend.to_numpy(variable)


def _check(optimizer, rule):
    """Raises where a schedule could not honour what the optimizer is asked to do."""
    if optimizer is None:
        raise ValueError("The model was compiled without an optimizer. Pass one to compile().")
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise ValueError(
            "A schedule cannot run MultiOptimizer, which has an optimizer per variable. Compile with one optimizer."
        )
    if rule.use_ema:
        raise ValueError(
            "The optimizer was given use_ema=True, which averages and overwrites all variables at every step, also those "
            "that do not move. Compile with use_ema=False (keras.callbacks.SwapEMAWeights needs it too)."
        )
    if rule.gradient_accumulation_steps:
        raise ValueError(
            f"The optimizer was given gradient_accumulation_steps={rule.gradient_accumulation_steps}: its one counter "
            "would mix the gradients of different blocks. Compile without it and raise the batch size instead."
        )


def _clock(rule, name):
    """A block's step count (and Nadam's product), starting where the optimizer's state is."""
    count = keras.Variable(
        backend.to_numpy(rule.iterations),
        dtype=rule.iterations.dtype,
        trainable=False,
        aggregation="only_first_replica",
        name=f"{name}_updates",
    )
    product = internals.running_product(rule)
    if product is not None:
        product = keras.Variable(
            backend.to_numpy(product),
            dtype=product.dtype,
            trainable=False,
            name=f"{name}_product",
        )
    return count, product


def _copy(rule, head):
    """The user's optimizer for the variables of a head."""
    copy = _like(rule)
    copy.build(head.trainable_variables)
    return copy


def _like(rule):
    """A new optimizer with the same update rule; its learning rate is not used: the user's is handed to the rule."""
    return type(rule).from_config(rule.get_config() | {"learning_rate": 1.0})


def _fills(rule):
    """`{attribute: value}` that the optimizer's slots start from."""
    probe = _like(rule)
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
