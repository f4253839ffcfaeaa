"""What the claims about regularization and optimizers are decided by: numbers with intervals, from runs and probes."""

import collections
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from experiments.interplay.grid import ADAPTIVE, REGULARIZATIONS
from layerwise.comparison import intervals, tuning

CELL = ["schedule", "optimizer"]
COLUMNS = ["what", "value", "low", "high"]


def over_cells(values: Iterable[float], what: str = "all cells") -> pd.DataFrame:
    """One row: the mean of a value of each cell, with its interval over the cells."""
    values = pd.Series(values, dtype="float64").replace([np.inf, -np.inf], np.nan).dropna()
    return pd.DataFrame([(what, *intervals.mean(values))] if len(values) else [], columns=COLUMNS)


def each(values: dict[str, Sequence[float]], estimate: Callable = intervals.mean) -> pd.DataFrame:
    """A row each: the mean of its values, or what else is to be estimated, with intervals that cover all at once
    (Bonferroni).
    """
    level = 1 - (1 - intervals.LEVEL) / max(len(values), 1)
    return pd.DataFrame(
        [(what, *estimate(own, level)) for what, own in values.items()], columns=COLUMNS
    )


def best(runs: pd.DataFrame, column: str) -> pd.DataFrame:
    """What was tuned for the score: a row a cell, a column a regularization."""
    own = scored(runs).groupby(["regularizer", *CELL])[column].first().astype("float64")
    return own.unstack("regularizer").reindex(columns=list(REGULARIZATIONS))


def paired(
    runs: pd.DataFrame, column: str, one: str, other: str, estimate: Callable = intervals.mean
) -> pd.DataFrame:
    """The mean difference of a column between two regularizations, paired by seed, for each schedule and optimizer.

    Where it is infinite with both they do not differ.
    """
    found = {}
    for cell, own in scored(runs).groupby(CELL, sort=False):
        values = own.pivot_table(index="seed", columns="regularizer", values=column)
        if {one, other} <= set(values):
            both = np.isinf(values[[one, other]]).all(axis=1)
            with np.errstate(invalid="ignore"):
                found[", ".join(cell)] = (values[one] - values[other]).mask(both, 0.0).dropna()
    return each(found, estimate)


def scored(runs: pd.DataFrame) -> pd.DataFrame:
    """The measured runs of the setting that was tuned for the score."""
    return tuning.of_purpose(runs, "score")


def undropped(runs: pd.DataFrame) -> pd.Series:
    """Which measured runs are of dropout that was tuned to none at all: they say nothing of what dropout does."""
    if "model.strength" not in runs:
        return pd.Series(False, runs.index)
    named = runs["regularizer"].str.contains("dropout") & (runs["phase"] == "measure")
    return named & (pd.to_numeric(runs["model.strength"]) == 0)


def tuned_away(runs: pd.DataFrame) -> str:
    """In how many cells no dropout at all was best, in a sentence."""
    own = scored(runs)
    own = own[own["regularizer"].str.contains("dropout")]
    without, cells = (
        sum(
            not _is_a_copy(name, *cell)
            for name, *cell in part.groupby(["regularizer", *CELL]).groups
        )
        for part in (own[undropped(own)], own)
    )
    return (
        f"With dropout among what was tuned, none at all was best in {without} of {cells} cells; what is said of the noise "
        "of its gradients is measured in the others, what is said of losses and rates by the tuning runs."
    )


def rates(runs: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The best learning rate under one regularization over that under another, as a power of ten."""
    found = best(runs, "learning_rate")
    return over_cells(np.log10(found[one] / found[other]), "all cells, powers of ten")


def by_strength(runs: pd.DataFrame, names: Sequence[str], column: str) -> pd.DataFrame:
    """The best value of what else is tuned: under a grid's largest strength over under its smallest, as a power of ten.

    Only values that were tried under both count: a grid that extends itself does so where the best is.
    """
    found = []
    for (name, *cell), own in _tuning(runs, names):
        if _is_a_copy(name, *cell):
            continue
        strengths = REGULARIZATIONS[name]["model.strength"]
        ends = own[own["model.strength"].isin([min(strengths), max(strengths)])]
        each = ends.groupby([*REGULARIZATIONS[name], "learning_rate"])[
            "best_validation_score"
        ].mean()
        best = each.groupby(["model.strength", column]).max().unstack("model.strength").dropna()
        if best.shape[1] == 2 and len(best) > 1:
            small, large = best.idxmax()
            found.append(np.log10(large / small))
    return over_cells(found, "all cells, powers of ten")


def noise_hurts(runs: pd.DataFrame) -> pd.DataFrame:
    """By how much more the largest dropout of the grid raises the final training loss under SGD than under adaptive
    methods, for each schedule, over the tuning seeds: each at the learning rate, of those tried with both, that is best for
    that loss.
    """
    strength, raised = max(REGULARIZATIONS["dropout"]["model.strength"]), {}
    for (_, schedule, optimizer), own in _tuning(runs, ["dropout"]):
        losses = own.pivot_table(
            index="seed", columns=["model.strength", "learning_rate"], values="train_loss"
        )
        if {0.0, strength} <= set(losses.columns.get_level_values(0)):
            both = losses[strength].columns.intersection(losses[0.0].columns)
            own = (losses[s][both] for s in (strength, 0.0))
            with_it, without = (of_rates[of_rates.mean().idxmin()] for of_rates in own)
            raised.setdefault(schedule, {})[optimizer] = with_it - without
    found = {}
    for schedule, own in raised.items():
        adaptive = [own[name] for name in own if name in ADAPTIVE]
        if "SGD" in own and adaptive:
            found[schedule] = (own["SGD"] - sum(adaptive) / len(adaptive)).dropna()
    return each(found)


def _tuning(runs, names):
    """The tuning runs of some regularizations, cell by cell, with numbers for what was tuned."""
    tune = runs[(runs["phase"] == "tune") & runs["regularizer"].isin(names)]
    knobs = {knob for name in names for knob in REGULARIZATIONS[name] if knob in tune}
    numbers = {knob: pd.to_numeric(tune[knob]) for knob in knobs}
    return tune.assign(**numbers).groupby(["regularizer", *CELL], sort=False)


def smoother(runs: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """The logarithm to base 10 of how many times rougher the loss along a step is with batch normalization than without."""
    own = probes[probes["measure"] == "effective_smoothness"]
    return paired(probed(runs, own), "probed", "batch norm", "none")


def noisier(runs: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """The logarithm to base 10 of how many times noisier gradients are with dropout than without, medians over seeds: some
    are infinitely noisy, where the mean gradient cannot be told from zero.
    """
    own, kept = probes[probes["measure"] == "batch_noise"], scored(runs)
    return paired(
        probed(kept[~undropped(kept)], own), "probed", "dropout", "none", intervals.median
    )


def probed(runs: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    """Runs with a column `probed`: the logarithm to base 10 of the median, over blocks and moments, of a measured value."""
    medians = values.groupby("run_id")["value"].median().rename("probed")
    measured = runs.merge(medians, on="run_id", how="left")
    return measured.assign(probed=np.log10(measured["probed"].where(measured["probed"] > 0)))


def flatter(runs: pd.DataFrame, probes: pd.DataFrame) -> pd.DataFrame:
    """The adaptive sharpness with batch normalization over that without, as a power of ten, paired by seed, where both runs
    have the same training loss: the larger of the least that each of them had when it was probed.

    Adaptive sharpness is that of weights moved in proportion to their size. The plain one (SAM) would be small for large
    weights alone, which batch normalization allows: it divides their scale out.
    """
    at, losses = ["run_id", "step"], probes[probes["measure"] == "loss"]
    before = losses[pd.to_numeric(losses["other"]) == 0]
    sharp = probes[probes["measure"] == "adaptive_sharpness"]
    points = pd.DataFrame(
        {
            name: own.groupby(at)["value"].mean()
            for name, own in (("loss", before), ("sharp", sharp))
        }
    )
    points = np.log10(points[(points > 0).all(axis=1)]).sort_values("loss")
    paths = {run_id: own.to_numpy().T for run_id, own in points.groupby("run_id")}
    found = {}
    for cell, own in scored(runs).groupby(CELL, sort=False):
        ids = own.pivot_table(index="seed", columns="regularizer", values="run_id", aggfunc="first")
        if not {"batch norm", "none"} <= set(ids):
            continue
        pairs = [
            (paths.get(a), paths.get(b))
            for a, b in zip(ids["batch norm"], ids["none"], strict=True)
        ]
        found[", ".join(cell)] = [
            difference
            for a, b in pairs
            if a is not None and b is not None
            for difference in _at_equal_loss(a, b)
        ]
    return each(found)


def _at_equal_loss(one, other):
    """The difference of two runs' sharpness where their (ascending) losses are equal: one value, none if they never are."""
    level = max(losses[0] for losses, _ in (one, other))
    found = []
    for losses, sharp in (one, other):
        if level > losses[-1]:
            return []
        found.append(np.interp(level, losses, sharp))
    return [found[0] - found[1]]


def apart_from_tuning(runs: pd.DataFrame) -> pd.DataFrame:
    """What is lost in validation score where the learning rate that was tuned without a regularization is kept with it, and
    where the one that was tuned for all layers at once is kept by another schedule: a row a regularization and schedule.

    Each tuning seed is left out once: what is best on the others, at any rate and at the kept one, is scored on it. (The
    best of many on the same seeds would look better than the best of few by chance alone.) All but the rate is chosen anew.
    A cell counts where every rate that would be kept was tried in it.
    """
    tune = runs[runs["phase"] == "tune"]
    knobs = [name for name in ("model.strength", "optimizer.weight_decay") if name in tune]
    tables = {
        cell: own.assign(**{knob: own[knob].astype(str).fillna("") for knob in knobs})
        .pivot_table(
            index=["learning_rate", *knobs], columns="seed", values="best_validation_score"
        )
        .dropna()
        for cell, own in tune.groupby(["regularizer", *CELL])
        if own["seed"].nunique() > 1  # else none is left to choose by
    }
    found = collections.defaultdict(list)
    for place, reference, kept in (
        (0, "none", "from no regularization to {}"),
        (1, "simultaneous", "from all layers at once to {}"),
    ):
        for cell, scores in tables.items():
            tuned = (*cell[:place], reference, *cell[place + 1 :])
            if cell == tuned or tuned not in tables or scores.empty or _is_a_copy(*cell):
                continue
            lost = [*_lost(scores, tables[tuned])]
            if lost and not np.isnan(lost).any():
                found[kept.format(cell[place])].append(np.mean(lost))
    return each({what: values for what, values in found.items() if len(values) > 1})


def _lost(scores, tuned):
    """By each tuning seed, the score at a kept rate less that at the best one; tables with a row a setting."""
    for seed in scores.columns.intersection(tuned.columns):
        others = scores.drop(columns=seed).mean(axis=1)
        rate = tuned.drop(columns=seed).mean(axis=1).idxmax()[0]
        kept = others[np.isclose(others.index.get_level_values("learning_rate"), rate, rtol=0.05)]
        if kept.empty:
            yield np.nan
        else:
            yield scores.loc[kept.idxmax(), seed] - scores.loc[others.idxmax(), seed]


def _is_a_copy(regularization, schedule, optimizer):
    """Whether runs are those of Adam again: with its decay tuned AdamW is Adam."""
    return "decay" in regularization and optimizer == "AdamW"
