"""From runs to statements: medians and means over seeds, paired with the baseline's run of the same seed.

A missed target is an infinite cost, not a missing one. Intervals are those of `intervals`.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from layerwise.comparison import intervals, settings, tuning
from layerwise.comparison.frames import KEY, TASK, sign_of

CLOCKS = {
    "epochs": "epochs",
    "updates": "updates",
    "flops": "flops",
    "seconds": "train_seconds",
}
# Whether more is better; None: as the metric has it.
METRICS = {
    "area_under_curve": None,
    "train_loss": False,
    "test_loss": False,
    "test_score": None,
    "score_gap": False,
}
_SUFFIXES = (
    *("mean", "low", "high", "difference", "difference_low", "difference_high", "p"),
    *("improvement", "improvement_low", "improvement_high"),
)
_ENDS = ("median", "low", "high", "restricted")
RELATIVE = (
    *("ratio", "ratio_low", "ratio_high", "ratio_p"),
    *("improvement", "improvement_low", "improvement_high"),
    *("restricted", "restricted_low", "restricted_high"),
)
SUMMARY_COLUMNS = [
    *(*KEY, "tuned_for", "learning_rate", "n_runs", "n_finished"),
    *("reach_rate", "reach_low", "reach_high"),
    *(f"{clock}_to_target_{end}" for clock in CLOCKS for end in _ENDS),
    *(f"{clock}_{column}" for clock in CLOCKS for column in RELATIVE),
    *(f"{metric}_{suffix}" for metric in METRICS for suffix in _SUFFIXES),
]


def summarize(
    runs: pd.DataFrame, baseline: str, relative: pd.DataFrame | None = None
) -> pd.DataFrame:
    """The frame `summary`: one row per cell and what it was tuned for.

    Costs are medians, and means restricted to `horizon`; the rest are means; intervals are of 95 %. What `relative_costs`
    says of a cell is in the row of the runs that were tuned for cost, as `{clock}_ratio` and so on. `_difference` is
    the mean of the paired differences to the baseline, `_p` of a paired t test, corrected over the schedules of a task
    (Holm); both are empty where a run of any pair diverged or failed. `_improvement` is how likely a run beats the
    baseline's of the same seed: a missing value counts as the worst.

    Args:
        runs: The frame `runs`.
        baseline: The name of the schedule that others are compared with. Its own differences are empty.
        relative: `relative_costs(runs, baseline)`, where it is at hand.
    """
    rows, references = [], _References(runs, baseline)
    limits = {clock: _horizons(runs, clock) for clock in CLOCKS}
    for key, purpose, measured, own in _cells(runs):
        row = dict(zip(KEY, key, strict=True)) | {"tuned_for": purpose, "own": own}
        row |= settings.columns_of(settings.setting_of(measured.iloc[0]))
        n_reached, n_runs = int(measured["reached"].sum()), len(measured)
        row |= {"n_runs": n_runs, "n_finished": int((measured["status"] == "finished").sum())}
        ends = ("reach_rate", "reach_low", "reach_high")
        row |= dict(zip(ends, intervals.share(n_reached, n_runs), strict=True))
        for clock in CLOCKS:
            spent = costs(measured, clock)
            restricted = float(np.minimum(spent, limits[clock][_task_of(key)]).mean())
            names = (f"{clock}_to_target_{end}" for end in _ENDS)
            row |= dict(zip(names, (*intervals.median(spent), restricted), strict=True))
        theirs = references.of(key, purpose)
        for metric in METRICS:
            row |= _metric(metric, measured, None if row["schedule"] == baseline else theirs)
        rows.append(row)
    knobs = settings.knobs_of(runs.columns)
    place = SUMMARY_COLUMNS.index("learning_rate") + 1
    columns = [*SUMMARY_COLUMNS[:place], *knobs, *SUMMARY_COLUMNS[place:]]
    summary = pd.DataFrame(rows, columns=[*columns, "own"])
    for metric in METRICS:
        corrected = summary.groupby([*TASK, "tuned_for"], sort=False)[f"{metric}_p"]
        summary[f"{metric}_p"] = corrected.transform(intervals.holm)
    summary = summary[summary.pop("own").astype(bool)].reset_index(drop=True)
    return _with_relative(summary, relative_costs(runs, baseline) if relative is None else relative)


def costs(measured: pd.DataFrame, clock: str) -> pd.Series:
    """What each run took to the target by a clock (`CLOCKS`): infinite where it missed it."""
    return measured[f"{clock}_to_target"].astype("float64").where(measured["reached"], np.inf)


def paired(runs: pd.DataFrame, baseline: str, column: str, purpose: str = "score") -> pd.DataFrame:
    """Each measured run's value beside that of the baseline's run of the same seed.

    Args:
        runs: The frame `runs`.
        baseline: The name of the baseline schedule.
        column: A column of `runs`; one that ends in `_to_target` is infinite where the target was missed.
        purpose: What the runs were tuned for.

    Returns:
        A frame with the key of a cell, `seed`, `value` and `reference`.
    """
    measured = tuning.of_purpose(runs, purpose)
    values = measured[[*KEY, "seed"]].assign(value=_values(measured, column))
    own = values[values["schedule"] == baseline].rename(columns={"value": "reference"})
    return values.merge(own[[*TASK, "seed", "reference"]], on=[*TASK, "seed"])


def relative_costs(runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """What reaching the target cost, as a multiple of what it cost the baseline, paired by seed.

    A run that missed the target costs infinitely much, and where both missed it neither is cheaper: 1.

    Args:
        runs: The frame `runs`.
        baseline: The name of the baseline schedule.

    Returns:
        A frame with one row per cell and clock (`epochs`, `updates`, `flops`, `seconds`): the key of the cell, `clock`,
        `ratio` (the median), `ratio_low`, `ratio_high`, `ratio_p` (of a sign test, corrected over the schedules of a task
        (Holm)), `improvement` (how likely a run is cheaper than the baseline's, ties half), `improvement_low`,
        `improvement_high`, `restricted` (the mean cost over the baseline's, both up to the least that a finished run
        of the task spent), `restricted_low`, `restricted_high`, `n_reached`, `n_runs`.
    """
    rows = []
    for clock in CLOCKS:
        limits = _horizons(runs, clock)
        pairs = paired(runs, baseline, f"{clock}_to_target", "cost")
        for key, cell in pairs.groupby(KEY, sort=False):
            both = np.isinf(cell["value"]) & np.isinf(cell["reference"])
            ratios = (cell["value"] / cell["reference"]).where(~both, 1.0)
            limit = limits[_task_of(key)]
            restricted = intervals.ratio_of_means(
                np.minimum(cell["value"], limit), np.minimum(cell["reference"], limit)
            )
            p = np.nan if key[KEY.index("schedule")] == baseline else intervals.sign_test(ratios)
            cheaper = intervals.improvement(cell["value"], cell["reference"], False)
            counts = int(np.isfinite(cell["value"]).sum()), len(cell)
            found = (*intervals.median(ratios), p, *cheaper, *restricted)
            rows.append((*key, clock, *found, *counts))
    frame = pd.DataFrame(rows, columns=[*KEY, "clock", *RELATIVE, "n_reached", "n_runs"])
    tasks = frame.groupby([*TASK, "clock"], sort=False)
    frame["ratio_p"] = tasks["ratio_p"].transform(intervals.holm)
    # Never reached by either: there is no cost to compare.
    columns = list(RELATIVE)
    frame[columns] = frame[columns].where(tasks["n_reached"].transform("sum") > 0)
    return frame


def horizon(runs: pd.DataFrame, clock: str) -> float:
    """The least that a finished measured run spent in all by a clock: up to there survival is known for every run."""
    finished = runs[(runs["phase"] == "measure") & (runs["status"] == "finished")]
    return float(finished[CLOCKS[clock]].astype("float64").min())


def _horizons(runs, clock):
    """`horizon` of each task."""
    return {key: horizon(task, clock) for key, task in runs.groupby(TASK, sort=False)}


def survival(runs: pd.DataFrame, clock: str) -> pd.DataFrame:
    """The share of measured runs, tuned for cost, that have not reached the target after a cost: one row a step.

    Every run trains to its budget or diverges, which never reaches it: nothing is censored earlier.

    Returns:
        A frame with the key of a cell, `cost`, `share`: the share from that cost on; the first row is at cost 0.
    """
    rows = []
    for key, measured in tuning.of_purpose(runs, "cost").groupby(KEY, sort=False):
        reached = np.sort(costs(measured, clock)[measured["reached"]])
        shares = 1 - np.arange(len(reached) + 1) / len(measured)
        rows += [(*key, cost, left) for cost, left in zip([0.0, *reached], shares, strict=True)]
    return pd.DataFrame(rows, columns=[*KEY, "cost", "share"])


def _with_relative(summary, relative):
    """The summary with what is said of cells in the rows of their cheapest runs."""
    wide = relative.pivot(index=KEY, columns="clock", values=list(RELATIVE))
    wide.columns = [f"{clock}_{column}" for column, clock in wide.columns]
    cheapest = summary.sort_values("tuned_for", kind="stable").drop_duplicates(KEY).index
    keys = pd.MultiIndex.from_frame(summary.loc[cheapest, KEY])
    for column in wide.columns:
        summary.loc[cheapest, column] = wide[column].reindex(keys).to_numpy()
    return summary


def _cells(runs: pd.DataFrame) -> Iterator[tuple[tuple, str, pd.DataFrame, bool]]:
    """`(key, purpose, measured runs, whether they are of their own)`: where one setting of a cell serves both purposes,
    its runs are among the others of both.
    """
    measured = runs[runs["phase"] == "measure"]
    purposes = measured.groupby(TASK, sort=False)["tuned_for"].unique()
    for key, rows in measured.groupby(KEY, sort=False):
        own = set(rows["tuned_for"])
        for purpose in purposes[_task_of(key)]:
            cell = tuning.of_purpose(rows, str(purpose))
            yield tuple(key), str(purpose), cell, purpose in own


class _References:
    """The baseline's measured runs of each task."""

    def __init__(self, runs, baseline):
        own = runs[runs["schedule"] == baseline].groupby(TASK, sort=False)
        self._by_task = dict(iter(own))
        self._none = runs.iloc[:0]

    def of(self, key, purpose):
        """Those of the task of a cell, by the cell's key, that were tuned for a purpose."""
        return tuning.of_purpose(self._by_task.get(_task_of(key), self._none), purpose)


def _task_of(key):
    return tuple(key[KEY.index(name)] for name in TASK)


def _values(measured, column):
    clock, found, _ = column.partition("_to_target")
    return costs(measured, clock) if found else measured[column].astype("float64")


def _by_seed(measured, column):
    return _values(measured, column).set_axis(measured["seed"].astype("int64"))


def _metric(name, measured, theirs):
    values = _by_seed(measured, name)
    result = dict(zip(("mean", "low", "high"), intervals.mean(values), strict=True))
    if theirs is not None:
        reference = _by_seed(theirs, name).reindex(values.index)
        difference = values - reference
        if difference.isna().any():  # of the runs that are left, nothing can be said for all
            difference = difference.iloc[:0]
        suffixes = ("difference", "difference_low", "difference_high")
        result |= dict(zip(suffixes, intervals.mean(difference), strict=True))
        result["p"] = intervals.p_value(difference)
        more = METRICS[name]
        more = sign_of(measured) > 0 if more is None else more
        suffixes = ("improvement", "improvement_low", "improvement_high")
        found = intervals.improvement(values, reference, more)
        result |= dict(zip(suffixes, found, strict=True))
    return {f"{name}_{suffix}": value for suffix, value in result.items()}
