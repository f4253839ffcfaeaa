"""What all figures share: a theme, panels, dots, lines and legends."""

import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from layerwise.comparison.figures.looks import Look, family
from layerwise.comparison.figures.scene import Scene


def theme() -> AbstractContextManager[None]:
    """The look of all figures, as a context."""
    settings = {
        **sns.axes_style("whitegrid"),
        **sns.plotting_context("notebook", font_scale=1.1),
        "savefig.dpi": 110,
        "axes.titlesize": 14,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    return matplotlib.rc_context(settings)


def subplots(*shape: int, figsize: tuple[float, float], **options: Any) -> tuple[Figure, Any]:
    """`(figure, axes)` beside pyplot: no window, no global state."""
    figure = Figure(figsize=figsize, layout="constrained")
    return figure, figure.subplots(*shape, **options)


def heading(figure: Figure, title: str, subtitle: str) -> None:
    """A title that says what is shown, and lines below it on how to read it."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(subtitle, width=int(width * 9.4))
    top = 0.62 + 0.24 * len(lines)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - top / height))
    figure.text(0.1 / width, 1 - 0.3 / height, title, fontsize=19, fontweight="bold", va="center")
    figure.text(
        0.1 / width, 1 - 0.55 / height, "\n".join(lines), fontsize=12.5, va="top", color="0.3"
    )


def rows(panels: Sequence[Axes], scene: Scene, names: Sequence[str]) -> None:
    """Gives each schedule a line through all panels, from top to bottom, named on the left."""
    for axes in panels:
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", labelleft=axes is panels[0])
        for place, name in enumerate(names):
            if place and family(name) != family(names[place - 1]):
                axes.axhline(place - 0.5, color="0.85", linewidth=1)
    for label, name in zip(panels[0].get_yticklabels(), names, strict=True):
        label.set_color(scene.looks[name].color)
        label.set_fontweight("bold")


def runs(axes: Axes, scene: Scene, frame: pd.DataFrame, column: str, names: Sequence[str]) -> None:
    """A small dot for each run, on its schedule's line."""
    state = np.random.get_state()
    np.random.seed(0)  # seaborn draws the jitter here: the same frames give the same figure
    try:
        sns.stripplot(
            data=frame.astype({column: "float64"}),
            x=column,
            y="schedule",
            order=names,
            hue="schedule",
            hue_order=names,
            palette={name: scene.looks[name].color for name in names},
            alpha=0.4,
            size=4.5,
            jitter=0.13,
            legend=False,
            ax=axes,
        )
    finally:
        np.random.set_state(state)
    axes.set_ylabel("")


def lines(
    axes: Axes, scene: Scene, frame: pd.DataFrame, x: str, y: str, names: Sequence[str]
) -> None:
    """A line for each schedule, the baseline's on top."""
    names = sorted(names, key=lambda name: name == scene.baseline)
    sns.lineplot(
        data=frame[frame["schedule"].isin(names)],
        x=x,
        y=y,
        hue="schedule",
        hue_order=names,
        style="schedule",
        style_order=names,
        palette={name: scene.looks[name].color for name in names},
        dashes={name: scene.looks[name].dashes for name in names},
        estimator=None,
        sort=False,
        linewidth=2.2,
        legend=False,
        ax=axes,
    )


def log_axis(axes: Axes, low: float, high: float, form: Any = None) -> None:
    """Costs along the x axis from low to high: they differ by multiples."""
    axes.set(xscale="log", xlim=(low, high))
    labelled = (1.0, 2.0, 5.0) if high / low < 30 else (1.0,)  # multiples of powers of ten
    axes.xaxis.set_major_locator(LogLocator(subs=labelled))
    axes.xaxis.set_major_formatter(EngFormatter(sep="") if form is None else form)
    axes.xaxis.set_minor_formatter(NullFormatter())


def dot(axes: Axes, place: float, look: Look, values: Iterable[float], **options: Any) -> None:
    """An estimate with its interval: `values` is (center, low, high)."""
    center, low, high = values
    axes.plot(
        [low, high],
        [place, place],
        color=look.color,
        linewidth=3,
        alpha=0.45,
        solid_capstyle="butt",
    )
    options = {"markersize": 9, **options}
    axes.plot([center], [place], marker=look.marker, color=look.color, linestyle="", **options)


def legend(figure: Figure, scene: Scene, names: Sequence[str]) -> None:
    """One legend below all panels."""
    handles = [
        Line2D(
            [],
            [],
            color=look.color,
            linestyle=(0, look.dashes) if look.dashes else "-",
            marker=look.marker,
            label=name,
            linewidth=2.5,
        )
        for name, look in ((name, scene.looks[name]) for name in names)
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncol=min(len(names), 4),
        frameon=False,
        handlelength=3.5,
    )
