"""Block coordinate descent: one block at a time."""

import functools

import keras
import numpy as np

from layerwise.schedules import orders
from layerwise.training import Schedule
from layerwise.updates import Update


@keras.saving.register_keras_serializable("layerwise")
class BlockCoordinate(Schedule):
    """One block moves at a time, all others stay bit for bit as they are.

    The whole network runs in training mode, and the gradient is computed for the moving block alone: nothing below it.
    With blocks f_1 ... f_D and visits of one step, step t moves `w_k <- w_k - u(grad_k L(w))`, where k is the turn's block
    (Jacobi would move all k at once: `Simultaneous`). Each block's optimizer counts the block's own Updates.

    Args:
        blocks: What `layerwise.partition(by=...)` takes.
        order: "cyclic" (input to output), "reverse", "shuffled" (a fresh permutation for each sweep), "random" (with
            replacement), or a callable `(sweep, n, rng) -> n indices` of the blocks with turns.
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
        seed: Decides the order where it is random.

    Raises:
        ValueError: For an unknown order or state, `every` that is no positive int or "epoch", or `always` that leaves no
            block a turn.

    References:
        Wright, Coordinate descent algorithms (2015); Luo, Yu & Li, BAdam (NeurIPS 2024) for visits of many steps.

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
        blocks="auto",
        order="cyclic",
        every=1,
        sweep_each_batch=False,
        state="keep",
        always=(),
        max_programs=None,
        seed=0,
    ):
        super().__init__(
            blocks=blocks, state=state, always=always, max_programs=max_programs, seed=seed
        )
        orders.get(order)
        whole = isinstance(every, (int, np.integer)) and not isinstance(every, bool) and every > 0
        if not whole and not (isinstance(every, str) and every == "epoch"):
            raise ValueError(
                f"every must be a positive int (steps a visit lasts) or 'epoch', got {every!r}."
            )
        if sweep_each_batch and every != 1:
            raise ValueError(
                f"sweep_each_batch=True moves all blocks on each batch, so every must be 1, got {every!r}."
            )
        if blocks is None:
            raise ValueError(
                "blocks must be 'auto', an int, 'layer' or a list of lists of layer names, got None."
            )
        self.order, self.every, self.sweep_each_batch = order, every, bool(sweep_each_batch)
        self._sweep = functools.lru_cache(maxsize=4)(orders.sweep_indices)

    def prepare(self, epochs):
        """Computes the first sweep, so that an order that gives wrong indices raises before the first step."""
        self.updates(0, 0)

    def updates(self, epoch, step):
        n = len(self.turns)
        if not n:
            raise ValueError(
                f"always={list(self.always)!r} names all {len(self.blocks)} blocks, which leaves none a turn. Leave "
                "one out, or use Simultaneous()."
            )
        if self.sweep_each_batch:
            visits = range(step * n, (step + 1) * n)
        else:
            visits = [epoch if self.every == "epoch" else step // self.every]
        return tuple(self._visit(visit, n) for visit in visits)

    def _visit(self, visit, n):
        sweep, place = divmod(visit, n)
        turn = self.turns[self._sweep(orders.get(self.order), self.seed, sweep, n)[place]]
        always = [k for k in range(len(self.blocks)) if k not in self.turns] if self.always else []
        return Update(blocks=tuple(sorted([turn, *always])), visit=visit)
