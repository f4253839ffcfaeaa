"""Update: what one optimizer step does, and the losses that it descends. Look: what is measured before one."""

import itertools
from dataclasses import dataclass, field
from numbers import Integral


def _as_ints(value, *names):
    """Makes Python's ints of NumPy's, which cannot be written as JSON."""
    for name in names:
        given = getattr(value, name)
        if isinstance(given, tuple):
            object.__setattr__(value, name, tuple(map(int, given)))
        elif isinstance(given, Integral):
            object.__setattr__(value, name, int(given))


@dataclass(frozen=True)
class Loss:
    """A loss that an Update descends, and how far down its gradient flows.

    Args:
        after: `None`: the loss of the model's own output; `k`: that of the auxiliary head after block `k`.
        cut: The gradient does not cross the input of block `cut`: no block below it feels this loss. 0: it flows through
            the whole network.

    Raises:
        ValueError: The loss is cut off above the block that it is taken after.

    Example: the local loss of block 2, as in decoupled greedy learning (Belilovsky et al. 2020).

    >>> from layerwise import Loss
    >>> Loss(after=2, cut=2)
    Loss(after=2, cut=2)
    """

    after: int | None = None
    cut: int = 0

    def __post_init__(self) -> None:
        after = self.after is None or (isinstance(self.after, Integral) and self.after >= 0)
        if not after or not isinstance(self.cut, Integral) or self.cut < 0:
            raise ValueError(
                f"A Loss is taken after a block's index or None, and cut at a block's index, got {self!r}."
            )
        if self.after is not None and self.cut > self.after:
            raise ValueError(
                f"A Loss reaches the blocks from `cut` to `after`, and {self!r} reaches none. Let cut be at most after."
            )
        _as_ints(self, "after", "cut")

    def reaches(self, block: int) -> bool:
        """Whether a block feels this loss."""
        return self.cut <= block and (self.after is None or block <= self.after)


@dataclass(frozen=True)
class Update:
    """One optimizer step: which blocks move, and which losses they descend.

    A program is compiled once per distinct Update and found again by it, so an Update is a frozen, hashable value.

    Several losses are added up and descended together: one forward pass, one program, one clipping over the gradients of
    all that moves (`global_clipnorm` is the norm over all of them), one count of each moving block. The logs show the sum
    as `loss`, and the metrics of the predictions of the last loss (the one furthest from the input). A head moves whenever
    its loss is descended.

    Args:
        blocks: Indices of the blocks that move, ascending. `None` is the model's own train function: every trainable
            variable moves, and nothing of layerwise is in the step.
        losses: The losses that are descended, each a `Loss`.
        frozen_below: Blocks with a smaller index run in inference mode: fixed features.
        visit: The number of the visit that this Update belongs to. Where it is `None`, a visit lasts as long as the same
            blocks move. Not part of the Update's identity.
        resident: Those of the moving blocks whose optimizer state outlives visits, whatever the schedule's `state` says.
            Not part of the identity either.

    Raises:
        ValueError: `blocks`, `losses` or `resident` are not such tuples.

    Example:
    >>> from layerwise import Loss, Update
    >>> Update(blocks=(2,)) == Update(blocks=(2,), visit=7)
    True
    >>> local = Update(blocks=(0, 1), losses=(Loss(after=0), Loss(cut=1)))  # each block its own loss
    >>> local.losses
    (Loss(after=0, cut=0), Loss(after=None, cut=1))
    """

    blocks: tuple[int, ...] | None
    losses: tuple[Loss, ...] = (Loss(),)
    frozen_below: int = 0
    visit: int | None = field(default=None, compare=False)
    resident: tuple[int, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        losses = isinstance(self.losses, tuple) and self.losses
        if not losses or not all(isinstance(loss, Loss) for loss in self.losses):
            raise ValueError(
                f"An Update's losses must be a tuple of one or more Loss, got {self!r}."
            )
        _as_ints(self, "frozen_below", "visit")
        if self.blocks is None:
            return
        if not self.blocks or not _ascending(self.blocks):
            raise ValueError(
                f"An Update's blocks must be None or a tuple of one or more ascending indices, got {self!r}."
            )
        if not _ascending(self.resident) or not set(self.resident) <= set(self.blocks):
            raise ValueError(
                f"An Update's resident blocks must be some of those that move, ascending, got {self!r}."
            )
        _as_ints(self, "blocks", "resident")

    @property
    def by_blocks(self) -> bool:
        """Whether the step runs through the blocks' sub-models rather than the whole model."""
        return self.losses != (Loss(),) or self.frozen_below > 0

    @property
    def heads(self) -> tuple[int, ...]:
        """The blocks whose auxiliary heads the losses go through, ascending."""
        return tuple(sorted({loss.after for loss in self.losses if loss.after is not None}))

    @property
    def last(self) -> int | None:
        """The last block that the forward pass runs through; None: the model's last."""
        return None if any(loss.after is None for loss in self.losses) else self.heads[-1]


@dataclass(frozen=True)
class Look:
    """What a schedule measures of a batch before it decides: one gradient of the whole model.

    Weights, optimizer, seeds and statistics are afterwards what they were before.

    Args:
        quantity: "gradient_norm": for each block, the L2 norm of the gradient of the model's loss with respect to the
            block's variables; "loss": the model's loss, regularizers included.

    Raises:
        ValueError: No such quantity.
    """

    quantity: str = "gradient_norm"

    def __post_init__(self) -> None:
        if self.quantity not in QUANTITIES:
            raise ValueError(
                f"A schedule can look at {', '.join(map(repr, QUANTITIES))}, got {self.quantity!r}."
            )


QUANTITIES = ("gradient_norm", "loss")


def starts_visit(update: Update, last: Update | None) -> bool:
    """Whether a visit begins with an Update that follows `last`."""
    if last is None:
        return True
    if update.visit is None:
        return update.blocks != last.blocks
    return update.visit != last.visit


def _ascending(blocks):
    if not isinstance(blocks, tuple) or not all(isinstance(k, Integral) for k in blocks):
        return False
    return all(a < b for a, b in itertools.pairwise(blocks))
