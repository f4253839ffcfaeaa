"""Figures of interplay: each claim by what was measured of it, and test scores."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.interplay.claims import CLAIMS
from experiments.interplay.measures import scored
from experiments.interplay.variance import FACTORS
from layerwise.comparison import frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
COLORS = {"speaks for it": "C2", "within chance": "0.6", "speaks against it": "C3"}


def claims(numbers: pd.DataFrame) -> Figure:
    """A field a claim: what was measured of it in each cell, or over all, with its interval, coloured by what it says.

    An arrow shows the side that speaks for the claim.

    Args:
        numbers: Rows of `experiment.judged`.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    rows = -(-len(CLAIMS) // COLUMNS)
    drawn = Figure(figsize=(4.9 * COLUMNS, 2.9 * rows), layout="constrained")
    fields = drawn.subplots(rows, COLUMNS, squeeze=False).ravel()
    for field in fields[len(CLAIMS) :]:
        field.set_visible(False)
    for field, (name, claim) in zip(fields, CLAIMS.items(), strict=False):
        own = numbers[numbers["claim"] == name].dropna(subset=["low"])
        holds, against = claim.sides(own)
        said = holds.map({True: "speaks for it", False: "within chance"})
        colors = said.mask(against, "speaks against it").map(COLORS)
        finite = own[["value", "low", "high"]].replace([np.inf, -np.inf], np.nan)
        least, most = finite.min(axis=None), finite.max(axis=None)
        for place, (row, color) in enumerate(zip(own.itertuples(), colors, strict=True)):
            field.plot((max(row.low, least), min(row.high, most)), (place, place), color=color)
            field.plot(row.value, place, "o", color=color, markersize=4)
        field.axvline(0, color="0.25", linestyle="--", linewidth=1)
        field.set_yticks(range(len(own)), own["what"], fontsize=7 if len(own) < 8 else 5)
        field.set_ylim(len(own) - 0.4, -0.6)
        field.xaxis.set_major_locator(MaxNLocator(5))
        field.tick_params("x", labelsize=7)
        field.set_title(textwrap.fill(claim.says, 46), fontsize=9)
        field.set_xlabel(textwrap.fill(f"{claim.number} {claim.arrow}".strip(), 60), fontsize=7)
    handles = [Line2D([], [], color=color, marker="o", label=say) for say, color in COLORS.items()]
    title = "95 % intervals, of a claim's cells for all of them at once; an arrow: to this side speaks for the claim"
    drawn.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(handles),
        frameon=False,
        title=title,
    )
    return drawn


def scores(runs: pd.DataFrame) -> Figure:
    """A heat map a schedule: the median test score by regularization and optimizer."""
    import seaborn as sns
    from matplotlib.figure import Figure

    own = scored(runs)
    schedules = list(dict.fromkeys(own["schedule"]))
    percent = "accuracy" in frames.metric_of(own)
    medians = own.groupby(list(FACTORS), sort=False)["test_score"].median()
    medians *= 100 if percent else 1
    metric = f"{frames.metric_of(own).replace('_', ' ')}{', %' if percent else ''}"
    drawn = Figure(
        figsize=(2 + 3.6 * len(schedules), 1.6 + 0.42 * own["regularizer"].nunique()),
        layout="constrained",
    )
    axes = drawn.subplots(1, len(schedules), squeeze=False, sharey=True)[0]
    for axis, schedule in zip(axes, schedules, strict=True):
        table = medians.xs(schedule, level="schedule").unstack("optimizer", sort=False)
        sns.heatmap(
            table,
            annot=True,
            fmt=".1f" if percent else ".3g",
            cmap="viridis",
            cbar=axis is axes[-1],
            cbar_kws={"label": f"Test {metric}"},
            vmin=medians.quantile(0.02),
            vmax=medians.max(),
            ax=axis,
            annot_kws={"fontsize": 8},
        )
        axis.set(title=schedule, xlabel=None, ylabel=None)
    drawn.suptitle(f"Test {metric}: median over seeds, each cell tuned by itself")
    return drawn
