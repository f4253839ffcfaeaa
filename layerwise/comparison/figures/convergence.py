"""Convergence on validation data against updates, examples, FLOPs and seconds."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from layerwise.comparison import intervals
from layerwise.comparison.figures import style
from layerwise.comparison.figures.scene import Scene

CLOCKS = {
    "update": "Updates",
    "examples": "Examples seen",
    "flops": "FLOPs",
    "train_seconds": "Seconds of training",
}


def score(scene: Scene) -> Figure | None:
    """Validation score against each clock."""
    return _figure(scene, "score", f"Validation {scene.metric}")


def loss(scene: Scene) -> Figure | None:
    """Validation loss against each clock."""
    return _figure(scene, "loss", "Validation loss")


def bands(curves: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean over seeds at each epoch, its 95 % interval, and the mean clocks.

    Args:
        curves: Rows of `curves` of one split, with the columns `schedule` and `seed`.
        column: "loss" or "score".

    Returns:
        A frame with one row per schedule and epoch: the clocks, `center`, `low`, `high`, `n` (runs
            that got this far). No rows where nothing is finite.
    """
    rows = []
    finite = curves[np.isfinite(curves[column])]
    for (schedule, epoch), group in finite.groupby(["schedule", "epoch"], sort=False):
        center, low, high = intervals.mean(group[column])
        clocks = group[list(CLOCKS)].astype("float64").mean().to_dict()
        row = {"schedule": schedule, "epoch": epoch, "n": len(group), **clocks}
        rows.append(row | {"center": center, "low": low, "high": high})
    columns = ["schedule", "epoch", "n", *CLOCKS, "center", "low", "high"]
    found = pd.DataFrame(rows, columns=columns)
    return found.sort_values("epoch", kind="stable").reset_index(drop=True)


def _figure(scene, column, title):
    curves = scene.curves[scene.curves["split"] == "validation"]
    if curves.empty:
        return None
    trained = curves[curves["epoch"] > 0]
    if not np.isfinite(trained[column]).any():  # every run diverged in its first epoch
        return None
    data, panels = bands(trained, column), scene.panels()
    # Few schedules: one row with a panel for each clock. Many: a column for each family.
    few = len(panels) == 1
    shape = (1, len(CLOCKS)) if few else (len(CLOCKS), len(panels))
    drawn, axes = style.subplots(
        *shape, figsize=(19, 6.4) if few else (4.1 * len(panels), 16.5), sharey=True, squeeze=False
    )
    style.heading(
        drawn,
        f"{title} as training goes on",
        f"{scene}, tuned for score. Lines: mean over {scene.n_seeds} seeds; bands: 95 % intervals. "
        f"The same runs against four clocks.{scene.seconds}",
    )
    for (family, names), (row, clock) in (
        (panel, clock) for panel in panels.items() for clock in enumerate(CLOCKS)
    ):
        place = list(panels).index(family)
        panel = axes[0, row] if few else axes[row, place]
        if data[clock].isna().any():  # seconds of a task whose schedules were not all timed
            panel.set_axis_off()
            continue
        _lines(panel, scene, data, names, clock, column)
        panel.set_xlabel(CLOCKS[clock])
        if few or row == 0:
            panel.set_title(f"against {_inside(CLOCKS[clock])}" if few else family)
        panel.set_ylabel(title if (place == 0 and (row == 0 or not few)) else "")
        form = "{x:g}" if clock == "train_seconds" else None
        style.log_axis(panel, data[clock].min() * 0.9, data[clock].max() * 1.05, form)
    _limits(axes[0, 0], scene, data, column)
    style.legend(drawn, scene, scene.schedules)
    return drawn


def _lines(axes, scene, data, names, clock, column):
    style.lines(axes, scene, data, clock, "center", names)
    for name in names:
        rows, look = data[data["schedule"] == name], scene.looks[name]
        axes.fill_between(
            rows[clock], rows["low"], rows["high"], color=look.color, alpha=0.18, linewidth=0
        )
    for target in scene.targets if column == "score" else ():
        axes.axhline(target, color="0.4", linewidth=1.2, linestyle=":")
    if column == "score" and scene.targets:
        axes.text(
            0.015,
            scene.targets[0],
            "target" if len(scene.targets) == 1 else "targets, by validation part",
            transform=axes.get_yaxis_transform(),
            va="top",
            color="0.4",
        )


def _limits(axes, scene, data, column):
    if column == "loss":
        axes.set_yscale("log")
        return
    low, top = data["center"].min(), data["center"].max()
    ends = [data["low"].fillna(data["center"]).min(), data["high"].fillna(data["center"]).max()]
    if scene.sign > 0:
        top = ends[1]
    else:
        low = ends[0]
    if scene.targets:
        low, top = min(low, scene.targets[0]), max(top, scene.targets[-1])
        if scene.percent:
            low = max(low, scene.targets[0] - 0.2)  # what matters is near the target
        elif scene.sign < 0:
            top = min(top, 5 * scene.targets[-1])
    if scene.percent:
        top = min(1.0, top + 0.005)
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.set_ylim(low, top)


def _inside(title):
    """A clock's name inside a sentence."""
    return title if title == "FLOPs" else title.lower()
