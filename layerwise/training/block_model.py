"""A compiled model as a schedule sees it: blocks, heads, the optimizer by block, and the programs."""

import functools
import json
import weakref
from collections.abc import Callable
from typing import Any

import keras

from layerwise.backends import Move, StepSpec, backend, internals
from layerwise.blocks import Blocks, partition
from layerwise.optimizers import BlockOptimizer, check_optimizer
from layerwise.steps import Look, Update
from layerwise.steps.forward import forward_pass
from layerwise.steps.heads import build_heads
from layerwise.training import checks
from layerwise.training.programs import Programs


class BlockModel:
    """A compiled model, divided into blocks. It lasts until the next `compile`, and schedules share it.

    Args:
        model: The compiled model.
        blocks: Its `Blocks`; `()` for a schedule that moves no single block.
        head: What builds the auxiliary heads, or None.
        seed: Decides the heads' initial weights.
        released: Whether an optimizer that is built here gets slots without memory.

    Attributes:
        heads: `{k: keras.Model}`: the auxiliary head after block k.
        optimizer: The `BlockOptimizer`; None where there are no blocks.
        programs: The `Programs`.
    """

    def __init__(
        self, model: keras.Model, blocks: Any, head: Any, seed: int, released: bool = False
    ):
        self.model, self.blocks, self._head, self._seed = model, blocks, head, seed
        self.heads = {} if head is None else self._build_heads(seed)
        self.optimizer: Any = None
        if blocks:
            self.optimizer = BlockOptimizer(model, blocks, self.heads, released)
        self.programs = Programs(model, self.spec)
        self._test_programs: dict[Update, Any] = {}
        self._stage_models: dict[int, keras.Model] = {}
        self._flops: dict[tuple, int] = {}
        self._shared: dict = {}
        self._owner: Callable | None = (
            None  # a weak reference to the Progress that trained the heads last
        )

    def is_trained_by(self, progress: Any) -> bool:
        """Whether the heads are those of a training."""
        return self._owner is not None and self._owner() is progress and progress is not None

    def is_now_trained_by(self, progress: Any) -> None:
        """The heads are those of this training from now on."""
        self._owner = weakref.ref(progress)

    @property
    def is_current(self) -> bool:
        """Whether the model was not compiled again since."""
        return any(kept is self for kept in internals.until_compile(self.model).values())

    def block_names(self, blocks: tuple[int, ...] | None) -> tuple[str, ...]:
        """The names of blocks that move; None: all."""
        return ("all",) if blocks is None else tuple(self.blocks[k].name for k in blocks)

    # --- what passes from schedule to schedule

    def begin(self, progress: Any, seed: int) -> None:
        """Before a fit: the heads are those of this training, and what was trained since the last fit is counted.

        Args:
            progress: The `Progress` of the schedule.
            seed: Of the schedule: decides new heads' initial weights.
        """
        owner = None if self._owner is None else self._owner()
        if owner is not progress and self.heads:
            if owner is not None:
                owner.heads = [backend.to_numpy(v) for v in self._head_state()]
            if progress.heads is not None:
                for variable, value in zip(self._head_state(), progress.heads, strict=True):
                    variable.assign(value)
                progress.heads = None
            elif self._owner is not None or seed != self._seed:
                self.restart_heads(seed)
        self.is_now_trained_by(progress)
        if self.optimizer is not None:
            self.optimizer.begin()

    def restart(self, progress: Any, seed: int) -> None:
        """Heads and step counts as new, for a `Progress` that has just begun."""
        self.restart_heads(seed)
        self.is_now_trained_by(progress)
        if self.optimizer is not None:
            self.optimizer.restart_counts()

    def restart_heads(self, seed: int) -> None:
        """The heads, and their optimizers, as `seed` gives them."""
        if not self.heads:
            return
        self._seed = seed
        for k, fresh in self._build_heads(seed).items():
            for variable, initial in zip(self.heads[k].variables, fresh.variables, strict=True):
                variable.assign(initial)
        self.optimizer.restart_heads()

    def _head_state(self):
        heads = [v for head in self.heads.values() for v in head.variables]
        return heads + self.optimizer.head_variables()

    def _build_heads(self, seed):
        with backend.scope(self.model):
            return build_heads(self.model, self.blocks, self._head, seed)

    # --- steps

    def spec(self, updates: tuple[Update, ...], shows: bool, rated: bool) -> StepSpec:
        """The step of some Updates that share a program, as a backend is told of it; of none: the model's own."""
        if not updates:
            return _stock_spec(self.model)
        key = updates, shows, rated
        first = updates[0]
        blocks = {k for update in updates for k in update.blocks or ()}
        return StepSpec(
            model=self.model,
            forward=forward_pass(self.model, self.blocks, self.heads, first),
            begin=functools.partial(self.optimizer.begin_step, sorted(blocks)),
            moves=tuple(self._move(update, shows, rated) for update in updates),
            shows=shows,
            heads=tuple(v for k in first.heads for v in self.heads[k].variables),
            slots=tuple(self.optimizer.slots.of(range(len(self.blocks)))),
            shape=self.optimizer.slots.shape,
            traced=functools.partial(self._count_trace, key),
            shared=self._shared,
            whole=not first.by_blocks,
        )

    def _move(self, update, shows, rated):
        moving = {id(v) for k in update.blocks for v in self.blocks[k].variables}
        weights = [v for v in self.model.trainable_variables if id(v) in moving]
        weights += [v for k in update.heads for v in self.heads[k].trainable_variables]

        def apply(gradients, unscaled=False):
            self.optimizer.apply(gradients, weights, unscaled, counts_batch=shows, rated=rated)

        heads = [v for k in update.heads for v in self.heads[k].non_trainable_variables]
        return Move(
            weights=tuple(weights),
            slots=tuple(self.optimizer.slots.of(update.blocks)),
            state=(*self.optimizer.state(update.blocks, update.heads, rated), *heads),
            apply=apply,
        )

    def _count_trace(self, key):
        self.programs.traces[key] += 1

    @functools.cached_property
    def look_program(self) -> Callable:
        """What measures the model's loss and the blocks' gradient norms on a batch."""
        return backend.look_program(self.model, *self._look())

    def _look(self):
        forward = forward_pass(self.model, self.blocks, {}, Update(blocks=(0,)))
        return forward, [block.variables for block in self.blocks]

    def test_program(self, update: Update) -> Any:
        """The test step through the losses of an Update."""
        if update not in self._test_programs:
            forward = forward_pass(self.model, self.blocks, self.heads, update)
            heads = [v for k in update.heads for v in self.heads[k].variables]
            self._test_programs[update] = backend.test_program(self.model, forward, heads)
        return self._test_programs[update]

    # --- measurements

    def optimizer_state_bytes(self) -> int:
        """Bytes of optimizer slots that are held now, those of auxiliary heads apart."""
        if self.optimizer is not None:
            return self.optimizer.slots.nbytes(self.model)
        return sum(backend.nbytes(v, self.model) for v in internals.slots(self.model.optimizer))

    def flops(self, key: Update | Look, sharing: tuple, x: Any, y: Any) -> int:
        """Floating-point operations of an Update (of those that share its program), or of a Look, on a batch."""
        shapes = keras.tree.map_structure(lambda a: (tuple(a.shape), str(a.dtype)), (x, y))
        place = (key, sharing, str(shapes))
        if place not in self._flops:
            self._flops[place] = self._count_flops(key, sharing, x, y)
        return self._flops[place]

    def _count_flops(self, key, sharing, x, y):
        if isinstance(key, Look):
            return backend.look_flops(self.model, *self._look(), x, y)
        if key.blocks is None:
            return backend.stock_flops(self.model, x, y)
        checks.check_update(key, len(self.blocks), self.heads)
        return backend.step_flops(self.spec(sharing, True, False), sharing.index(key), x, y)

    def predict_on_batch(self, update: Update, x: Any) -> Any:
        """Predictions through the last loss of an Update."""
        if update.last is None:
            return self.model.predict_on_batch(x)
        if update.last not in self._stage_models:
            inputs, features = self.model.inputs, None
            for block in self.blocks[: update.last + 1]:
                features = block(features, inputs, training=False)
            outputs = self.heads[update.last](features, training=False)
            self._stage_models[update.last] = keras.Model(inputs, outputs)
        return self._stage_models[update.last].predict_on_batch(x)


def block_model_of(
    schedule: Any, model: keras.Model, before: BlockModel | None, progress: Any
) -> BlockModel:
    """The model as a schedule divides it: the one that is there since `compile`, or a new one.

    A new one's heads go on as they were in the BlockModel `before`, where these were trained by the same `progress`;
    their optimizers are new, as the model's is.

    Raises:
        ValueError: The model cannot be divided so, or not be trained by blocks.
    """
    kept = internals.until_compile(model)
    key = _text(schedule.by) if schedule.divides else None, schedule.head
    if key not in kept:
        blocks: Any = ()
        if schedule.divides:
            check_optimizer(model.optimizer)  # first: no other division or schedule would help
            if schedule.head is not None:
                checks.check_graph(schedule, model)
            blocks = partition(model, schedule.by, argument="blocks")
        if schedule.head is not None:
            checks.check_head(schedule, model, blocks)
        released = schedule.state == "drop"
        made = BlockModel(model, blocks, schedule.head, schedule.seed, released)
        if before is not None and before.model is model and before.is_trained_by(progress):
            for k in before.heads.keys() & made.heads.keys():
                made.heads[k].set_weights(before.heads[k].get_weights())
            made.is_now_trained_by(progress)
        kept[key] = made
    return kept[key]


def _stock_spec(model):
    """The model's own train step, as one of an execution's."""
    slots = tuple(internals.slots(model.optimizer))
    return StepSpec(
        model=model,
        forward=None,
        begin=lambda resets, rates: None,
        moves=(Move(tuple(model.trainable_variables), slots, (), lambda gradients: None),),
        shows=True,
        heads=(),
        slots=slots,
        shape=lambda variable: tuple(variable.shape),
        traced=lambda: None,
        shared={},
        whole=False,
    )


def _text(by):
    """What says how a model is divided, as something to look up by."""
    if isinstance(by, Blocks):
        return id(by)
    return json.dumps(by, default=str)
