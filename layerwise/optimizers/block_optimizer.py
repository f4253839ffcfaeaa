"""The user's optimizer with one step count and one learning-rate factor per block.

Nothing stands in for the user's optimizer: it holds its slots, its learning rate and the count of batches, which
learning-rate schedules see. While a step is traced, the update rule runs block by block, and what it reads as its own
step count (bias correction) is the block's.
"""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend, clocked, internals
from layerwise.optimizers.counts import keep, last_of
from layerwise.optimizers.slots import MEMORY, Memory, Slots, build_released, like


class _BlockGroup:
    """The variables of one block: the user's optimizer with the block's own step count and rate factor."""

    def __init__(self, rule, name):
        self.count = _state(
            backend.to_numpy(rule.iterations), rule.iterations.dtype, f"{name}_updates"
        )
        self.rate = _state(np.float32(1.0), "float32", f"{name}_rate")
        self.stock_product, self.product = internals.running_product(rule), None
        if self.stock_product is not None:
            value = backend.to_numpy(self.stock_product)
            self.product = _state(value, self.stock_product.dtype, f"{name}_product")
        self.factor = None  # the rate factor while a step that heeds it is traced

    def update(self, optimizer, rule, gradients, variables, learning_rate):
        products = None if self.product is None else (self.product, self.stock_product)
        clocked.update_with_count(
            optimizer, rule, gradients, variables, learning_rate, self.count, products, self.factor
        )
        self.count.assign_add(1)

    @property
    def variables(self):
        return [self.count] if self.product is None else [self.count, self.product]


class _HeadGroup:
    """The variables of an auxiliary head: its own slots and step count, in a copy of the user's optimizer."""

    factor = None

    def __init__(self, rule, head):
        self.optimizer = like(rule)
        self.optimizer.build(head.trainable_variables)

    def update(self, optimizer, rule, gradients, variables, learning_rate):
        clocked.update_step(self.optimizer, gradients, variables, learning_rate)

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
        released: Whether an optimizer that is built here gets slots without memory.

    Raises:
        ValueError: If the optimizer was built for other variables.
    """

    def __init__(self, model: keras.Model, blocks: Any, heads: dict, released: bool = False):
        self.optimizer, self._heads = model.optimizer, heads
        self.rule = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        self._classes = type(self.rule), clocked.clocked_class(type(self.rule))
        shapes: dict[int, tuple] = {}
        with backend.scope(model):
            if not self.optimizer.built:
                variables = model.trainable_variables
                if released:
                    shapes = build_released(self.optimizer, self.rule, variables)
                else:
                    self.optimizer.build(variables)
            self._groups = [_BlockGroup(self.rule, block.name) for block in blocks]
            self._head_groups = {k: _HeadGroup(self.rule, head) for k, head in heads.items()}
        known = {id(v) for v in internals.trained_variables(self.rule)}
        unknown = [v.path for v in model.trainable_variables if id(v) not in known]
        if unknown:
            raise ValueError(
                f"The model's optimizer was built for other variables: it does not know {unknown[:3]}. Call compile() "
                "with a new optimizer after changing which layers are trainable."
            )
        self._group_of = {
            id(v): group
            for block, group in zip(blocks, self._groups, strict=True)
            for v in block.variables
        } | {
            id(v): self._head_groups[k]
            for k, head in heads.items()
            for v in head.trainable_variables
        }
        pairs = zip(blocks, self._groups, strict=True)
        self._states = [(block.variables, group.variables) for block, group in pairs]
        self.slots = Slots(self.rule, blocks, shapes)
        self._factors: list[float | None] = [1.0] * len(self._groups)
        self._seen = self._iterations()
        self._kept: Any = None  # the step counts as they were kept last
        self._began: list[int] | None = self.counts()  # when the fit began

    @property
    def owners(self) -> list:
        """The optimizers that are saved with the model: the user's, and the inner one of a LossScaleOptimizer."""
        return list({id(o): o for o in (self.optimizer, self.rule)}.values())

    # --- a step

    def apply(
        self,
        gradients: list,
        variables: list,
        unscaled: bool = False,
        counts_batch: bool = True,
        rated: bool = False,
    ) -> None:
        """One step of the user's optimizer on some variables: one clipping over all of them, then group by group.

        Args:
            gradients: One for each variable.
            variables: Those of blocks and heads that move.
            unscaled: The gradients are free of a LossScaleOptimizer's factor already.
            counts_batch: The step counts its batch in `optimizer.iterations`: the first one of a batch does.
            rated: The step heeds the blocks' learning-rate factors.
        """
        for group in self._groups:
            group.factor = group.rate if rated else None
        with clocked.clocked(self.rule, *self._classes, self._group_of, counts_batch):
            (self.rule if unscaled else self.optimizer).apply(gradients, variables)

    def state(self, blocks: Iterable[int], heads: Iterable[int], rated: bool) -> list:
        """The state beside the user's optimizer that an Update of these blocks and heads reads and writes."""
        groups = [self._groups[k] for k in blocks]
        own = [v for group in groups for v in group.variables]
        if rated:
            own += [group.rate for group in groups]
        return own + [v for k in heads for v in self._head_groups[k].variables]

    def begin_step(self, blocks: Iterable[int], resets: Any, rates: Any) -> None:
        """While a step of an execution is traced: what `reset` and `set_factors` do where the caller is between steps.

        Args:
            blocks: The blocks that the step may move.
            resets: For each block, whether its state becomes that of a new optimizer; None: none does.
            rates: For each block, its learning-rate factor; None: no step heeds any.
        """
        for k in blocks:
            group, initial = self._groups[k], []
            if rates is not None:
                group.rate.assign(rates[k])
            if resets is not None:
                initial = [*self.slots.initial(k), (group.count, 0)]
                initial += [] if group.product is None else [(group.product, 1)]
            for variable, number in initial:
                new = keras.ops.cast(number, variable.dtype)
                variable.assign(keras.ops.where(resets[k], new, variable.value))

    # --- between steps

    def set_factors(self, factors: dict[int, float]) -> None:
        """Sets the learning-rate factors of some blocks; programs read them, so that nothing compiles anew."""
        for k, factor in factors.items():
            if factor != self._factors[k]:
                self._factors[k] = factor
                backend.fill(self._groups[k].rate, (), factor)

    def forget_factors(self) -> None:
        """An execution has set learning-rate factors, of which blocks and to what its own program knows alone."""
        self._factors = [None] * len(self._groups)

    def counts(self) -> list[int]:
        """Each block's own number of Updates since its state was last reset."""
        return [int(backend.to_numpy(group.count)) for group in self._groups]

    def reset(self, index: int, memory: Memory = MEMORY) -> None:
        """Sets a block's state to what a new optimizer would have."""
        self.slots.reset(index, memory)
        group = self._groups[index]
        # Not assign(0), which on JAX waits for the step that runs.
        backend.fill(group.count, (), 0)
        if group.product is not None:
            backend.fill(group.product, (), 1)

    # --- between fits

    def own_variables(self) -> list:
        """All state that is not the user's optimizer's: what a checkpoint must hold besides."""
        groups: list[Any] = [*self._groups, *self._head_groups.values()]
        return [v for group in groups for v in group.variables]

    def head_variables(self) -> list:
        """The state of the heads' optimizers."""
        return [v for group in self._head_groups.values() for v in group.variables]

    def begin(self) -> None:
        """Before a fit: batches that were counted since the last one moved all blocks, so that each counts them."""
        kept = last_of(self.rule)
        if kept is not None and kept is not self._kept:  # of other blocks, or of a compile before
            kept.give(self._states)
            self._seen = kept.iterations
        iterations = self._iterations()
        if iterations < self._seen:
            self.restart_counts()
        elif iterations > self._seen:
            for group, count in zip(self._groups, self.counts(), strict=True):
                group.count.assign(count + iterations - self._seen)
                if group.product is not None:
                    group.product.assign(group.stock_product.value)
        self._seen, self._began = iterations, self.counts()

    def restored(self) -> None:
        """A checkpoint has set the blocks' counts: they belong to what the user's optimizer is now."""
        self._began = None

    def finish(self) -> None:
        """After a fit: Nadam's running product is left as the block with the most Updates has it."""
        iterations, counts = self._iterations(), self.counts()
        if self._began is not None and iterations <= self._seen and counts != self._began:
            # The fit was interrupted, and what the user's optimizer was before it has been put back by hand: the next fit
            # takes the blocks' counts from it.
            self._seen = iterations + 1
        else:
            if self._groups and self._groups[0].product is not None:
                most = self._groups[int(np.argmax(counts))]
                most.stock_product.assign(most.product.value)
            self._seen = iterations
        self._kept = keep(self.rule, self._seen, self._states)

    def restart_counts(self) -> None:
        """Each block's step count is that of the optimizer, as when it was created."""
        for group in self._groups:
            group.count.assign(self.rule.iterations)
            if group.product is not None:
                group.product.assign(group.stock_product.value if self._iterations() else 1.0)
        self._seen = self._iterations()
        self._kept = keep(self.rule, self._seen, self._states)

    def restart_heads(self) -> None:
        """The heads' optimizers are as they were created."""
        for k, head in self._heads.items():
            fresh = _HeadGroup(self.rule, head)
            for variable, initial in zip(
                self._head_groups[k].variables, fresh.variables, strict=True
            ):
                variable.assign(initial)

    def _iterations(self):
        return int(backend.to_numpy(self.rule.iterations))


def check_optimizer(optimizer: Any) -> None:
    """Raises ValueError where a schedule could not honour what an optimizer is asked to do, with the remedy."""
    if optimizer is None:
        raise ValueError("The model was compiled without an optimizer. Pass one to compile().")
    rule = getattr(optimizer, "inner_optimizer", optimizer)
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
    clocked.check_apply(optimizer, backend.BEFORE_APPLY)


def _state(value, dtype, name):
    return keras.Variable(
        value, dtype=dtype, trainable=False, aggregation="only_first_replica", name=name
    )
