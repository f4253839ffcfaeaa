"""Time to target, run by run, with the runs that missed it in a place of their own."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from layerwise.comparison import intervals
from layerwise.comparison.figures import style
from layerwise.comparison.figures.scene import Scene

CLOCKS = {
    "epochs_to_target": "Epochs",
    "updates_to_target": "Updates",
    "flops_to_target": "FLOPs",
    "seconds_to_target": "Seconds",
}


def figure(scene: Scene) -> Figure | None:
    """Each run's epochs, updates, FLOPs and seconds to the target; a missed target has no time."""
    if not scene.targets:
        return None
    names = scene.schedules
    drawn, axes = style.subplots(
        1, len(CLOCKS), figsize=(19, 2.8 + 0.45 * len(names)), sharey=True, squeeze=False
    )
    style.heading(
        drawn,
        f"How long until {scene.goal}?",
        f"{scene}, {scene.tuned_for_cost}. Small dots: runs; large: median, where a miss is infinite; bars: 95 % "
        "intervals. "
        f"Grey strip: how many of the runs missed the target.{scene.seconds}",
    )
    for axis, (column, title) in zip(axes[0], CLOCKS.items(), strict=True):
        reached = scene.cheapest[column].astype("float64")
        end = 1.0 if reached.dropna().empty else reached.max() * 1.08
        axis.set_xlim(0, end * 1.3)
        axis.axvspan(end, end * 1.3, color="0.92", zorder=0, linewidth=0)
        style.runs(axis, scene, scene.cheapest, column, names)
        for place, name in enumerate(names):
            _row(axis, place, scene, name, column, end * 1.15)
        axis.set_title(f"{title} to target")
        axis.set_xlabel(title)
        axis.xaxis.set_major_formatter(
            "{x:g}" if column == "seconds_to_target" else EngFormatter(sep="")
        )
        axis.locator_params(axis="x", nbins=5)
        axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= end])
    style.rows(axes[0], scene, names)
    return drawn


def _row(axis, place, scene, name, column, strip):
    runs, look = scene.cheapest[scene.cheapest["schedule"] == name], scene.looks[name]
    values = runs[column].astype("float64").dropna().to_numpy()
    missed = len(runs) - len(values)
    if len(values):
        found = np.array(intervals.median([*values, *[np.inf] * missed]))
        if np.isfinite(found[0]):
            style.dot(axis, place, look, np.minimum(found, axis.get_xlim()[1]))
    text = f"✕ {missed} of {len(runs)}" if missed else "none missed"
    color = look.color if missed else "0.6"
    axis.text(
        strip,
        place,
        text,
        ha="center",
        va="center",
        fontsize=11,
        color=color,
        fontweight="bold" if missed else None,
    )
