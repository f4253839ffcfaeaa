"""What one training step does: the weights, how far each block would move, and the loss as a function of it."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend
from layerwise.blocks import Block, partition
from layerwise.diagnostics import batches, checks
from layerwise.diagnostics.displacement import displacement_in
from layerwise.diagnostics.movers import Layout, Mover, Passes
from layerwise.diagnostics.objective import Moment, Objective
from layerwise.steps import Update
from layerwise.training.checks import check_update


class Step:
    """What the compiled optimizer would do now, from its present state, on a batch; nothing is changed by asking.

    All numbers are float64, whatever the model's precision. Dropout masks are those of the seeds' present state and stay
    the same, batch normalization takes the statistics of the batch; weights, optimizer, seeds and metrics are afterwards
    bit for bit as before. A Step keeps what it found: training may go on, and the Step is still that of its moment. It
    holds the weights, the displacement and the gradient, three copies of the weights in float64; while it is made, a copy
    of the optimizer's state as well, and while a loss is computed one or two more of the weights.

    A block's vector is a flat array: the block's `variables`, one after another. In a `fit` under a schedule the optimizer
    sees each block's own step count and rate, and under greedy the loss is the stage's own, whose auxiliary head moves as a
    block of its own.

    Args:
        model: The compiled and built model.
        x: The inputs of one batch, as for `fit`.
        y: Its targets.
        sample_weight: Its weights.
        blocks: What `layerwise.partition(by=...)` takes.
        update: An `Update` that says which blocks move and which losses they descend; None: all blocks, the model's own.
        chunk_size: The most examples that go through the model at once, for batches whose activations would not fit into
            memory; None: the whole batch. The loss is then the mean over the chunks, which is the batch's own where the
            loss is a mean over examples; each chunk has dropout masks of its own. Refused where examples depend on one
            another: batch normalization, and losses that are no plain mean.

    Attributes:
        model: The model.
        blocks: The blocks that move, each a `Block` (or an auxiliary head), in the order of the lists below.
        names: Their names.
        loss: The loss before the step, regularizers included.
        weights: One array a block.
        displacement: One array a block: how far the optimizer would move it.
        gradient: One array a block.
        learning_rate: The optimizer's rate now.
        weight_decay: Its decoupled weight decay, 0 for none.
        passes: `Passes` so far: forward, backward, hessian_vector.

    Raises:
        TypeError: `model` is no `keras.Model`, or `update` no `Update`.
        ValueError: The model is not compiled or not built, `x` has another shape than the model's inputs, or the blocks
            cannot be found.

    Example: a net of two weights, output `w * v * x`, with x = 1 and target 3, from w = 1 and v = 2. The loss is
    (2 - 3)^2 = 1, the gradient 2 (2 - 3) v = -4 for w and -2 for v; at learning rate 0.125, w becomes 1.5 and v 2.25.

    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="w"),
    ...                           keras.layers.Dense(1, use_bias=False, name="v")])
    >>> model.set_weights([np.array([[1.0]]), np.array([[2.0]])])
    >>> model.compile(optimizer=keras.optimizers.SGD(0.125), loss="mse")
    >>> step = layerwise.diagnostics.Step(model, np.array([[1.0]]), np.array([[3.0]]))
    >>> step.loss, [float(g[0]) for g in step.gradient], [float(u[0]) for u in step.displacement]
    (1.0, [-4.0, -2.0], [0.5, 0.25])
    >>> step.change([0])  # w alone: (1.5 * 2 - 3)^2 - 1
    -1.0
    >>> step.change(["w", "v"])  # both: (1.5 * 2.25 - 3)^2 - 1
    -0.859375
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        blocks: Any = "auto",
        update: Update | None = None,
        chunk_size: int | None = None,
    ):
        checks.check_model(model)
        session = checks.session_of(model)
        found, update, heads = _resolved(model, blocks, update, session)
        self.model, self.update, self.blocks = model, update, _movers(found, update, heads)
        self.names = [block.name for block in self.blocks]
        self._data = batches.batch(model, x, y, sample_weight)
        moving = [v for block in self.blocks for v in block.variables]
        objective = Objective.of(model, found, heads, update, moving)
        if chunk_size is not None:
            batches.check_chunks(model, chunk_size, self._data)
        self._moment = Moment(objective, self._data, chunk_size)
        self._layout = Layout(self.blocks)
        self.weights = self._layout.vectors([backend.to_numpy(v) for v in moving])
        self.passes = Passes()
        self._changes: dict[tuple, float] = {}
        self._curvature: np.ndarray | None = None
        self.loss, gradients = self._backward()
        rule = getattr(model.optimizer, "inner_optimizer", model.optimizer)
        self.learning_rate = float(keras.ops.convert_to_numpy(rule.learning_rate))
        self.weight_decay = float(rule.weight_decay or 0.0)
        self.gradient = self._layout.vectors(gradients)
        self.displacement = self._layout.vectors(
            displacement_in(session, model, moving, gradients, heads, update)
        )

    # --- the loss and its derivatives

    def change(self, blocks: int | str | Iterable[int | str], multiple: float = 1.0) -> float:
        """The change of the loss when only some blocks move, by a multiple of their displacement. One forward pass.

        Args:
            blocks: Names, or positions in `step.blocks`; or a single one.
            multiple: 1.0 is the step itself. What was computed once is remembered.
        """
        named = [blocks] if isinstance(blocks, (str, int)) else blocks
        moved = tuple(sorted({self.index(block) for block in named}))
        key = moved, float(multiple)
        if key not in self._changes:
            vectors = [
                multiple * u if k in moved else None for k, u in enumerate(self.displacement)
            ]
            self._changes[key] = self.loss_at(vectors) - self.loss if moved else 0.0
        return self._changes[key]

    def loss_at(self, vectors: Sequence[np.ndarray | None]) -> float:
        """The loss at the weights plus one vector a block (None: it does not move). One forward pass."""
        self.passes.forward += 1
        return self._moment.loss(self._moved(vectors))

    def gradient_at(
        self, vectors: Sequence[np.ndarray | None], masks: int = 0
    ) -> tuple[float, list[np.ndarray]]:
        """The loss and its gradient, one array a block, at the weights plus one vector a block. One backward pass.

        Args:
            vectors: One a block; None: it does not move.
            masks: 0: the step's own dropout masks; another number: other masks, the same for the same number.
        """
        loss, gradients = self._backward(vectors, masks=masks)
        return loss, self._layout.vectors(gradients)

    def hessian_vector(self, vectors: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """The Hessian at the weights times a vector, given and returned as one array a block (None: zeros)."""
        self.passes.hessian_vector += 1
        along = self._layout.arrays(self._filled(vectors))
        return self._layout.vectors(self._moment.hessian_vector(self._moved(), along))

    def curvature_of_moves(self) -> np.ndarray:
        """The matrix of `u_i' H u_j`, u_i the displacement of block i. One Hessian-vector product a block."""
        if self._curvature is None:
            n = len(self.blocks)
            matrix = np.zeros((n, n))
            for j, u in enumerate(self.displacement):
                products = self.hessian_vector([u if k == j else None for k in range(n)])
                matrix[:, j] = [
                    float(v @ p) for v, p in zip(self.displacement, products, strict=True)
                ]
            self._curvature = (matrix + matrix.T) / 2
        return self._curvature

    def index(self, block: int | str) -> int:
        """The position of a moving block, given by name or position.

        Raises:
            ValueError: No such block moves.
        """
        return checks.index(block, self.names)

    @property
    def examples(self) -> int:
        """The number of examples in the batch."""
        return batches.size_of(self._data)

    @property
    def is_random(self) -> bool:
        """Whether the loss depends on dropout masks or the like."""
        return self._moment.objective.is_random

    def parts(self, count: int) -> Iterator[list[np.ndarray]]:
        """The gradient of each of `count` parts of the batch, one array a block, each with dropout masks of its own. Each
        counts as a backward pass.
        """
        for number, data in enumerate(batches.split(self._data, count)):
            yield self._layout.vectors(self._backward(data=data, masks=15_485_863 * number)[1])

    # --- inside

    def _backward(self, vectors=None, data=None, masks=0):
        self.passes.backward += 1
        return self._moment.gradient(self._moved(vectors), data, masks)

    def _moved(self, vectors=None):
        if vectors is None:
            return self._layout.arrays(self.weights)
        pairs = zip(self.weights, checks.vectors(vectors, self.weights), strict=True)
        return self._layout.arrays([w if v is None else w + v for w, v in pairs])

    def _filled(self, vectors):
        pairs = zip(self.weights, checks.vectors(vectors, self.weights), strict=True)
        return [np.zeros_like(w) if v is None else v for w, v in pairs]


def _resolved(model, blocks, update, session):
    """The `Blocks`, the Update and the auxiliary heads that a Step is about."""
    if update is not None and not isinstance(update, Update):
        raise TypeError(
            f"update must be a layerwise.Update or None for all blocks, got {update!r}."
        )
    heads: dict = {}
    if update is not None and update.by_blocks:
        checks.check_session(session, update)
        blocks, heads = session.block_model.blocks, session.block_model.heads
    found = partition(model, blocks, argument="blocks")
    if update is None or update.blocks is None:
        update = Update(blocks=tuple(range(len(found))))
    check_update(update, len(found), heads)
    return found, update, heads


def _movers(blocks, update, heads):
    """The blocks that move, and the auxiliary heads, each with a name and variables."""
    movers: list[Block | Mover] = [blocks[k] for k in update.blocks]
    for k in update.heads:
        movers.append(Mover(f"head_after_{blocks[k].name}", tuple(heads[k].trainable_variables)))
    return movers
