"""Sensitivity to the learning rate: every tuning run of every schedule."""

import numpy as np
from matplotlib.figure import Figure

from layerwise.comparison.figures import style
from layerwise.comparison.figures.scene import Scene
from layerwise.comparison.tuning import PURPOSES, tuned

BEST = "best_validation_score"


def figure(scene: Scene) -> Figure | None:
    """Best validation score against the learning rate; a ring marks the rate for score, a square that for cost."""
    tune = scene.runs[scene.runs["phase"] == "tune"]
    if tune["learning_rate"].nunique() < 2:
        return None
    panels = scene.panels()
    drawn, axes = style.subplots(
        1, len(panels), figsize=(max(10, 4.3 * len(panels)), 6.6), sharey=True, squeeze=False
    )
    n_seeds = tune["seed"].nunique()
    style.heading(
        drawn,
        "How much does the learning rate matter?",
        f"{scene}. Best validation {scene.metric} in the tuning runs (mean of {n_seeds} "
        f"seed{'s' * (n_seeds > 1)}). "
        "Ring: the rate for score; square: for cost. ✕ at the edge: a run diverged or failed.",
    )
    best = tune.assign(**{BEST: tune[BEST].where(tune["status"] == "finished")})
    low, top = best[BEST].min(), best[BEST].max()
    if np.isnan(low):
        low, top = 0.0, 1.0
    if scene.percent:
        low = max(low, top - 0.6)
    room = 0.06 * (top - low) + 1e-3
    floor, top = low - room, min(1.005, top + room) if scene.percent else top + room
    for axis, (family, names) in zip(axes[0], panels.items(), strict=True):
        means = _means(best[best["schedule"].isin(names)], ["schedule", "learning_rate"])
        style.lines(axis, scene, means.reset_index(), "learning_rate", BEST, names)
        axis.set_ylim(floor, top)
        for shift, name in enumerate(names):
            rows = best[best["schedule"] == name]
            _line(axis, scene.looks[name], rows, 1.03 ** (shift - len(names) / 2))
        axis.set_xscale("log")
        axis.set_xlabel("Learning rate")
        axis.set_title(family)
        if scene.percent:
            axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes[0, 0].set_ylabel(f"Best validation {scene.metric}")
    style.legend(drawn, scene, scene.schedules)
    return drawn


def _line(axis, look, rows, shift):
    if rows.empty:
        return
    usable = _means(rows, "learning_rate")
    axis.plot(usable.index, usable, look.marker, color=look.color, markersize=8)
    lost = usable.index[usable.isna()]
    axis.plot(
        lost * shift,
        np.full(len(lost), axis.get_ylim()[0]),
        "x",
        color=look.color,
        markersize=9,
        markeredgewidth=2.5,
    )
    for purpose, marker, size in zip(PURPOSES, "os", (17, 22), strict=True):
        chosen = tuned(rows.assign(phase="tune"), purpose)["learning_rate"]
        if purpose == "cost" and rows["flops_to_target"].isna().all():
            continue
        if not np.isnan(usable[chosen]):
            axis.plot(
                [chosen],
                [usable[chosen]],
                marker,
                markersize=size,
                markerfacecolor="none",
                markeredgecolor=look.color,
                markeredgewidth=2,
            )


def _means(rows, by):
    """The mean over the tuning seeds; missing where a run was lost."""
    return rows.groupby(by, sort=False)[BEST].agg(lambda values: values.mean(skipna=False))
