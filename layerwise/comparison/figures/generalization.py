"""Generalization: train and test loss and score, and the gaps, at the end of training."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from layerwise.comparison import intervals
from layerwise.comparison.figures import style
from layerwise.comparison.figures.scene import Scene

LOSSES = ("train_loss", "test_loss", "generalization_gap")


def panels(scene: Scene) -> dict[str, tuple[str, str]]:
    """`{column: (title, which way is better)}`."""
    more, less = "better →", "← better"
    way = more if scene.sign > 0 else less
    return {
        "train_loss": ("Train loss", less),
        "test_loss": ("Test loss", less),
        "generalization_gap": ("Test - train loss", less),
        "train_score": (f"Train {scene.metric}", way),
        "test_score": (f"Test {scene.metric}", way),
        "score_gap": ("Train better than test by", less),
    }


def figure(scene: Scene) -> Figure | None:
    """Every measured run that finished, with means and intervals."""
    finished = scene.measured[scene.measured["status"] == "finished"]
    if finished.empty:
        return None
    names = scene.schedules
    drawn, axes = style.subplots(1, 6, figsize=(21, 2.6 + 0.42 * len(names)), sharey=True)
    style.heading(
        drawn,
        "How well does what was learned generalize?",
        f"{scene}, at the end of training, each tuned for score. Small dots: runs; large: mean over seeds; "
        "bars: 95 % intervals. "
        f"Line: {scene.baseline}.",
    )
    for axis, (column, (title, direction)) in zip(axes, panels(scene).items(), strict=True):
        percent = scene.percent and column not in LOSSES
        factor = 100 if percent else 1
        style.runs(
            axis, scene, finished.assign(**{column: factor * finished[column]}), column, names
        )
        for place, name in enumerate(names):
            values = factor * finished.loc[finished["schedule"] == name, column].to_numpy("float64")
            look = scene.looks[name]
            if not len(values):
                axis.text(
                    0.03,
                    place,
                    "✕ no run finished",
                    transform=axis.get_yaxis_transform(),
                    color="0.45",
                    va="center",
                )
                continue
            style.dot(axis, place, look, intervals.mean(values))
            if name == scene.baseline:
                axis.axvline(intervals.mean(values)[0], color="0.1", linewidth=1.2, zorder=1)
        # A gap may have either sign, so that a logarithm would show its chance values near 0 as outliers.
        if column in ("train_loss", "test_loss") and _spans_decades(finished[column]):
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(numticks=4))
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.locator_params(axis="x", nbins=4)
            axis.ticklabel_format(axis="x", useOffset=False)
        axis.set_title(title)
        axis.set_xlabel(f"percent   {direction}" if percent else direction)
    style.rows(axes, scene, names)
    return drawn


def _spans_decades(values: pd.Series) -> bool:
    return bool(values.min() > 0 and values.max() / values.min() > 20)
