"""The answer of a comparison as Markdown."""
# ruff: noqa: RUF001 (a multiplication sign is meant)

import numpy as np
import pandas as pd

from layerwise.comparison.frames import TASK
from layerwise.comparison.statistics import relative_costs

_HEADER = [
    *("schedule", "learning rate", "reached", "epochs", "updates", "FLOPs", "seconds"),
    *("test accuracy, %", "test loss", "accuracy gap, points"),
]


def table(runs: pd.DataFrame, summary: pd.DataFrame, baseline: str) -> str:
    """One table per task: cost to reach the target as a multiple of the baseline's, and
    generalization at the end.

    Numbers are interquartile means over seeds with 95 % bootstrap intervals; multiples are paired
    by seed, over the runs that reached the target (`reached` says how many did).
    """
    costs = relative_costs(runs, baseline)
    parts = []
    for task, rows in summary.groupby(TASK, sort=False):
        target = runs.loc[(runs[TASK] == list(task)).all(axis=1), "target"].max()
        goal = "no target" if np.isnan(target) else f"target {target:.1%} validation accuracy"
        parts += [f"**{', '.join(part for part in task if part != 'none')}** ({goal})", ""]
        parts += [_line(_HEADER), _line(["---"] * len(_HEADER))]
        for _, row in rows.iterrows():
            own = costs[
                (costs[TASK] == list(task)).all(axis=1) & (costs["schedule"] == row["schedule"])
            ]
            parts.append(_line(_cells(row, own.set_index("clock"), row["schedule"] == baseline)))
        parts.append("")
    return "\n".join(parts)


def _cells(row, costs, is_baseline):
    n_reached, n_runs = costs.loc["epochs", ["n_reached", "n_runs"]]
    epochs = _interval(row, "epochs_to_target", "{:.3g}") if n_reached else "missed"
    multiples = [
        "1×" if is_baseline and n_reached else _multiple(costs.loc[clock])
        for clock in ("updates", "flops", "seconds")
    ]
    return [
        row["schedule"],
        f"{row['learning_rate']:g}",
        f"{n_reached} of {n_runs}",
        epochs,
        *multiples,
        _interval(row, "test_accuracy", "{:.1f}", 100),
        _interval(row, "test_loss", "{:.3f}"),
        _interval(row, "accuracy_gap", "{:.1f}", 100),
    ]


def _multiple(cost):
    if not cost["n_reached"]:
        return "missed"
    return "–" if np.isnan(cost["iqm"]) else _numbers(cost[["iqm", "low", "high"]], "{:.2g}×")


def _interval(row, metric, form, factor=1):
    values = row[[f"{metric}_iqm", f"{metric}_low", f"{metric}_high"]].astype("float64") * factor
    return "–" if np.isnan(values.iloc[0]) else _numbers(values, form)


def _numbers(values, form):
    center, low, high = (form.format(value) for value in values)
    return center if "nan" in low else f"{center} [{low}, {high}]"


def _line(cells):
    return f"| {' | '.join(cells)} |"
