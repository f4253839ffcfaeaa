"""The claims of a course on regularization and optimizers, each with a verdict from rows."""

import dataclasses
from collections.abc import Callable, Sequence

import pandas as pd

from experiments.interplay.grid import REGULARIZATIONS
from experiments.interplay.measures import (
    apart_from_tuning,
    by_strength,
    flatter,
    noise_hurts,
    paired,
    probed,
    rates,
    smoother,
    spread,
)

DROPOUT, WITH_DECAY = (
    max(REGULARIZATIONS[name]["model.strength"]) for name in ("dropout", "dropout, decay")
)


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, and how rows decide.

    Attributes:
        says: The claim.
        number: What is measured of it.
        measure: `(runs, probes) -> rows` with the columns `what`, `value`, `low`, `high`.
        holds: Which values speak for the claim: `rows -> whether each does`.
    """

    says: str
    number: str
    measure: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
    holds: Callable[[pd.DataFrame], pd.Series]

    def verdict(self, rows: pd.DataFrame) -> str:
        """Whether the claim holds: in all rows, in some, in none, or the other way round."""
        if rows.empty:
            return "cannot be told here"
        clear = self.holds(rows)
        # A claim of a difference, whichever, has no opposite.
        mirrored = rows.assign(value=-rows["value"], low=-rows["high"], high=-rows["low"])
        against = self.holds(mirrored) & ~clear
        if clear.all():
            return "holds"
        if clear.any() and not against.any():
            return f"holds in {clear.sum()} of {len(rows)}, else within chance"
        if clear.any():
            return f"mixed: for it {clear.sum()}, against it {against.sum()} of {len(rows)}"
        return "does not hold: the opposite" if against.all() else "cannot be told here"


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
        lambda runs, _: paired(
            runs[runs["optimizer"] == "Adam"], "test_score", "L2", "decoupled decay"
        ),
        apart,
    ),
    "penalty and rate": Claim(
        "A larger penalty wants another learning rate.",
        "best rate under the largest penalty over that under the smallest",
        lambda runs, _: by_strength(runs, ["L1", "L2"], "learning_rate"),
        apart,
    ),
    "dropout and SGD": Claim(
        "Dropout's noise hurts SGD more than adaptive methods.",
        f"rise of the training loss by a dropout of {DROPOUT}, under SGD less under adaptive methods",
        noise_hurts,
        above,
    ),
    "dropout and rate": Claim(
        "Dropout wants a lower learning rate.",
        f"best rate with a dropout of {DROPOUT} over that without",
        lambda runs, _: by_strength(runs, ["dropout", "dropout, batch norm"], "learning_rate"),
        below,
    ),
    "dropout and decay": Claim(
        "With dropout less weight decay is best.",
        f"best decay with a dropout of {WITH_DECAY} over that without",
        lambda runs, _: by_strength(runs, ["dropout, decay"], "optimizer.weight_decay"),
        below,
    ),
    "batch norm and smoothness": Claim(
        "Batch normalization makes the landscape smoother along a step.",
        "how much the gradient changes along a step, with it over without, powers of ten",
        smoother,
        below,
    ),
    "batch norm and flatness": Claim(
        "Batch normalization finds flatter places.",
        "sharpness at equal training loss, with it over without, powers of ten",
        flatter,
        below,
    ),
    "dropout and noise": Claim(
        "Dropout makes gradients noisier.",
        "the gradient's noise over its squared mean, with it over without, powers of ten",
        lambda runs, probes: probed(
            runs, probes, "gradient_noise", "batch_noise", "dropout", "none"
        ),
        above,
    ),
    "batch norm and rate": Claim(
        "Batch normalization allows larger rates.",
        "best rate with it over that without",
        lambda runs, _: rates(runs, "batch norm", "none"),
        above,
    ),
    "batch norm and start": Claim(
        "Batch normalization lessens the sensitivity to initialization.",
        "spread of test scores over seeds, with it over without, powers of ten (the scale of the weights was not varied)",
        spread,
        below,
    ),
    "batch norm regularizes": Claim(
        "Batch normalization regularizes by itself.",
        "gap between training and test score, with it less without",
        lambda runs, _: paired(runs, "score_gap", "batch norm", "none"),
        below,
    ),
    "together": Claim(
        "Techniques must be tuned together.",
        "validation score lost where the rate is tuned without the regularization",
        apart_from_tuning,
        below,
    ),
}


def counted(verdicts: Sequence[str]) -> str:
    """How many claims came to which verdict, in a sentence.

    Example:
    >>> from experiments.interplay.claims import counted
    >>> counted(["holds", "holds in 2 of 15, else within chance", *2 * ["cannot be told here"]])
    'Of 4 claims 1 holds, 1 in some cells, and 2 cannot be told here.'
    """
    kinds = (
        ("holds", "hold", lambda word: word == "holds"),
        ("in some cells", "in some cells", lambda word: word.startswith("holds in")),
        (
            "holds in some and turns out the other way round in others",
            "hold in some and turn out the other way round in others",
            lambda word: word.startswith("mixed"),
        ),
        (
            "turns out the other way round",
            "turn out the other way round",
            lambda word: "opposite" in word,
        ),
        ("cannot be told here", "cannot be told here", lambda word: word.startswith("cannot")),
    )
    parts = []
    for one, several, is_kind in kinds:
        number = sum(map(is_kind, verdicts))
        if number:
            parts.append(f"{number} {one if number == 1 else several}")
    if len(parts) > 2:
        parts = [", ".join(parts[:-1]) + ",", parts[-1]]
    return f"Of {len(verdicts)} claims {' and '.join(parts)}."
