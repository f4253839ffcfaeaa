"""What a comparison says about each schedule over all of its tasks: a frame, sentences and a figure."""
# ruff: noqa: RUF001, RUF002 (a multiplication sign is meant)

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.harness.markdown import markdown_table
from layerwise.comparison import Comparison, statistics
from layerwise.comparison.frames import TASK, sign_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.05  # of p values, which are corrected over the schedules of a task
APART = 1.5  # the median of two tasks stands for neither where one is so many times the other


def frame(comparison: Comparison) -> pd.DataFrame:
    """One row for each schedule but the baseline and each task.

    Returns:
        The task's columns, `schedule`; `ratio`, `ratio_low`, `ratio_high`: FLOPs to the target over the baseline's, the
        median over seeds; `cost`: "cheaper", "dearer" or "unclear"; `n_reached`, `n_runs`; `gain`: by how much the test
        score is better than the baseline's, in its metric's direction; `score`: "better", "worse" or "unclear".
    """
    runs, summary, baseline = comparison.runs, comparison.summary, comparison.baseline
    cost = comparison.relative_costs
    cost = cost[(cost["clock"] == "flops") & (cost["schedule"] != baseline)]
    clear = cost["ratio_p"] < LEVEL
    cost = cost.assign(
        # Not by the median ratio, which is 1 where most pairs missed the target both.
        cost=np.select(
            [clear & (cost["improvement"] > 0.5), clear], ["cheaper", "dearer"], "unclear"
        )
    )
    score = summary[summary["schedule"] != baseline].sort_values("tuned_for", ascending=False)
    score = score.drop_duplicates([*TASK, "schedule"])  # tuned for score where there are both
    gain = sign_of(runs) * score["test_score_difference"]
    clear = score["test_score_p"] < LEVEL
    verdict = np.select([clear & (gain > 0), clear], ["better", "worse"], "unclear")
    score = score.assign(gain=gain, score=verdict)[[*TASK, "schedule", "gain", "score"]]
    columns = [*TASK, "schedule", "ratio", "ratio_low", "ratio_high", "cost", "n_reached", "n_runs"]
    return cost[columns].merge(score, on=[*TASK, "schedule"], how="left")


def table(rows: pd.DataFrame, comparison: Comparison) -> str:
    """The frame as Markdown, a line for each schedule, the baseline first: in how many tasks it was cheaper, or better."""
    header = ["schedule", "reached", "FLOPs to the target", "cheaper", "unclear", "dearer"]
    header += ["scores better", "unclear", "worse"]
    costs, name = comparison.relative_costs, comparison.baseline
    base = costs[(costs["schedule"] == name) & (costs["clock"] == "flops")]
    reached = f"{base['n_reached'].sum()} of {base['n_runs'].sum()}"
    lines = [[name, reached, "1×", *[""] * 6]]
    for schedule, own in rows.groupby("schedule", sort=False):
        counts = [
            str((own[what] == word).sum())
            for what, words in (
                ("cost", ("cheaper", "unclear", "dearer")),
                ("score", ("better", "unclear", "worse")),
            )
            for word in words
        ]
        cells = [
            schedule,
            f"{own['n_reached'].sum()} of {own['n_runs'].sum()}",
            spread(own["ratio"]),
        ]
        lines.append([*cells, *counts])
    return markdown_table(header, lines)


def ties(comparison: Comparison) -> str:
    """In how many pairs neither run reached the target, in brackets; nothing where there are none."""
    runs, baseline = comparison.runs, comparison.baseline
    pairs = statistics.paired(runs, baseline, "flops_to_target", "cost")
    pairs = pairs[pairs["schedule"] != baseline]
    both = np.isinf(pairs["value"]) & np.isinf(pairs["reference"])
    count = both.sum()
    return f" (1 in the {count} of {len(pairs)} pairs of which neither reached it)" if count else ""


def spread(ratios: pd.Series) -> str:
    """The median over tasks, as a multiple, with the least and the largest; of two tasks both.

    Of an even number of tasks the median lies between two. Where these are far apart no task is near it: both are given.

    Example:
    >>> import pandas as pd
    >>> from experiments.harness import verdict
    >>> verdict.spread(pd.Series([1.5, 2.0, float("inf")]))
    '2× (1.5× to ∞)'
    >>> verdict.spread(pd.Series([0.1, 0.2, 1.6, 1.7]))
    '0.2× or 1.6× (0.1× to 1.7×)'
    >>> verdict.spread(pd.Series([0.9, 1.0]))
    '0.9× and 1×'
    """
    ordered = np.sort(ratios.dropna())
    if not len(ordered):
        return "no task reached"
    below, above = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    middle = [(below + above) / 2] if above <= APART * below else [below, above]
    median = " or ".join(map(_multiple, middle))
    if _multiple(ordered[0]) == _multiple(ordered[-1]):
        return median
    if len(ordered) == 2:
        return f"{_multiple(below)} and {_multiple(above)}"
    return f"{median} ({_multiple(ordered[0])} to {_multiple(ordered[-1])})"


def _multiple(value):
    return "∞" if np.isinf(value) else f"{value:.2g}×"


def sentence(rows: pd.DataFrame, name: str, reference: str = "moving all layers at once") -> str:
    """What the rows of one kind of schedule say.

    Args:
        rows: Rows of `frame`.
        name: What the kind is called, as the beginning of a sentence.
        reference: What the rows are over, in words.
    """
    n, score, cost = len(rows), rows["score"].value_counts(), rows["cost"].value_counts()
    several = f" (the median of {n} cases, with the least and the largest)" if n > 2 else ""
    return (
        f"{name}: {spread(rows['ratio'])} the arithmetic of {reference} to the same validation score{several}; "
        f"clearly less in {cost.get('cheaper', 0)} and clearly more in {cost.get('dearer', 0)} of {n}. The test score is "
        f"clearly better in {score.get('better', 0)} and clearly worse in {score.get('worse', 0)}. "
        f"{rows['n_reached'].sum()} of {rows['n_runs'].sum()} runs got to that validation score."
    )


def by_network(rows: pd.DataFrame) -> list[str]:
    """FLOPs to the target over the baseline's as Markdown, a line a schedule and a column a network; nothing where there
    is one network, or very many.
    """
    networks = list(rows["model"].unique())
    if not 1 < len(networks) < 9:
        return []
    lines = [
        [schedule, *(spread(own["ratio"]) for _, own in cells.groupby("model", sort=False))]
        for schedule, cells in rows.groupby("schedule", sort=False)
    ]
    title = "**FLOPs to the target, by network** (of two tasks both; of more the median, with the least and the largest)"
    return [title, markdown_table(["schedule", *networks], lines)]


def figure(rows: pd.DataFrame) -> Figure:
    """A line a schedule, a mark a task: FLOPs to the target over the baseline's. What missed it stands at the right; a mark
    is hollow where the difference is within chance. Its colour says the network, its shape the optimizer.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    several = [c for c in ("dataset", "model", "regularizer") if rows[c].nunique() > 1] or ["model"]
    kinds = [", ".join(words) for words in rows[several].itertuples(index=False)]
    colors = dict(zip(dict.fromkeys(kinds), sns.color_palette("colorblind"), strict=False))
    shapes = dict(zip(dict.fromkeys(rows["optimizer"]), itertools.cycle("osD^v")))
    schedules = list(dict.fromkeys(rows["schedule"]))
    finite = rows["ratio"].replace(np.inf, np.nan)
    right = 2 * max(finite.max(), 2.0)
    drawn = Figure(figsize=(8, 1.6 + 0.5 * len(schedules)), layout="constrained")
    axis = drawn.subplots()
    lanes = [(kind, optimizer) for kind in colors for optimizer in shapes]
    offsets = dict(zip(lanes, np.linspace(-0.4, 0.4, len(lanes) + 2)[1:-1], strict=True))
    for kind, (_, row) in zip(kinds, rows.iterrows(), strict=True):
        axis.plot(
            min(row["ratio"], right),
            schedules.index(row["schedule"]) + offsets[kind, row["optimizer"]],
            shapes[row["optimizer"]],
            color=colors[kind],
            markersize=5,
            markerfacecolor="none" if row["cost"] == "unclear" else colors[kind],
        )
    axis.axvline(1, color="0.25", linestyle="--", linewidth=1)
    axis.set(xscale="log", xlabel="FLOPs to the target, over those of simultaneous training")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if finite.min() / 1.5 <= t < right / 1.3]
    axis.set_xticks([*ticks, right], [*(f"{tick:g}×" for tick in ticks), "missed"])
    axis.minorticks_off()
    axis.set_yticks(range(len(schedules)), schedules)
    axis.set_ylim(len(schedules) - 0.5, -0.5)
    axis.grid(axis="x", color="0.85")
    for place in range(len(schedules) - 1):
        axis.axhline(place + 0.5, color="0.85", linewidth=0.8)
    axis.set_title(
        "Left of 1: cheaper than moving all layers at once. Hollow: the difference is within chance",
        fontsize=10,
    )
    marks = [(color, "o", kind) for kind, color in colors.items()]
    if len(shapes) > 1:
        marks += [("0.3", shape, optimizer) for optimizer, shape in shapes.items()]
    handles = [
        Line2D([], [], color=color, marker=shape, linestyle="", label=label)
        for color, shape, label in marks
    ]
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return drawn
