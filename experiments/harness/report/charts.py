"""Charts of a comparison: what each schedule needs to reach the target."""

import math
from typing import Any

import pandas as pd

from experiments.harness.report.collect import Answered
from layerwise.comparison import frames

WIDTH, LEFT, ROW = 720, 190, 26  # of a drawing's units


def of(one: Answered) -> list[dict[str, Any]]:
    """One chart a task: `title`, `height`, `ticks` and `marks`, all in places of an SVG.

    A chart shows the median FLOPs until the target is reached, with its interval, on a logarithmic axis; a schedule whose
    median run missed the target has no point there.
    """
    summary = one.frames.get("summary", pd.DataFrame())
    if "flops_to_target_median" not in summary:
        return []
    summary = summary.assign(regularizer=summary["regularizer"].fillna("none"))
    cost = summary.sort_values("tuned_for", kind="stable").drop_duplicates(frames.KEY)
    return [
        found
        for task, rows in cost.groupby(frames.TASK, sort=False)
        if (found := chart(", ".join(str(part) for part in task if part != "none"), rows))
    ]


def chart(title: str, rows: pd.DataFrame) -> dict[str, Any] | None:
    """A chart of one task's rows of `summary`; None where no schedule reached the target."""
    columns = [f"flops_to_target_{end}" for end in ("median", "low", "high")]
    known = [v for v in rows[columns].to_numpy("float64").ravel() if math.isfinite(v) and v > 0]
    if not known:
        return None
    low, high = math.log10(min(known)) - 0.1, math.log10(max(known)) + 0.1

    def place(value):
        share = (
            (math.log10(value) - low) / (high - low) if math.isfinite(value) and value > 0 else 1.0
        )
        return round(LEFT + share * (WIDTH - LEFT - 20), 1)

    marks = []
    for number, (_, row) in enumerate(rows.iterrows()):
        middle, least, most = (float(row[name]) for name in columns)
        text = f"{middle:.2g}" if math.isfinite(middle) else "missed"
        marks.append(
            {
                "schedule": row["schedule"],
                "y": ROW * (number + 1),
                "x": place(middle) if math.isfinite(middle) else None,
                "low": place(least) if least == least else None,
                "high": place(most) if most == most else None,
                "text": text,
                "reached": f"{row['reach_rate']:.0%}",
            }
        )
    first, last = math.ceil(low), math.floor(high)
    powers = range(first, last + 1) if last > first else [low + 0.1, high - 0.1]
    ticks = [{"x": place(10.0**power), "text": f"{10.0**power:.1g}"} for power in powers]
    return {"title": title, "height": ROW * (len(marks) + 2), "ticks": ticks, "marks": marks}
