"""Learning curves, thinned to what a page can draw: means over seeds, for each schedule."""

from typing import Any

import numpy as np
import pandas as pd

from experiments.harness.report.collect import Answered
from layerwise.comparison import frames, tuning

CLOCKS = ("epoch", "update", "examples", "flops", "train_seconds")
DIGITS = 4


def of(one: Answered) -> list[dict[str, Any]]:
    """The curves of a comparison, a dict for each task.

    Each has `where`, `task` and `schedules`: `{name: {clock: values, ..., "train loss": values, "test score": values, ...,
    "runs": number}}`. All lists of a schedule are of one length: a value an evaluation, the mean over the runs that were
    tuned for score, None where they diverged. Clocks are medians.
    """
    runs, curves = one.frames["runs"], pd.read_parquet(one.folder / "curves.parquet")
    runs = runs.assign(regularizer=runs["regularizer"].fillna("none"))
    found = []
    for task, rows in runs.groupby(frames.TASK, sort=False):
        schedules = {}
        for schedule, cell in rows.groupby("schedule", sort=False):
            good = tuning.of_purpose(cell, "score")
            own = curves[curves["run_id"].isin(good["run_id"])]
            if len(own):
                schedules[schedule] = _averaged(own) | {"runs": len(good)}
        if schedules:
            named = [str(part) for part in task if part != "none"]
            found.append({"where": one.where, "task": ", ".join(named), "schedules": schedules})
    return found


def _averaged(curves):
    """Means over runs at each evaluation; an epoch that only some runs have is left out."""
    epochs = curves.groupby("epoch")["run_id"].nunique()
    kept = epochs.index[epochs == curves["run_id"].nunique()]
    curves = curves[curves["epoch"].isin(kept)]
    clocks = curves.drop_duplicates(["run_id", "epoch"]).groupby("epoch")
    values = {"epoch": [int(epoch) for epoch in kept]}
    for clock in CLOCKS[1:]:
        values[clock] = _short(clocks[clock].median())
    for split, rows in curves.groupby("split", sort=False):
        for what in ("loss", "score"):
            means = rows.groupby("epoch")[what].mean().reindex(kept)
            values[f"{split} {what}"] = _short(means)
    return values


def _short(values):
    """Numbers of a few digits, which JSON knows."""
    return [float(f"{v:.{DIGITS}g}") if np.isfinite(v) else None for v in values]
