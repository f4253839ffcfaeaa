"""The claims of a course on regularization and optimizers, each with a verdict from rows."""

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from experiments.interplay.grid import ADAPTIVE, REGULARIZATIONS
from layerwise.comparison import intervals, tuning
from layerwise.comparison.frames import KEY

CELL = ["schedule", "optimizer"]
COLUMNS = ["what", "value", "low", "high"]


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, and how rows decide.

    Attributes:
        says: The claim.
        measure: `(runs, probes) -> rows` with the columns `what`, `value`, `low`, `high`.
        holds: Which values speak for the claim: `rows -> whether each does`.
    """

    says: str
    measure: Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
    holds: Callable[[pd.DataFrame], pd.Series]

    def verdict(self, rows: pd.DataFrame) -> str:
        """Whether the claim holds: in all rows, in some, in none, or the other way round."""
        if rows.empty:
            return "cannot be told here"
        clear = self.holds(rows)
        against = self.holds(
            rows.assign(value=-rows["value"], low=-rows["high"], high=-rows["low"])
        )
        if clear.all():
            return "holds"
        if clear.any() and not against.any():
            return f"holds in {clear.sum()} of {len(rows)}, else within chance"
        if clear.any():
            return f"mixed: for it {clear.sum()}, against it {against.sum()} of {len(rows)}"
        return "does not hold: the opposite" if against.all() else "does not show"


def above(rows: pd.DataFrame) -> pd.Series:
    """Whether the whole interval lies above zero."""
    return rows["low"] > 0


def below(rows: pd.DataFrame) -> pd.Series:
    """Whether the whole interval lies below zero."""
    return rows["high"] < 0


def apart(rows: pd.DataFrame) -> pd.Series:
    """Whether the interval leaves zero out."""
    return (rows["low"] > 0) | (rows["high"] < 0)


def over_cells(values: Iterable[float], what: str = "all cells") -> pd.DataFrame:
    """One row: the mean of a value of each cell, with its interval over the cells."""
    values = pd.Series(values, dtype="float64").replace([np.inf, -np.inf], np.nan).dropna()
    return pd.DataFrame([(what, *intervals.mean(values))] if len(values) else [], columns=COLUMNS)


def best(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """What was tuned for the score: a row a cell, a column a regularization."""
    own = scored(runs).groupby(["regularizer", *CELL])[column].first().astype("float64")
    return own.unstack("regularizer").reindex(columns=list(REGULARIZATIONS))


def paired(runs: pd.DataFrame, column: str, one: str, other: str) -> pd.DataFrame:
    """The mean difference of a column between two regularizations, paired by seed, for each schedule and optimizer."""
    rows = []
    for cell, own in scored(runs).groupby(CELL, sort=False):
        values = own.pivot_table(index="seed", columns="regularizer", values=column)
        if {one, other} <= set(values):
            found = intervals.mean((values[one] - values[other]).dropna())
            rows.append((", ".join(cell), *found))
    return pd.DataFrame(rows, columns=COLUMNS)


def scored(runs: pd.DataFrame) -> pd.DataFrame:
    """The measured runs of the setting that was tuned for the score."""
    parts = [tuning.of_purpose(cell, "score") for _, cell in runs.groupby(KEY, sort=False)]
    return pd.concat(parts, ignore_index=True)


def rates(runs: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The best learning rate under one regularization over that under another, as a power of ten."""
    found = best(runs, "learning_rate")
    return over_cells(np.log10(found[one] / found[other]), "all cells, powers of ten")


def rate_by_penalty(runs: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    """The best learning rate under the largest penalty over that under the smallest, as a power of ten."""
    tune = runs[(runs["phase"] == "tune") & runs["regularizer"].isin(["L1", "L2"])]
    if tune.empty:
        return over_cells([])
    cell = ["regularizer", *CELL]
    means = tune.groupby([*cell, "model.strength", "learning_rate"])["best_validation_score"].mean()
    found = []
    for _, own in means.reset_index().groupby(cell):
        top = own.sort_values("best_validation_score").groupby("model.strength").last()
        top = top.set_axis(top.index.astype(float)).sort_index()["learning_rate"]
        found.append(np.log10(top.iloc[-1] / top.iloc[0]))
    return over_cells(found, "L1 and L2, all cells, powers of ten")


def noise_hurts(runs: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    """By how much more dropout raises the final training loss under SGD than under adaptive methods, for each schedule."""
    rows = []
    for schedule, own in scored(runs).groupby("schedule", sort=False):
        values = own.pivot_table(
            index="seed", columns=["optimizer", "regularizer"], values="train_loss"
        )
        if "dropout" not in own["regularizer"].unique():
            continue
        raised = values.xs("dropout", axis=1, level=1) - values.xs("none", axis=1, level=1)
        adaptive = [name for name in raised if name in ADAPTIVE]
        if "SGD" in raised and adaptive:
            rows.append(
                (
                    schedule,
                    *intervals.mean((raised["SGD"] - raised[adaptive].mean(axis=1)).dropna()),
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def decay_with_dropout(runs: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    """The best weight decay with dropout over that without, as a power of ten."""
    if "optimizer.weight_decay" not in runs:
        return over_cells([])
    found = best(runs, "optimizer.weight_decay")
    ratios = found["dropout, decay"] / found["decoupled decay"]
    return over_cells(np.log10(ratios), "all cells, powers of ten")


def smoother(runs: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """The logarithm to base 10 of how many times rougher the loss along a step is with batch normalization than without."""
    return probed(runs, probes, "smoothness", "effective_smoothness", "batch norm", "none")


def probed(
    runs: pd.DataFrame, probes: pd.DataFrame, quantity: str, measure: str, one: str, other: str
) -> pd.DataFrame:
    """The logarithm to base 10 of one regularization's mean of a measured quantity over another's, paired by seed."""
    own = probes[(probes["quantity"] == quantity) & (probes["measure"] == measure)]
    means = own.groupby("run_id")["value"].mean().rename(measure)
    measured = runs.merge(means, on="run_id", how="left")
    measured[measure] = np.log10(measured[measure].where(measured[measure] > 0))
    return paired(measured, measure, one, other)


def flatter(runs: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """The sharpness (SAM) with batch normalization over that without, as a power of ten, paired by seed, where both runs
    have the same training loss: the larger of the least that each of them had when it was probed.
    """
    paths = {}
    for (run_id, step), own in probes.groupby(["run_id", "step"]):
        here = (own["measure"] == "loss") & (pd.to_numeric(own["other"]) == 0)  # before the step
        loss = own[here]["value"].mean()
        sharp = own[own["measure"] == "sharpness"]["value"].mean()
        if loss > 0 and sharp > 0:
            paths.setdefault(run_id, []).append((step, np.log10(loss), np.log10(sharp)))
    rows = []
    for cell, own in scored(runs).groupby(CELL, sort=False):
        ids = own.pivot_table(index="seed", columns="regularizer", values="run_id", aggfunc="first")
        if not {"batch norm", "none"} <= set(ids):
            continue
        pairs = [
            (paths.get(a), paths.get(b))
            for a, b in zip(ids["batch norm"], ids["none"], strict=True)
        ]
        found = [difference for a, b in pairs if a and b for difference in _at_equal_loss(a, b)]
        rows.append((", ".join(cell), *intervals.mean(found)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _at_equal_loss(one, other):
    """The difference of two runs' sharpness where their losses are equal: one value, or none where they never are."""
    level = max(min(loss for _, loss, _ in path) for path in (one, other))
    found = []
    for path in (one, other):
        losses, sharp = np.array(sorted((loss, s) for _, loss, s in path)).T
        if not losses[0] <= level <= losses[-1]:
            return []
        found.append(np.interp(level, losses, sharp))
    return [found[0] - found[1]]


def spread(runs: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    """The spread of test scores over initializations with batch normalization over that without, as a power of ten."""
    found = scored(runs).groupby(["regularizer", *CELL])["test_score"].std().unstack("regularizer")
    found = found.reindex(columns=list(REGULARIZATIONS))
    return over_cells(np.log10(found["batch norm"] / found["none"]), "all cells, powers of ten")


def apart_from_tuning(runs: pd.DataFrame, _: pd.DataFrame) -> pd.DataFrame:
    """What is lost in validation score where the learning rate is tuned without the regularization and kept: the best score
    at the grid's rate nearest to that one, less the best at any rate.
    """
    tune = runs[runs["phase"] == "tune"]
    knobs = [name for name in ("model.strength", "optimizer.weight_decay") if name in tune]
    settings = ["regularizer", *CELL, *knobs, "learning_rate"]
    means = tune.groupby(settings, dropna=False)["best_validation_score"].mean().reset_index()
    top = means.sort_values("best_validation_score").groupby(["regularizer", *CELL]).last()
    top = top["learning_rate"]
    lost = []
    for (name, *cell), own in means.groupby(["regularizer", *CELL]):
        if name == "none" or ("none", *cell) not in top.index:
            continue
        distance = np.log(own["learning_rate"] / top["none", *cell]).abs()
        kept = own.loc[distance <= distance.min() + 1e-9, "best_validation_score"].max()
        lost.append(kept - own["best_validation_score"].max())
    return over_cells(lost)


CLAIMS = {
    "L2 and decay": Claim(
        "Under Adam, L2 in the loss and decoupled decay are not the same (test score, L2 less decay).",
        lambda runs, _: paired(
            runs[runs["optimizer"] == "Adam"], "test_score", "L2", "decoupled decay"
        ),
        apart,
    ),
    "penalty and rate": Claim(
        "A larger penalty wants another learning rate (best rate under the largest penalty over that under the smallest).",
        rate_by_penalty,
        apart,
    ),
    "dropout and SGD": Claim(
        "Dropout's noise hurts SGD more than adaptive methods (rise of the training loss).",
        noise_hurts,
        above,
    ),
    "dropout and rate": Claim(
        "Dropout wants a lower learning rate (best rate with dropout over that without).",
        lambda runs, _: rates(runs, "dropout", "none"),
        below,
    ),
    "dropout and decay": Claim(
        "With dropout less weight decay is best (best decay with dropout over that without).",
        decay_with_dropout,
        below,
    ),
    "batch norm and smoothness": Claim(
        "Batch normalization makes the landscape smoother along a step (effective smoothness, powers of ten).",
        smoother,
        below,
    ),
    "batch norm and flatness": Claim(
        "Batch normalization finds flatter places (sharpness at equal training loss, powers of ten).",
        flatter,
        below,
    ),
    "dropout and noise": Claim(
        "Dropout makes gradients noisier (the batch's noise over the squared mean, powers of ten).",
        lambda runs, probes: probed(
            runs, probes, "gradient_noise", "batch_noise", "dropout", "none"
        ),
        above,
    ),
    "batch norm and rate": Claim(
        "Batch normalization allows larger rates (best rate with it over that without).",
        lambda runs, _: rates(runs, "batch norm", "none"),
        above,
    ),
    "batch norm and start": Claim(
        "Batch normalization lessens the sensitivity to initialization (spread of test scores over seeds, powers of ten).",
        spread,
        below,
    ),
    "batch norm regularizes": Claim(
        "Batch normalization regularizes by itself (gap between training and test score, with it less without).",
        lambda runs, _: paired(runs, "score_gap", "batch norm", "none"),
        below,
    ),
    "together": Claim(
        "Techniques must be tuned together (validation score lost where the rate is tuned without the regularization).",
        apart_from_tuning,
        below,
    ),
}
