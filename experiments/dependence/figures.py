"""The figures of `dependence`, each a function of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.dependence import nets, pixels
from layerwise.comparison import intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZE = {"layout": "constrained", "dpi": 130}
SHOWN = 20  # steps of a way over a slice


def two_weights(quadratics: pd.DataFrame, balls: pd.DataFrame, ways: pd.DataFrame) -> Figure:
    """Ways down a valley, the best direction by the length of a step, and rounds with and without a preconditioner."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 5.2), **SIZE)
    valley, turning, taken = figure.subplots(1, 3)
    _valley(valley, ways[ways["preconditioner"] == "none"])
    plain = balls[balls["preconditioner"] == "none"]
    sns.lineplot(
        plain,
        x="radius",
        y="cosine",
        hue="problem",
        marker="o",
        estimator="median",
        ax=turning,
        seed=0,
    )
    turning.set(
        xscale="log", title="Is the gradient the best direction?", ylim=(0, 1.03),
        xlabel="Length of the step, in distances to the minimum", ylabel="Cosine between gradient and best step",
    )  # fmt: skip
    turning.legend(title=None)
    names = list(dict.fromkeys(quadratics["problem"]))
    simultaneous = quadratics[quadratics["schedule"] == "all at once"]
    sns.pointplot(
        simultaneous, x="rounds", y="problem", hue="preconditioner", order=names, linestyle="none",
        dodge=0.4, errorbar=None, estimator="median", palette="colorblind", markers=["o", "s", "D"], ax=taken,
    )  # fmt: skip
    taken.set(
        xscale="log",
        title="Rounds until 1/10000 of the loss is left",
        xlabel="Rounds, all at once",
        ylabel="",
    )
    taken.legend(title="Preconditioner")
    return figure


def _valley(axis, ways):
    first, second = np.meshgrid(np.linspace(-1.25, 1.25, 101), np.linspace(-1.25, 1.25, 101))
    # The condition number of two weights of equal curvature is (1 + c) / (1 - c).
    number = ways["condition_number"].iloc[0]
    correlation = (number - 1) / (number + 1)
    loss = (first**2 + second**2) / 2 + correlation * first * second
    axis.contourf(first, second, np.sqrt(loss), levels=18, cmap="crest")
    _draw_ways(axis, ways.rename(columns={"schedule": "what"}))
    axis.set(
        title=f"Two weights of correlation {correlation:.2g}",
        xlabel="First weight",
        ylabel="Second weight",
    )


def _draw_ways(axis, ways):
    for (name, way), color in zip(
        ways.groupby("what", sort=False), ("white", "orange"), strict=False
    ):
        axis.plot(
            way["first"],
            way["second"],
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            color=color,
            label=name,
        )
    axis.plot(
        *ways[["first", "second"]].iloc[0],
        marker="*",
        markersize=13,
        color="red",
        linestyle="",
        label="start",
    )
    axis.legend(loc="lower left", facecolor="0.35", labelcolor="white")


def slices(planes: pd.DataFrame, directions: pd.DataFrame) -> Figure:
    """The loss over two weights of a trained net with ways on it, and how the best direction of all weights turns."""
    import seaborn as sns
    from matplotlib.figure import Figure

    form = planes["form"].iloc[
        0
    ]  # where the Hessian at the minimum tells what happens on the way to it
    figure = Figure(figsize=(10, 5.2), **SIZE)
    axes = figure.subplots(1, 2)
    own = planes[planes["form"] == form]
    grid = own[own["what"] == "loss"].pivot(index="second", columns="first", values="loss")
    axes[0].contourf(
        grid.columns, grid.index, np.sqrt(grid - grid.to_numpy().min()), levels=18, cmap="crest"
    )
    _draw_ways(axes[0], own[(own["what"] != "loss") & (own["step"] <= SHOWN)])
    axes[0].set(
        title=f"Two weights of a trained net, pixels {form}:\nthe first {SHOWN} steps",
        xlabel="First weight, moved by",
        ylabel="Second weight, moved by",
    )
    sns.lineplot(
        directions,
        x="multiple",
        y="cosine",
        hue="form",
        marker="o",
        palette="colorblind",
        seed=0,
        ax=axes[-1],
    )
    axes[-1].set(
        xscale="log", ylim=(0, 1.03), title="All weights: is the gradient the best direction?",
        xlabel="Length of the step, in steps of training", ylabel="Cosine between gradient and best step",
    )  # fmt: skip
    axes[-1].legend(title="Pixels")
    return figure


PANELS = {
    "updates_to_loss": (
        "Updates until the training loss is 0.1 (fewer is better)",
        True,
        intervals.median,
    ),
    "test_score": ("Test accuracy (more is better)", False, intervals.mean),
    "within_layers": ("Curvature of a layer's weights, together over apart", True, intervals.mean),
    "between_layers": ("Curvature of layers, together over apart", True, intervals.mean),
}


def pictures(rows: pd.DataFrame) -> Figure:
    """Nets beside forms of the images: speed, accuracy, and how much weights and layers depend on each other.

    Args:
        rows: `net, form, seed`, and a column for each panel.
    """
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    figure = Figure(figsize=(13, 9), **SIZE)
    forms = [form for form in pixels.FORMS if form in set(rows["form"])]
    known = [net for net in nets.NETS if net in set(rows["net"])]
    palette = dict(zip(known, sns.color_palette("colorblind"), strict=False))
    markers = dict(zip(known, "osD", strict=False))
    for axis, (column, (title, is_log, estimate)) in zip(
        figure.subplots(2, 2).flat, PANELS.items(), strict=True
    ):
        for k, net in enumerate(known):
            own = rows[rows["net"] == net]
            found = [estimate(own.loc[own["form"] == form, column]) for form in forms]
            places = np.arange(len(forms)) + 0.18 * (k - (len(known) - 1) / 2)
            center, low, high = np.array(found).T
            axis.vlines(
                places,
                low,
                np.where(np.isfinite(high), high, np.nan),
                color=palette[net],
                linewidth=2,
            )
            axis.plot(places, center, markers[net], color=palette[net], label=net, markersize=7)
        axis.set_xticks(range(len(forms)), forms)
        axis.set_title(title)
        if is_log:
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter("{x:g}")
        else:
            axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.grid(axis="y", alpha=0.4)
    figure.axes[0].legend(title="Net, equal parameters")
    figure.supxlabel("Pixels of the images")
    return figure
