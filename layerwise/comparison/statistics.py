"""From runs to statements: interquartile means over seeds, bootstrap intervals, paired differences.

Interquartile mean, bootstrap and probability of improvement as in Agarwal et al., Deep
reinforcement learning at the edge of the statistical precipice (NeurIPS 2021).
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from layerwise.comparison.frames import KEY, TASK
from layerwise.comparison.tuning import tuned_learning_rate

# Whether more is better.
METRICS = {
    "epochs_to_target": False,
    "flops_to_target": False,
    "seconds_to_target": False,
    "area_under_curve": True,
    "train_loss": False,
    "test_loss": False,
    "test_accuracy": True,
    "accuracy_gap": False,
}
_SUFFIXES = ("iqm", "low", "high", "difference", "difference_low", "difference_high", "improvement")
SUMMARY_COLUMNS = [
    *(*KEY, "learning_rate", "n_runs", "n_finished", "reach_rate"),
    *(f"{metric}_{suffix}" for metric in METRICS for suffix in _SUFFIXES),
]
RESAMPLES = 10_000


def interquartile_mean(values: Sequence[float] | np.ndarray, axis: int = -1) -> Any:
    """The mean of the middle half.

    Example:
    >>> from layerwise.comparison.statistics import interquartile_mean
    >>> float(interquartile_mean([1.0, 2.0, 3.0, 100.0]))
    2.5
    """
    return scipy.stats.trim_mean(values, 0.25, axis=axis)


def estimate(values: Sequence[float] | np.ndarray | pd.Series) -> tuple[float, float, float]:
    """`(interquartile mean, low, high)` with the 95 % percentile bootstrap interval; the same for
    the same values.

    NaN where there are no values; no interval for a single one.

    Example:
    >>> from layerwise.comparison.statistics import estimate
    >>> estimate([2.0, 2.0, 2.0])
    (2.0, 2.0, 2.0)
    """
    values = np.asarray(values, "float64")
    if not len(values):
        return np.nan, np.nan, np.nan
    center = float(interquartile_mean(values))
    if len(values) == 1:
        return center, np.nan, np.nan
    interval = scipy.stats.bootstrap(
        (values,),
        interquartile_mean,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return center, float(interval.low), float(interval.high)


def probability_of_improvement(
    values: Sequence[float] | np.ndarray | pd.Series,
    baseline: Sequence[float] | np.ndarray | pd.Series,
    more_is_better: bool,
) -> float:
    """How likely a run of the one beats a run of the other: wins, and half of the ties, over all
    pairs.

    A missing value (a target that was missed, a run that diverged) loses against any other and ties
    with another missing.

    Example:
    >>> from layerwise.comparison.statistics import probability_of_improvement
    >>> probability_of_improvement([3, 4], [5, float("nan")], more_is_better=False)
    1.0
    """
    if not len(values) or not len(baseline):
        return np.nan
    sign = 1.0 if more_is_better else -1.0
    ours, theirs = (
        np.nan_to_num(sign * np.asarray(v, "float64"), nan=-np.inf) for v in (values, baseline)
    )
    wins = ours[:, None] > theirs[None, :]
    ties = ours[:, None] == theirs[None, :]
    return float(np.mean(wins + 0.5 * ties))


def summarize(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """The frame `summary`: one row per cell, from its measured runs.

    Costs are over the runs that reached the target, with `reach_rate` beside them; losses and
    accuracies over the runs that finished, with `n_finished` beside them. Differences are paired by
    seed (schedule less baseline; where both have a value). `improvement` takes all runs: a missing
    value counts as the worst.

    Args:
        runs: The frame `runs`.
        baseline: The name of the schedule that others are compared with. Its own differences are
            empty.
    """
    rows = []
    for key, cell in runs.groupby(KEY, sort=False):
        measured = cell[cell["phase"] == "measure"].set_index("seed")
        if measured.empty:
            continue
        row = dict(zip(KEY, key, strict=True))
        task = (runs[TASK] == [row[name] for name in TASK]).all(axis=1)
        reference = runs[task & (runs["schedule"] == baseline) & (runs["phase"] == "measure")]
        row |= {
            "learning_rate": tuned_learning_rate(cell)
            if (cell["phase"] == "tune").any()
            else np.nan,
            "n_runs": len(measured),
            "n_finished": int((measured["status"] == "finished").sum()),
            "reach_rate": float(measured["reached"].mean()),
        }
        is_baseline = row["schedule"] == baseline
        for metric, more_is_better in METRICS.items():
            row |= _metric(
                metric, measured, reference.set_index("seed"), more_is_better, is_baseline
            )
        rows.append(row)
    return pd.DataFrame(rows, columns=SUMMARY_COLUMNS)


def paired(
    runs: pd.DataFrame,
    baseline: str,
    column: str,
    combine: Callable[[pd.Series, pd.Series], pd.Series],
) -> pd.DataFrame:
    """`combine(value, the baseline's value)` for each measured run of every cell, paired by seed.

    Args:
        runs: The frame `runs`.
        baseline: The name of the baseline schedule.
        column: A column of `runs`.
        combine: Of two series, for example `operator.sub`.

    Returns:
        A frame with the key of a cell, `seed` and `value`; pairs with a missing value are left out.
    """
    measured = runs.loc[runs["phase"] == "measure", [*KEY, "seed", column]]
    reference = measured[measured["schedule"] == baseline].drop(columns="schedule")
    pairs = measured.merge(reference, on=[*TASK, "seed"], suffixes=("", "_baseline"))
    value = combine(pairs[column].astype("float64"), pairs[f"{column}_baseline"].astype("float64"))
    pairs = pairs[[*KEY, "seed"]].assign(value=value.replace([np.inf, -np.inf], np.nan))
    return pairs.dropna(subset="value")


def relative_costs(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """What reaching the target cost, as a multiple of what it cost the baseline, paired by seed.

    Args:
        runs: The frame `runs`.
        baseline: The name of the baseline schedule.

    Returns:
        A frame with one row per cell and clock (`epochs`, `updates`, `flops`, `seconds`): the key
        of the cell, `clock`, `iqm`, `low`, `high` (of the ratio; NaN where no pair of runs reached
        the target), `n_reached`, `n_runs`.
    """
    measured = runs[runs["phase"] == "measure"]
    counts = measured.groupby(KEY, sort=False)["reached"].agg(["sum", "size"])
    rows = []
    for clock in ("epochs", "updates", "flops", "seconds"):
        ratios = paired(runs, baseline, f"{clock}_to_target", operator.truediv)
        for key, (n_reached, n_runs) in counts.iterrows():
            values = ratios.loc[(ratios[KEY] == list(key)).all(axis=1), "value"]
            numbers = (*estimate(values), int(n_reached), int(n_runs))
            rows.append((*key, clock, *numbers))
    return pd.DataFrame(rows, columns=[*KEY, "clock", "iqm", "low", "high", "n_reached", "n_runs"])


def _metric(name, measured, reference, more_is_better, is_baseline):
    values = measured[name].astype("float64")
    result = dict(zip(("iqm", "low", "high"), estimate(values.dropna()), strict=True))
    if not is_baseline:
        theirs = reference[name].astype("float64")
        difference = estimate((values - theirs).dropna())
        suffixes = ("difference", "difference_low", "difference_high")
        result |= dict(zip(suffixes, difference, strict=True))
        result["improvement"] = probability_of_improvement(values, theirs, more_is_better)
    return {f"{name}_{suffix}": value for suffix, value in result.items()}
