"""Convergence on validation data against updates, examples, FLOPs and seconds."""

import numpy as np
import pandas as pd
import scipy.stats
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from layerwise.comparison.figures import style
from layerwise.comparison.statistics import interquartile_mean

CLOCKS = {
    "update": "Updates",
    "examples": "Examples seen",
    "flops": "FLOPs",
    "train_seconds": "Seconds of training",
}
RESAMPLES = 1000


def accuracy(scene: style.Scene) -> Figure | None:
    """Validation accuracy against each clock."""
    return _figure(scene, "accuracy", "Validation accuracy")


def loss(scene: style.Scene) -> Figure | None:
    """Validation loss against each clock."""
    return _figure(scene, "loss", "Validation loss")


def bands(curves: pd.DataFrame, column: str) -> pd.DataFrame:
    """The interquartile mean over seeds at each epoch, its 95 % interval, and the mean clocks.

    Args:
        curves: Rows of `curves` of one split, with the columns `schedule` and `seed`.
        column: "loss" or "accuracy".

    Returns:
        A frame with one row per schedule and epoch: the clocks, `center`, `low`, `high`, `n` (runs
            that got this far).
    """
    rows = []
    for schedule, group in curves[np.isfinite(curves[column])].groupby("schedule", sort=False):
        clocks = group.groupby("epoch")[list(CLOCKS)].mean().astype("float64")
        values = group.pivot(index="epoch", columns="seed", values=column)
        present = values.notna().to_numpy()
        # Epochs with the same runs are resampled in one go; runs that diverged stop earlier.
        for runs in np.unique(present, axis=0):
            epochs = values.index[(present == runs).all(axis=1)]
            some = values.loc[epochs, runs].to_numpy()
            rows.append(
                clocks.loc[epochs]
                .assign(schedule=schedule, center=interquartile_mean(some), n=int(runs.sum()))
                .assign(**_interval(some))
                .reset_index()
            )
    return pd.concat(rows).sort_values("epoch", kind="stable").reset_index(drop=True)


def _interval(values):
    if values.shape[1] < 2:
        return {"low": np.nan, "high": np.nan}
    interval = scipy.stats.bootstrap(
        (values,),
        interquartile_mean,
        n_resamples=RESAMPLES,
        method="percentile",
        axis=-1,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return {"low": interval.low, "high": interval.high}


def _figure(scene, column, title):
    curves = scene.curves[scene.curves["split"] == "validation"]
    if curves.empty:
        return None
    data, panels = bands(curves[curves["epoch"] > 0], column), scene.panels()
    # Few schedules: one row with a panel for each clock. Many: a column for each family.
    few = len(panels) == 1
    shape = (1, len(CLOCKS)) if few else (len(CLOCKS), len(panels))
    drawn, axes = style.subplots(
        *shape, figsize=(19, 6.4) if few else (4.1 * len(panels), 16.5), sharey=True, squeeze=False
    )
    style.heading(
        drawn,
        f"{title} as training goes on",
        f"{scene}. Lines: interquartile mean over {scene.n_seeds} seeds; bands: 95 % intervals. "
        "The same runs against four clocks.",
    )
    for (family, names), (row, clock) in (
        (panel, clock) for panel in panels.items() for clock in enumerate(CLOCKS)
    ):
        place = list(panels).index(family)
        panel = axes[0, row] if few else axes[row, place]
        _lines(panel, scene, data, names, clock, column)
        panel.set_xlabel(CLOCKS[clock])
        if few or row == 0:
            panel.set_title(f"against {_inside(CLOCKS[clock])}" if few else family)
        panel.set_ylabel(title if (place == 0 and (row == 0 or not few)) else "")
        panel.set_xscale("log")  # costs differ by multiples
        panel.xaxis.set_major_locator(LogLocator(subs=_ticks(data[clock])))
        panel.xaxis.set_major_formatter(
            "{x:g}" if clock == "train_seconds" else EngFormatter(sep="")
        )
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlim(data[clock].min() * 0.9, data[clock].max() * 1.05)
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
    if column == "accuracy" and not np.isnan(scene.target):
        axes.axhline(scene.target, color="0.4", linewidth=1.2, linestyle=":")
        axes.text(
            0.015,
            scene.target,
            "target",
            transform=axes.get_yaxis_transform(),
            va="bottom",
            color="0.4",
        )


def _limits(axes, scene, data, column):
    if column == "loss":
        axes.set_yscale("log")
        return
    low, top = data["center"].min(), data["high"].fillna(data["center"]).max()
    if not np.isnan(scene.target):
        low, top = max(low, scene.target - 0.2), max(top, scene.target)
    axes.set_ylim(low, min(1.0, top + 0.005))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")


def _inside(title):
    """A clock's name inside a sentence."""
    return title if title == "FLOPs" else title.lower()


def _ticks(values):
    """Which multiples of powers of ten are labelled."""
    return (1.0, 2.0, 5.0) if values.max() / values.min() < 30 else (1.0,)
