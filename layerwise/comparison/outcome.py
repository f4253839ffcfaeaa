"""What one run leaves behind: how it ended, what it cost, and its evaluations."""

import collections
import dataclasses
import functools

import numpy as np
import pandas as pd

from layerwise.steps import Update


@dataclasses.dataclass
class Evaluation:
    """One evaluation: how far training had come, and the scores at that point.

    Args:
        epoch: Epochs trained so far; 0 is before training.
        examples: Examples seen so far.
        train_seconds: Seconds of training so far, without evaluations and first-call compilation.
        counts: How often each Update ran so far, and whatever else a schedule counts as work.
        scores: `{split: (loss, score)}`.
        flops: Floating-point operations so far; known when the run is over.
    """

    epoch: int
    examples: int
    train_seconds: float
    counts: collections.Counter
    scores: dict[str, tuple[float, float]]
    flops: int | None = None

    @functools.cached_property
    def finite(self) -> bool:
        """Whether all losses and scores are finite numbers."""
        return all(np.isfinite(value) for values in self.scores.values() for value in values)

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
        evaluation_seconds: Seconds of all evaluations.
        metric: What the score is.
        direction: "max" where more of it is better, "min" where less is.
        optimizer_state_bytes: Bytes of optimizer state that are held at the end.
        standard_error: Of the best validation score, as an estimate from the validation part.
        evaluations: One before training and one after each epoch.
        probes: What Probes measured.
    """

    status: str
    error: str = ""
    n_blocks: int | None = None
    compile_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    metric: str = ""
    direction: str = "max"
    optimizer_state_bytes: int | None = None
    standard_error: float | None = None
    evaluations: list[Evaluation] = dataclasses.field(default_factory=list)
    probes: list[pd.DataFrame] = dataclasses.field(default_factory=list)

    @property
    def sign(self) -> int:
        """1 where a greater score is better, -1 where a smaller one is."""
        return 1 if self.direction == "max" else -1

    @property
    def best(self) -> Evaluation | None:
        """The evaluation with the best validation score, ties to the lower loss; untrained models are not asked."""
        trained = [e for e in self.evaluations if e.epoch and e.finite]
        return max(trained, key=self.merit, default=None)

    def merit(self, evaluation: Evaluation) -> tuple[float, float]:
        """What `best` goes by: greater is better."""
        loss, score = evaluation.scores["validation"]
        return self.sign * score, -loss


def in_short(error: Exception) -> str:
    """An error as a row of `runs` holds it: its type and text, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
