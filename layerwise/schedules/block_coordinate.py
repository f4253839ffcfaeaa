"""Block coordinate descent: one block at a time."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from layerwise.schedules import orders
from layerwise.schedules.base import Schedule
from layerwise.steps import Look, Update


@keras.saving.register_keras_serializable("layerwise")
class BlockCoordinate(Schedule):
    """One block moves at a time, all others stay bit for bit as they are.

    The whole network runs in training mode, and the gradient is computed for the moving block alone: nothing below it.
    With blocks f_1 ... f_D and visits of one step, step t moves `w_k <- w_k - u(grad_k L(w))`, where k is the turn's block
    (Jacobi would move all k at once: `Simultaneous`). Each block's optimizer counts the block's own Updates.

    Args:
        blocks: What `layerwise.partition(by=...)` takes.
        order: "cyclic" (input to output), "reverse", "shuffled" (a fresh permutation for each sweep), "random" (with
            replacement), or a callable `(sweep, n, rng) -> n indices` of the blocks with turns. Or "gauss_southwell": each
            visit goes to the block whose gradient has the largest L2 norm on the visit's first batch (of equal ones, the
            first); "gauss_southwell_rms": the largest norm over the square root of the number of parameters, so that large
            blocks have no advantage. These look at a whole gradient before each visit, which is counted in FLOPs.
        every: Steps a visit lasts before the next block's turn, or "epoch".
        sweep_each_batch: Whether on every batch all blocks move in turn, each with a fresh gradient (Gauss-Seidel). Then
            `every` must be 1, a batch is D Updates, and loss and metrics are those of the first forward pass.
        state: Optimizer state at the start of a visit: "keep", "reset" (as BAdam does), or "drop" (reset, and memory is
            held for the moving block only).
        always: Blocks (names or indices) that move with every Update and have no turn of their own.
        max_programs: Bound on compiled programs, for models of many blocks: neighbours then share a program that is cut
            below the lowest of them. It compiles faster, and steps cost up to a group's gradients more. Dense nets get
            the same weights, bit for bit; a normalization's may be rounded otherwise in the last bit. On torch, which
            runs eagerly, there is nothing to share.
        rates: Factors of the learning rate by block: `{name or index: number, or callable (epoch, step) -> number}`.
        seed: Decides the order where it is random.

    Raises:
        ValueError: For an unknown order or state, `every` that is no positive int or "epoch", or `always` that leaves no
            block a turn.

    References:
        Wright, Coordinate descent algorithms (2015); Luo, Yu & Li, BAdam (NeurIPS 2024) for visits of many steps; Nutini et
        al., Coordinate descent converges faster with the Gauss-Southwell rule than random selection (2015).

    Example:
    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")])
    >>> model.compile(optimizer="adam", loss="mse")
    >>> schedule = layerwise.BlockCoordinate(order="cyclic", every=2)
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[schedule], verbose=0)
    >>> schedule.visits[["blocks", "step", "steps"]].values.tolist()
    [[('a',), 0, 2], [('b',), 2, 2]]
    """

    def __init__(
        self,
        blocks: Any = "auto",
        order: str | Callable = "cyclic",
        every: int | str = 1,
        sweep_each_batch: bool = False,
        state: str = "keep",
        always: Sequence[str | int] = (),
        max_programs: int | None = None,
        rates: Mapping[str | int, Any] | None = None,
        seed: int = 0,
    ):
        super().__init__(blocks=blocks, state=state, rates=rates, seed=seed)
        orders.check(order)
        if not (_whole(every) or (isinstance(every, str) and every == "epoch")):
            raise ValueError(
                f"every must be a positive int (steps a visit lasts) or 'epoch', got {every!r}."
            )
        if sweep_each_batch and every != 1:
            raise ValueError(
                f"sweep_each_batch=True moves all blocks on each batch, so every must be 1, got {every!r}."
            )
        if sweep_each_batch and order in orders.LOOKING:
            raise ValueError(
                f"order={order!r} chooses one block for each visit, and sweep_each_batch=True moves all on each batch. Use "
                "another order, or sweep_each_batch=False."
            )
        if blocks is None:
            raise ValueError(
                "blocks must be 'auto', an int, 'layer' or a list of lists of layer names, got None."
            )
        if always is None or isinstance(always, (str, int)):
            raise ValueError(
                f"always must be a list of block names or indices, got {always!r}. Write "
                f"always={[] if always is None else [always]!r}."
            )
        if max_programs is not None and not _whole(max_programs):
            raise ValueError(f"max_programs must be None or a positive int, got {max_programs!r}.")
        self.order, self.every, self.sweep_each_batch = order, every, bool(sweep_each_batch)
        self.always = tuple(always)
        self.max_programs = None if max_programs is None else int(max_programs)
        self._resident: tuple[int, ...] = ()  # the indices of `always`
        self._sweep = functools.lru_cache(maxsize=4)(orders.sweep_indices)
        self._shared: dict[Update, tuple[Update, ...]] = {}

    @property
    def rotation(self) -> tuple[int, ...]:
        """The indices of the blocks that have turns: those that are not in `always`."""
        n = len(self._met(self._block_model).blocks)
        return tuple(k for k in range(n) if k not in self._resident)

    def meet(self, blocks: Any) -> None:
        """Finds the blocks that always move, and what may share a program."""
        super().meet(blocks)
        self._resident = tuple(sorted({blocks.index(block) for block in self.always}))
        if not self.rotation:
            raise ValueError(
                f"always={list(self.always)!r} names all {len(blocks)} blocks, which leaves none a turn. Leave "
                "one out, or use Simultaneous()."
            )
        self._shared = {}
        if self.max_programs is not None:
            # In a sweep the first Update of a batch shows metrics, by a program of its own.
            limit = max(1, self.max_programs // 2) if self.sweep_each_batch else self.max_programs
            for group in np.array_split(self.rotation, min(limit, len(self.rotation))):
                together = tuple(self._update(int(turn), visit=None) for turn in group)
                self._shared.update(dict.fromkeys(together, together))

    def prepare(self, epochs: int) -> None:
        """Computes the first sweep, so that an order that gives wrong indices raises before the first step."""
        if not self.can_look:
            self.updates(0, 0)

    def updates(self, epoch: int, step: int) -> tuple[Update, ...]:
        if self.can_look:
            turn = int(self.memory.get("turn", self.rotation[0]))
            return (self._update(turn, self._visit(epoch, step)),)
        n = len(self.rotation)
        visits = (
            range(step * n, (step + 1) * n) if self.sweep_each_batch else [self._visit(epoch, step)]
        )
        return tuple(self._update(self._turn(visit, n), visit) for visit in visits)

    def sharing(self, update: Update) -> tuple[Update, ...]:
        return self._shared.get(update, (update,))

    @property
    def can_look(self) -> bool:
        """Whether the order is one that looks at gradients."""
        return self.order in orders.LOOKING

    def looks(self, epoch: int, step: int) -> tuple[Look, ...]:
        """The gradient norms, on the first batch of each visit."""
        new = int(self.memory.get("visit", -1)) != self._visit(epoch, step)
        return (Look("gradient_norm"),) if self.can_look and new else ()

    def see(self, epoch: int, step: int, measured: dict[str, np.ndarray]) -> None:
        norms = measured["gradient_norm"]
        if self.order == "gauss_southwell_rms":
            norms = norms / np.sqrt([block.parameters for block in self.blocks])
        turn = max(self.rotation, key=lambda k: norms[k])
        self.memory.update(visit=np.array(self._visit(epoch, step)), turn=np.array(turn))

    def _visit(self, epoch, step):
        return epoch if self.every == "epoch" else step // self.every

    def _turn(self, visit, n):
        sweep, place = divmod(visit, n)
        return self.rotation[self._sweep(orders.get(self.order), self.seed, sweep, n)[place]]

    def _update(self, turn, visit):
        blocks = tuple(sorted([turn, *self._resident]))
        return Update(blocks=blocks, visit=visit, resident=self._resident)


def _whole(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0
