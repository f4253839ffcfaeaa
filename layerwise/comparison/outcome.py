"""What one run leaves behind: how it ended, what it cost, and its evaluations."""

import collections
import dataclasses

from layerwise.steps import Update


@dataclasses.dataclass
class Evaluation:
    """One evaluation: how far training had come, and the scores at that point.

    Args:
        epoch: Epochs trained so far; 0 is before training.
        examples: Examples seen so far.
        train_seconds: Seconds of training so far, without evaluations and first-call compilation.
        counts: How often each Update ran so far, and whatever else a schedule counts as work.
        scores: `{split: (loss, accuracy)}`.
        flops: Floating-point operations so far; known when the run is over.
    """

    epoch: int
    examples: int
    train_seconds: float
    counts: collections.Counter
    scores: dict[str, tuple[float, float]]
    flops: int | None = None

    @property
    def update(self) -> int:
        """Optimizer steps so far: a schedule that only looks at a batch takes none."""
        return sum(count for step, count in self.counts.items() if isinstance(step, Update))


@dataclasses.dataclass
class Outcome:
    """What one run leaves behind.

    Args:
        status: "finished", "diverged" or "failed".
        error: Why it failed.
        n_blocks: Blocks of the schedule; 1 where all layers move as one.
        compile_seconds: Seconds of calls that compiled a program.
        optimizer_state_bytes: Bytes of optimizer state that are held at the end.
        evaluations: One before training and one after each epoch.
    """

    status: str
    error: str = ""
    n_blocks: int | None = None
    compile_seconds: float = 0.0
    optimizer_state_bytes: int | None = None
    evaluations: list[Evaluation] = dataclasses.field(default_factory=list)
