"""Sensitivity to the learning rate: every tuning run of every schedule."""

import numpy as np
from matplotlib.figure import Figure

from layerwise.comparison.figures import style
from layerwise.comparison.tuning import tuned_learning_rate

BEST = "best_validation_accuracy"


def figure(scene: style.Scene) -> Figure | None:
    """Best validation accuracy against the learning rate; a ring marks the rate that was chosen."""
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
        f"{scene}. Best validation accuracy in the tuning runs (mean of {n_seeds} "
        f"seed{'s' * (n_seeds > 1)}). "
        "Ring: the rate that was chosen. ✕ at the bottom: a run diverged or failed.",
    )
    best = tune.assign(**{BEST: tune[BEST].where(tune["status"] == "finished")})
    floor = np.nanmin([best[BEST].min(), 1.0])
    floor = max(floor, best[BEST].max() - 0.6) - 0.03
    for axis, (family, names) in zip(axes[0], panels.items(), strict=True):
        means = _means(best[best["schedule"].isin(names)], ["schedule", "learning_rate"])
        style.lines(axis, scene, means.reset_index(), "learning_rate", BEST, names)
        for shift, name in enumerate(names):
            rows = best[best["schedule"] == name]
            _line(axis, scene.looks[name], rows, floor, 1.03 ** (shift - len(names) / 2))
        axis.set_xscale("log")
        axis.set_xlabel("Learning rate")
        axis.set_title(family)
        axis.set_ylim(floor, 1.005)
        axis.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes[0, 0].set_ylabel("Best validation accuracy")
    style.legend(drawn, scene, scene.schedules)
    return drawn


def _line(axis, look, rows, floor, shift):
    if rows.empty:
        return
    usable = _means(rows, "learning_rate")
    axis.plot(usable.index, usable, look.marker, color=look.color, markersize=8)
    lost = usable.index[usable.isna()]
    axis.plot(
        lost * shift,
        np.full(len(lost), floor + 0.012),
        "x",
        color=look.color,
        markersize=9,
        markeredgewidth=2.5,
    )
    chosen = tuned_learning_rate(rows.assign(phase="tune"))
    if not np.isnan(usable[chosen]):
        axis.plot(
            [chosen],
            [usable[chosen]],
            "o",
            markersize=17,
            markerfacecolor="none",
            markeredgecolor=look.color,
            markeredgewidth=2,
        )


def _means(rows, by):
    """The mean over the tuning seeds; missing where a run was lost."""
    return rows.groupby(by, sort=False)[BEST].agg(lambda values: values.mean(skipna=False))
