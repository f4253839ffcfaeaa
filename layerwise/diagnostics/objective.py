"""The loss that training descends, in float64, as a function of the weights of the blocks that move."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend, double, internals
from layerwise.blocks import Blocks
from layerwise.diagnostics import batches
from layerwise.steps import Update
from layerwise.steps.forward import forward_pass


class Objective:
    """The loss of an Update's forward pass as a function of the moving variables, compiled once for a compiled model.

    Args:
        model: The compiled model.
        blocks: Its `Blocks`.
        heads: `{k: keras.Model}`: the auxiliary heads that the losses may go through.
        update: The `Update`: which losses, and what runs in inference mode.
        moving: The variables that move.
    """

    def __init__(
        self, model: keras.Model, blocks: Blocks, heads: dict, update: Update, moving: Sequence[Any]
    ):
        self._model, self.moving = model, list(moving)
        self._others = [heads[k] for k in update.heads]
        if update.by_blocks:
            self._others += [block.model for block in blocks]
        self._forward = forward_pass(model, blocks, heads, update)
        known = {id(v) for v in self.moving}
        every = [v for each in (model, *self._others) for v in each.variables]
        self.rest = [v for v in {id(v): v for v in every}.values() if id(v) not in known]
        weights = {id(v) for each in (model, *self._others) for v in each.weights}
        seeds = [v for v in self.rest if id(v) not in weights and tuple(v.shape) == (2,)]
        self._seeds = {id(v) for v in seeds if not _floats(v)}
        self.exact = backend.exact_program(model, self._loss)

    @classmethod
    def of(
        cls, model: keras.Model, blocks: Blocks, heads: dict, update: Update, moving: Sequence[Any]
    ) -> "Objective":
        """The objective that is there since `compile`, or a new one."""
        kept = internals.until_compile(model)
        key = ("objective", update.losses, update.frozen_below, *(id(v) for v in moving))
        if key not in kept:
            kept[key] = cls(model, blocks, heads, update, moving)
        return kept[key]

    def _loss(self, weights, rest, data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        values = [*zip(self.moving, weights, strict=True), *zip(self.rest, rest, strict=True)]
        mapping = [(v, keras.ops.cast(a, "float64") if _floats(v) else a) for v, a in values]
        double_precision = double.double_precision(
            self._model, self._others, backend.dropout, backend.REPLACED
        )
        with double_precision, double.variables_as(mapping):
            _, loss = self._forward(x, y, sample_weight, training=True)
        return keras.ops.cast(loss, "float64")

    def with_masks(self, rest: list[np.ndarray], number: int) -> list[np.ndarray]:
        """The state with the seeds of random layers moved on: other masks for each number."""
        return [
            (a + np.array([0, number * 7919])).astype(a.dtype) if id(v) in self._seeds else a
            for v, a in zip(self.rest, rest, strict=True)
        ]

    @property
    def is_random(self) -> bool:
        """Whether there are random layers."""
        return bool(self._seeds)

    def state(self) -> list[np.ndarray]:
        """The values now of all that does not move: other weights, statistics, seeds."""
        return [np.array(backend.to_numpy(v)) for v in self.rest]


class Moment:
    """An objective at one moment of training: the seeds, statistics and resting weights of then, and a batch.

    Args:
        objective: The `Objective`.
        data: The batch, `(x, y, sample_weight)`.
        chunk_size: The most examples that go through the model at once; None: all.
    """

    def __init__(self, objective: Objective, data: tuple, chunk_size: int | None = None):
        self.objective, self._data, self._chunk_size = objective, data, chunk_size
        self._rest, self._generators = objective.state(), backend.generator_state()

    def loss(self, weights: list[np.ndarray]) -> float:
        """The loss at some values of the moving variables."""
        return float(self._mean(self.objective.exact.loss, weights))

    def gradient(
        self, weights: list[np.ndarray], data: tuple | None = None, masks: int = 0
    ) -> tuple[float, list[np.ndarray | None]]:
        """The loss and its gradient, also of other data, or with other masks than the moment's own (0)."""
        loss, gradients = self._mean(self.objective.exact.gradient, weights, data=data, masks=masks)
        return float(loss), gradients

    def hessian_vector(
        self, weights: list[np.ndarray], vectors: list[np.ndarray]
    ) -> list[np.ndarray]:
        """The Hessian times a vector."""
        return self._mean(self.objective.exact.hessian_vector, weights, vectors)

    def _mean(self, function, *arguments, data=None, masks=0):
        """The mean over the chunks of the batch, each weighted by its examples."""
        data = self._data if data is None else data
        size = batches.size_of(data)
        step = self._chunk_size or size
        total: Any = None
        for number, start in enumerate(range(0, size, step)):
            chunk = batches.cut(data, start, start + step)
            # Each chunk has masks of its own, as examples of a batch do.
            found = self._call(function, *arguments, data=chunk, masks=masks + 1_000_003 * number)
            if step >= size:
                return found
            share = batches.size_of(chunk) / size
            found = keras.tree.map_structure(lambda a, s=share: None if a is None else a * s, found)
            total = found if total is None else keras.tree.map_structure(_plus, total, found)
        return total

    def _call(self, function, *arguments, data, masks):
        """Computes with the masks of the moment, and leaves the framework's own generators as they are."""
        before, rest = backend.generator_state(), self._rest
        backend.set_generator_state(self._generators)
        if masks:
            backend.reseed(masks)
            rest = self.objective.with_masks(rest, masks)
        try:
            return function(*arguments, rest, data)
        finally:
            backend.set_generator_state(before)


def _plus(a, b):
    return None if a is None else a + b


def _floats(variable):
    return keras.backend.is_float_dtype(variable.dtype)
