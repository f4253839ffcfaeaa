"""The answer of a comparison as Markdown."""
# ruff: noqa: RUF001 (a multiplication sign is meant)

import pandas as pd

from layerwise.comparison import intervals, settings, tuning
from layerwise.comparison.frames import TASK, metric_of
from layerwise.comparison.statistics import costs
from layerwise.comparison.timings import whose_seconds

MULTIPLES = (
    ("updates", "ratio"),
    ("flops", "ratio"),
    ("flops", "restricted"),
    ("seconds", "ratio"),
)


def table(runs: pd.DataFrame, summary: pd.DataFrame, relative: pd.DataFrame, baseline: str) -> str:
    """One table per task: cost to reach the target as a multiple of the baseline's, and
    generalization at the end.

    Costs are of the runs that were tuned for cost: medians over seeds, where a miss is infinite; multiples are paired by
    seed, and where both missed it is 1. Mean FLOPs count a run that missed up to the least that a finished run spent in
    all. Generalization is of the runs that were tuned for score: means. Intervals are 95 %. Seconds are said to be alone
    where they are those of timing runs.
    """
    parts = []
    for task, rows in summary.groupby(TASK, sort=False):
        own = runs[(runs[TASK] == list(task)).all(axis=1)]
        metric = metric_of(own).replace("_", " ")
        percent = "accuracy" in metric
        targets = own["target"].dropna()
        ends = (targets.min(), targets.max()) if len(targets) else ()
        said = " to ".join(dict.fromkeys(f"{t:.1%}" if percent else f"{t:.3g}" for t in ends))
        goal = f"target {said} validation {metric}" if said else "no target"
        budget = ", ".join(f"equal {name}" for name in own["budget"].dropna().unique())
        name = ", ".join(part for part in task if part != "none")
        parts += [f"**{name}** ({goal}{'; ' + budget if budget else ''})", ""]
        header = ["schedule", "tuned", "reached", "epochs", "updates", "FLOPs", "mean FLOPs"]
        header += [f"seconds, {whose_seconds(own)}"]
        header += [f"test {metric}{', %' if percent else ''}", "test loss"]
        header += [f"{metric} gap{', points' if percent else ''}"]
        parts += [_line(header), _line(["---"] * len(header))]
        for schedule in rows["schedule"].unique():
            cell = own[own["schedule"] == schedule]
            here = relative[(relative[TASK] == list(task)).all(axis=1)]
            here = here[here["schedule"] == schedule].set_index("clock")
            scored = rows[rows["schedule"] == schedule]
            by_score = scored[scored["tuned_for"] == "score"]
            scored = (by_score if len(by_score) else scored).iloc[0]
            parts.append(_line(_cells(cell, scored, here, schedule == baseline, percent)))
        parts.append("")
    return "\n".join(parts)


def _cells(cell, scored, relative, is_baseline, percent):
    cheapest = tuning.of_purpose(cell, "cost")
    n_reached = int(cheapest["reached"].sum())
    found = intervals.median(costs(cheapest, "epochs"))
    epochs = _numbers(found, "{:.3g}") if n_reached else "missed"
    multiples = [
        "missed"
        if not n_reached
        else "1×"
        if is_baseline
        else _numbers(relative.loc[clock, [what, f"{what}_low", f"{what}_high"]], "{:.2g}×")
        for clock, what in MULTIPLES
    ]
    factor = 100 if percent else 1
    form = "{:.1f}" if percent else "{:.3g}"
    used = {
        settings.in_words(settings.setting_of(part.iloc[0]))
        for part in (tuning.of_purpose(cell, purpose) for purpose in tuning.PURPOSES)
    }
    return [
        scored["schedule"],
        _tuned(cell) if len(used) > 1 else next(iter(used)).removeprefix("learning rate "),
        f"{n_reached} of {len(cheapest)}",
        epochs,
        *multiples,
        _interval(scored, "test_score", form, factor),
        _interval(scored, "test_loss", "{:.3f}"),
        _interval(scored, "score_gap", form, factor),
    ]


def _tuned(cell):
    """What was tuned, where cost and score want different settings."""
    words = [
        settings.in_words(settings.setting_of(tuning.of_purpose(cell, purpose).iloc[0]))
        for purpose in ("cost", "score")
    ]
    cost, score = (text.removeprefix("learning rate ") for text in words)
    return f"{cost} for cost, {score} for score"


def _interval(row, metric, form, factor=1):
    values = row[[f"{metric}_mean", f"{metric}_low", f"{metric}_high"]].astype("float64") * factor
    return _numbers(values, form)


def _numbers(values, form):
    center, low, high = (
        form.format(value).replace("inf×", "∞").replace("inf", "∞") for value in values
    )
    if "nan" in center:
        return "–"
    return center if "nan" in low else f"{center} [{low}, {high}]"


def _line(cells):
    return f"| {' | '.join(cells)} |"
