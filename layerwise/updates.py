"""Update: what one optimizer step does."""

import itertools
from dataclasses import dataclass, field
from numbers import Integral


@dataclass(frozen=True)
class Update:
    """One optimizer step: which blocks move, and where the loss is taken.

    A program is compiled once per distinct Update and found again by it, so an Update is a frozen, hashable value.

    Args:
        blocks: Indices of the blocks that move, ascending. `None` is the model's own train function: every trainable
            variable moves, and nothing of layerwise is in the step.
        head: Where the loss is taken: `None` for the model's output, `k` for the auxiliary head after block `k`.
        frozen_below: Blocks with a smaller index run in inference mode: fixed features.
        visit: The number of the visit that this Update belongs to. Not part of its identity. Where it is `None`, a visit
            lasts as long as the same blocks move.

    Raises:
        ValueError: `blocks` is no such tuple.

    Example:
    >>> from layerwise import Update
    >>> Update(blocks=(2,)) == Update(blocks=(2,), visit=7)
    True
    >>> Update(blocks=(1,), head=1, frozen_below=1)
    Update(blocks=(1,), head=1, frozen_below=1, visit=None)
    """

    blocks: tuple[int, ...] | None
    head: int | None = None
    frozen_below: int = 0
    visit: int | None = field(default=None, compare=False)

    def __post_init__(self):
        if self.blocks is not None and not _ascending(self.blocks):
            raise ValueError(
                f"An Update's blocks must be None or a tuple of one or more ascending indices, got {self!r}."
            )

    @property
    def stage(self):
        """Whether the step runs through block sub-models rather than the whole model."""
        return self.head is not None or self.frozen_below > 0


def _ascending(blocks):
    if not (isinstance(blocks, tuple) and blocks):
        return False
    if not all(isinstance(k, Integral) for k in blocks):
        return False
    return all(a < b for a, b in itertools.pairwise(blocks))
