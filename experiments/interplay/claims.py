"""The claims of a course on regularization and optimizers, each with a verdict from rows."""

import dataclasses
from collections.abc import Callable

import pandas as pd

from experiments.interplay import start
from experiments.interplay.grid import REGULARIZATIONS
from experiments.interplay.measures import (
    apart_from_tuning,
    by_strength,
    flatter,
    noise_hurts,
    noisier,
    paired,
    rates,
    smoother,
)

DROPOUT, WITH_DECAY = (
    max(REGULARIZATIONS[name]["model.strength"]) for name in ("dropout", "dropout, decay")
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """The frames that claims are judged by.

    Attributes:
        runs: Of all schedules, optimizers and regularizations.
        probes: What was probed in them.
        starts: Runs from weights of several scales (`experiments.interplay.start`).
    """

    runs: pd.DataFrame
    probes: pd.DataFrame
    starts: pd.DataFrame


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, and how rows decide.

    Attributes:
        says: The claim.
        number: What is measured of it.
        measure: Of the frames, rows with the columns `what`, `value`, `low`, `high`.
        holds: Which values speak for the claim: `rows -> whether each does`.
    """

    says: str
    number: str
    measure: Callable[[Measured], pd.DataFrame]
    holds: Callable[[pd.DataFrame], pd.Series]

    def verdict(self, rows: pd.DataFrame) -> str:
        """Whether the claim holds: in all rows, in some, in none, or the other way round; without rows it is unmeasured."""
        if rows.empty:
            return "was not measured here"
        rows = rows.dropna(subset=["low"])
        if rows.empty:  # too few cells or seeds for an interval
            return "cannot be told here"
        clear, against = self.sides(rows)
        if clear.all():
            return "holds"
        if clear.any() and not against.any():
            return f"holds in {clear.sum()} of {len(rows)}, else within chance"
        if clear.any():
            return f"mixed: for it {clear.sum()}, against it {against.sum()} of {len(rows)}"
        if against.any() and not against.all():
            return (
                f"does not hold: the opposite in {against.sum()} of {len(rows)}, else within chance"
            )
        return "does not hold: the opposite" if against.all() else "cannot be told here"

    @property
    def arrow(self) -> str:
        """To which side of zero what is measured speaks for the claim; nothing where both do."""
        return {above: "→", below: "←"}.get(self.holds, "")

    def sides(self, rows: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
        """Which of some rows speak for the claim, and which against it."""
        clear = self.holds(rows)
        # A claim of a difference, whichever, has no opposite.
        mirrored = rows.assign(value=-rows["value"], low=-rows["high"], high=-rows["low"])
        return clear, self.holds(mirrored) & ~clear


def above(rows: pd.DataFrame) -> pd.Series:
    """Whether the whole interval lies above zero."""
    return rows["low"] > 0


def below(rows: pd.DataFrame) -> pd.Series:
    """Whether the whole interval lies below zero."""
    return rows["high"] < 0


def apart(rows: pd.DataFrame) -> pd.Series:
    """Whether the interval leaves zero out."""
    return (rows["low"] > 0) | (rows["high"] < 0)


CLAIMS = {
    "L2 and decay": Claim(
        "Under Adam, L2 in the loss and decoupled decay are not the same.",
        "test score, L2 less decay",
        lambda m: paired(
            m.runs[m.runs["optimizer"] == "Adam"], "test_score", "L2", "decoupled decay"
        ),
        apart,
    ),
    "penalty and rate": Claim(
        "A larger penalty wants another learning rate.",
        "best rate under the largest penalty over that under the smallest",
        lambda m: by_strength(m.runs, ["L1", "L2"], "learning_rate"),
        apart,
    ),
    "dropout and SGD": Claim(
        "Dropout's noise hurts SGD more than adaptive methods.",
        f"rise of the training loss by a dropout of {DROPOUT}, under SGD less under adaptive methods",
        lambda m: noise_hurts(m.runs),
        above,
    ),
    "dropout and rate": Claim(
        "Dropout wants a lower learning rate.",
        f"best rate with a dropout of {DROPOUT} over that without",
        lambda m: by_strength(m.runs, ["dropout", "dropout, batch norm"], "learning_rate"),
        below,
    ),
    "dropout and decay": Claim(
        "With dropout less weight decay is best.",
        f"best decay with a dropout of {WITH_DECAY} over that without",
        lambda m: by_strength(m.runs, ["dropout, decay"], "optimizer.weight_decay"),
        below,
    ),
    "batch norm and smoothness": Claim(
        "Batch normalization makes the landscape smoother along a step.",
        "how much the gradient changes along a step, with it over without, powers of ten",
        lambda m: smoother(m.runs, m.probes),
        below,
    ),
    "batch norm and flatness": Claim(
        "Batch normalization finds flatter places.",
        "adaptive sharpness (scaling layers leaves it alone) at equal training loss, with it over without, powers of 10",
        lambda m: flatter(m.runs, m.probes),
        below,
    ),
    "dropout and noise": Claim(
        "Dropout makes gradients noisier.",
        "the gradient's noise over its squared mean, with it over without, powers of ten, medians",
        lambda m: noisier(m.runs, m.probes),
        above,
    ),
    "batch norm and rate": Claim(
        "Batch normalization allows larger rates.",
        "best rate with it over that without",
        lambda m: rates(m.runs, "batch norm", "none"),
        above,
    ),
    "batch norm and start": Claim(
        "Batch normalization lessens the sensitivity to initialization.",
        "test score of the best scale of initial weights less that of the worst, with it less without",
        lambda m: start.sensitivity(m.starts),
        below,
    ),
    "batch norm regularizes": Claim(
        "Batch normalization regularizes by itself.",
        "gap between training and test score, with it less without",
        lambda m: paired(m.runs, "score_gap", "batch norm", "none"),
        below,
    ),
    "together": Claim(
        "Techniques must be tuned together.",
        "validation score with a learning rate that is carried over, less that with its own",
        lambda m: apart_from_tuning(m.runs),
        below,
    ),
}


# What a verdict begins with, and what is said of one claim and of several that came to it.
KINDS = (
    ("holds in", "holds in some cells", "hold in some cells"),
    ("holds", "holds", "hold"),
    ("mixed", "holds in some and turns out the other way round in others",
     "hold in some and turn out the other way round in others"),
    ("does not hold: the opposite in", "turns out the other way round in some cells",
     "turn out the other way round in some cells"),
    ("does not hold", "turns out the other way round", "turn out the other way round"),
    ("cannot", "cannot be told here", "cannot be told here"),
    ("was not", "was not measured here", "were not measured here"),
)  # fmt: skip


def in_short(verdicts: dict[str, str]) -> list[str]:
    """How many claims came to which verdict, and which those are, in sentences.

    Args:
        verdicts: Of each claim.

    Example:
    >>> from experiments.interplay.claims import in_short
    >>> found = {"A is B.": "holds", "C is D.": "holds in 2 of 15, else within chance", "E is F.": "holds"}
    >>> for sentence in in_short(found):
    ...     print(sentence)
    Of 3 claims 2 hold and 1 holds in some cells.
    2 hold: A is B. E is F.
    1 holds in some cells: C is D (2 of 15, else within chance).
    """
    found = {}
    for says, verdict in verdicts.items():
        kind = next(kind for kind in KINDS if verdict.startswith(kind[0]))
        where = verdict.removeprefix(kind[0]).removeprefix(":").strip()
        shown = f"{says[:-1]} ({where})." if " of " in where else says
        found.setdefault(kind, []).append(shown)
    order = [KINDS[1], KINDS[0], *KINDS[2:]]
    counts = {
        kind: f"{len(found[kind])} {kind[1] if len(found[kind]) == 1 else kind[2]}"
        for kind in order
        if kind in found
    }
    parts = list(counts.values())
    if len(parts) > 2:
        parts = [", ".join(parts[:-1]) + ",", parts[-1]]
    return [
        f"Of {len(verdicts)} claims {' and '.join(parts)}.",
        *(f"{count}: {' '.join(found[kind])}" for kind, count in counts.items()),
    ]
