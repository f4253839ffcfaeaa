"""Timings: the seconds of a run that has the machine to itself, taken in turn with those of the other schedules.

The runs of a grid are trained side by side, and one after the other over hours: their seconds say as much about what ran
beside them as about their schedule. When they are all over, one measured run of each schedule is trained again a few
times, alone in this process and in turn with the others of its task; what is said of seconds is said of these.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from layerwise.comparison import frames, settings, tuning
from layerwise.comparison.budget import Plan
from layerwise.comparison.evaluator import Evaluators
from layerwise.comparison.files import readable
from layerwise.comparison.frames import KEY, TASK
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.planner import Planner
from layerwise.comparison.trainer import Trainer

COLUMNS = [
    *("run_id", "repetition", "epoch", "update", "train_seconds", "backend", "device"),
    *("layerwise_version", "keras_version", "git_commit", "started_at"),
]


def frame(rows: Any) -> pd.DataFrame:
    """Rows as the frame `timings`: seconds up to the end of each epoch of each repetition, compilation not counted."""
    found = pd.DataFrame(rows, columns=COLUMNS).reset_index(drop=True)
    types = dict.fromkeys(COLUMNS, "str") | {"train_seconds": "float64"}
    return found.astype(types | dict.fromkeys(("repetition", "epoch", "update"), "int64"))


def read(folder: str | Path) -> pd.DataFrame:
    """`timings` as it was written to a folder; an empty frame where there is none."""
    path = Path(folder) / "timings.parquet"
    with readable(path):
        return frame(pd.read_parquet(path) if path.exists() else [])


def take(
    grid: Grid,
    runs: pd.DataFrame,
    known: pd.DataFrame,
    repetitions: int,
    keep: Callable[[pd.DataFrame], None],
    say: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """Times a run of each schedule, task by task.

    Args:
        grid: The comparison.
        runs: The frame `runs`, of which no run is missing.
        known: The timings that there are already. A task is not timed again where a run of each set of programs was timed
            so often: what it takes does not depend on its seed or learning rate.
        repetitions: How often each run is timed, after one more that compiles and is not counted.
        keep: Is given all timings so far after each task.
        say: Is told of each task.

    Returns:
        The frame `timings`, of runs in `runs` alone.

    Raises:
        RuntimeError: A run failed that had finished before.
    """
    known = known[known["run_id"].isin(runs["run_id"])]
    counts = known.groupby("run_id")["repetition"].nunique()
    timed = runs[runs["run_id"].isin(counts.index)].to_dict("records")
    there = {_programs(row) for row in timed if counts[row["run_id"]] >= repetitions}
    for task, rows in runs.groupby(TASK, sort=False):
        chosen = [row for _, cell in rows.groupby(KEY, sort=False) for row in _chosen(cell)]
        if all(_programs(row) in there for row in chosen):
            continue
        names = [row["run_id"] for row in chosen]
        start = time.perf_counter()
        found = _in_turn(grid, chosen, repetitions)
        known = frame(pd.concat([known[~known["run_id"].isin(names)], found]))
        keep(known)
        words = " · ".join(part for part in map(str, task) if part != "none")
        say(f"{words}: {len(chosen)} runs timed alone, {time.perf_counter() - start:.0f} s")
    return known


def applied(
    runs: pd.DataFrame, curves: pd.DataFrame, timings: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs and curves with the seconds of timing runs in place of the grid's.

    A measured run takes the median over repetitions, up to the same epoch, of its cell's timed run: what a run takes
    does not depend on its seed or learning rate, but for what a random order adds to the last epoch. Where its cell was
    not timed the seconds of a measured run are empty.

    Returns:
        `(runs, curves)`, the runs with a column `timed`; as they were, where there are no timings.
    """
    if timings.empty:
        return runs, curves
    seconds = timings.groupby(["run_id", "epoch"])["train_seconds"].median()
    timed = runs[runs["run_id"].isin(timings["run_id"])]
    of = {_programs(row): row["run_id"] for row in timed.to_dict("records")}
    measured = runs["phase"] == "measure"
    source = {row["run_id"]: of.get(_programs(row)) for row in runs[measured].to_dict("records")}

    last = timings.groupby("run_id")["epoch"].max().astype("float64")

    def at(names: pd.Series, epochs: pd.Series) -> Any:
        timed = names.map(source)
        until = np.minimum(epochs.astype("float64"), timed.map(last))
        places = pd.MultiIndex.from_arrays([timed, until])
        return seconds.reindex(places).to_numpy()

    # A callback may have ended a run before its last planned epoch.
    ends = runs["run_id"].map(curves.groupby("run_id")["epoch"].max()).fillna(runs["epochs"])
    runs, curves = runs.assign(timed=True), curves.copy()
    for column, epochs in (
        ("seconds_to_target", runs["epochs_to_target"]),
        ("train_seconds", ends),
    ):
        runs.loc[measured, column] = at(runs.loc[measured, "run_id"], epochs[measured])
    here = curves["run_id"].isin(source) & (curves["epoch"] > 0)
    curves.loc[here, "train_seconds"] = at(curves.loc[here, "run_id"], curves.loc[here, "epoch"])
    return runs, curves


def whose_seconds(runs: pd.DataFrame) -> str:
    """How the seconds in some runs (of `applied`) came about, in words."""
    if "timed" in runs:
        return "alone"
    jobs = sorted(runs["jobs"].dropna().unique())
    return (
        f"{' or '.join(f'{n:g}' for n in jobs)} side by side"
        if jobs and jobs != [1]
        else "as trained"
    )


def seconds_per_update(runs: pd.DataFrame, timings: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """What an Update takes, from timing runs.

    Returns:
        One row per timed cell: its key, `seconds` (the median over repetitions of the seconds of a whole run over its
        Updates), `low`, `high` (the quartiles), `ratio`, `ratio_low`, `ratio_high` (the same of the seconds over those
        of the baseline's Updates, of the repetition that ran beside it), `repetitions`.
    """
    ends = timings.sort_values("epoch").groupby(["run_id", "repetition"]).tail(1)
    ends = ends.assign(each=ends["train_seconds"] / ends["update"]).merge(
        runs[["run_id", *KEY]], on="run_id"
    )
    # A baseline that was tuned to several sets of programs has a run of each.
    theirs = ends[ends["schedule"] == baseline].groupby([*TASK, "repetition"])["each"]
    ends = ends.join(theirs.median().rename("reference"), on=[*TASK, "repetition"])
    rows = []
    for key, own in ends.groupby(KEY, sort=False):
        row = dict(zip(KEY, key, strict=True))
        for name, values in (("seconds", own["each"]), ("ratio", own["each"] / own["reference"])):
            low, middle, high = values.quantile((0.25, 0.5, 0.75))
            prefix = "" if name == "seconds" else "ratio_"
            row |= {name: middle, f"{prefix}low": low, f"{prefix}high": high}
        rows.append(row | {"repetitions": own["repetition"].nunique()})
    columns = ["seconds", "low", "high", "ratio", "ratio_low", "ratio_high", "repetitions"]
    return pd.DataFrame(rows, columns=[*KEY, *columns])


def _chosen(cell):
    """One measured run for each set of programs of a cell: of those that finished, the first tuned for cost, but where
    they are not equally long the longest, which has the seconds of all.
    """
    measured = cell[(cell["phase"] == "measure") & (cell["status"] == "finished")]
    order = {purpose: place for place, purpose in enumerate(reversed(tuning.PURPOSES))}
    ordered = measured.assign(order=measured["tuned_for"].map(order)).sort_values(
        ["examples", "order", "seed"], ascending=[False, True, True]
    )
    found: dict[Any, Mapping[str, Any]] = {}
    for row in ordered.to_dict("records"):
        found.setdefault(_programs(row), row)
    return list(found.values())


def _programs(row):
    """What decides which programs a run is made of: all of its setting but the learning rate."""
    return tuple(row[name] for name in KEY), settings.without_rate(settings.setting_of(row))


def _in_turn(grid, chosen, repetitions):
    """Seconds of each of some runs of a task, again and again, beginning with another each time."""
    shared = Planner(grid), Evaluators()
    trainers = [Trainer(grid, Cell.of(row), *shared) for row in chosen]
    origin = {**frames.environment(), **frames.provenance()}
    rows = []
    try:
        for repetition in range(-1, repetitions):  # the first one compiles
            first = max(repetition, 0) % len(chosen)
            places = [*range(first, len(chosen)), *range(first)]
            for row, trainer in ((chosen[place], trainers[place]) for place in places):
                steps_per_epoch = grid.steps_per_epoch(trainer.cell)
                plan = Plan.of(row, grid.batch_size, steps_per_epoch)
                outcome = trainer.run(settings.setting_of(row), int(row["seed"]), plan)
                if outcome.status == "failed":
                    raise RuntimeError(f"a run that was timed failed, {row}: {outcome.error}")
                if repetition >= 0:
                    rows += [
                        {
                            "run_id": row["run_id"],
                            "repetition": repetition,
                            "epoch": evaluation.epoch,
                            "update": evaluation.update,
                            "train_seconds": evaluation.train_seconds,
                            **origin,
                        }
                        for evaluation in outcome.evaluations[1:]
                    ]
    finally:
        for trainer in trainers:
            trainer.close()
    return frame(rows)
