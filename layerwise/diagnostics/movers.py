"""What moves in a step, as vectors of float64, and how often a step's batch went through the model."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np


@dataclasses.dataclass
class Passes:
    """How often a step's batch went through the model.

    Attributes:
        forward: Losses that were computed.
        backward: Gradients, each a forward pass and about two more.
        hessian_vector: Hessian-vector products, each about two gradients.
    """

    forward: int = 0
    backward: int = 0
    hessian_vector: int = 0

    @property
    def total(self) -> int:
        return self.forward + self.backward + self.hessian_vector

    def __sub__(self, other: "Passes") -> "Passes":
        return Passes(
            self.forward - other.forward,
            self.backward - other.backward,
            self.hessian_vector - other.hessian_vector,
        )


@dataclasses.dataclass(frozen=True)
class Mover:
    """What moves as one: a block, or the auxiliary head that a greedy stage trains with it.

    Attributes:
        name: The name in the frames.
        variables: The variables, whose values one after another, flattened, are the mover's vector.
    """

    name: str
    variables: tuple[Any, ...]

    @property
    def size(self) -> int:
        """The number of entries of its vector."""
        return sum(int(np.prod(v.shape)) for v in self.variables)


class Layout:
    """How the values of variables become one flat vector a block, and back.

    Args:
        blocks: What moves, each with `variables`.
    """

    def __init__(self, blocks: Sequence[Any]):
        self._shapes = [[tuple(v.shape) for v in block.variables] for block in blocks]

    def arrays(self, vectors: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Vectors of the blocks as one array for each variable."""
        arrays: list[np.ndarray] = []
        for shapes, vector in zip(self._shapes, vectors, strict=True):
            ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
            pieces = np.split(vector, ends[:-1])
            arrays += [p.reshape(shape) for p, shape in zip(pieces, shapes, strict=True)]
        return arrays

    def vectors(self, arrays: Iterable[np.ndarray | None]) -> list[np.ndarray]:
        """One array for each variable as vectors of the blocks; None: zeros."""
        rest, vectors = iter(arrays), []
        for shapes in self._shapes:
            own = [(next(rest), shape) for shape in shapes]
            flat = [np.zeros(shape) if a is None else np.asarray(a) for a, shape in own]
            vectors.append(np.concatenate([a.astype("float64").ravel() for a in flat]))
        return vectors
