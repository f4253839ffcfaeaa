"""What all figures share: one look for each schedule, a theme, and the data of one task."""

import dataclasses
import functools
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

from layerwise.comparison import tuning
from layerwise.comparison.frames import metric_of, sign_of

_COLORS = sns.color_palette("colorblind")
# The same colour in every comparison for the families that the experiments use.
_FAMILIES = {
    "cyclic": _COLORS[0],
    "reverse": _COLORS[9],
    "shuffled": _COLORS[1],
    "random": _COLORS[4],
    "greedy": _COLORS[2],
}
_OTHERS = [_COLORS[0], _COLORS[1], _COLORS[2], _COLORS[4], _COLORS[3], _COLORS[5], _COLORS[9]]
_BASELINE = (0.1, 0.1, 0.1)
_DASHES = ["", (5, 1.5), (1, 1), (6, 1.5, 1, 1.5), (3, 1, 1, 1, 1, 1)]
_MARKERS = ["o", "s", "^", "D", "v", "P", "X"]


@dataclasses.dataclass(frozen=True)
class Look:
    """How a schedule looks in every figure."""

    color: tuple[float, float, float]
    dashes: Any  # what both seaborn and Line2D take: "" or a tuple of lengths
    marker: str


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """The data of one task.

    Args:
        task: (dataset, model, regularizer, optimizer).
        runs: Its rows of `runs`.
        all_curves: The frame `curves`.
        baseline: The name of the baseline schedule.
        all_runs: The frame `runs`, whose schedules decide how each looks.
    """

    task: tuple[str, str, str, str]
    runs: pd.DataFrame
    all_curves: pd.DataFrame
    baseline: str
    all_runs: pd.DataFrame

    @functools.cached_property
    def measured(self) -> pd.DataFrame:
        """The measured runs, as tuned for score."""
        return self._of("score")

    @functools.cached_property
    def cheapest(self) -> pd.DataFrame:
        """The measured runs, as tuned for the cost of the target."""
        return self._of("cost")

    @functools.cached_property
    def tuned_for_cost(self) -> str:
        """Words on what the runs in `cheapest` were tuned for."""
        for _, rows in self.runs.groupby("schedule", sort=False):
            if not tuning.is_fastest_measured(rows):
                return "each tuned for score, where its fastest setting was not measured"
        return "each tuned for cost"

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """The curves of the measured runs, with the columns `schedule` and `seed`."""
        return self.all_curves.merge(self.measured[["run_id", "schedule", "seed"]], on="run_id")

    @functools.cached_property
    def schedules(self) -> list[str]:
        """The names of the schedules with measured runs, the baseline first."""
        return list(dict.fromkeys(self.measured["schedule"]))

    @functools.cached_property
    def looks(self) -> dict[str, Look]:
        """`{schedule: Look}`."""
        return looks(list(dict.fromkeys(self.all_runs["schedule"])), self.baseline)

    @property
    def target(self) -> float:
        """The validation score to reach; NaN if there is none."""
        return self.runs["target"].max()

    @property
    def metric(self) -> str:
        """What the score is, in words."""
        return metric_of(self.runs).replace("_", " ")

    @property
    def percent(self) -> bool:
        """Whether scores are shares that are shown in percent."""
        return "accuracy" in self.metric

    @property
    def sign(self) -> int:
        """1 where a greater score is better, else -1."""
        return sign_of(self.runs.iloc[0])

    def said(self, score: float) -> str:
        """A score as text."""
        return f"{score:.1%}" if self.percent else f"{score:.3g}"

    @property
    def n_seeds(self) -> int:
        """Measured seeds."""
        return self.measured["seed"].nunique()

    def __str__(self) -> str:
        return ", ".join(part for part in self.task if part != "none")

    def _of(self, purpose):
        groups = self.runs.groupby("schedule", sort=False)
        return pd.concat([tuning.of_purpose(rows, purpose) for _, rows in groups])

    def panels(self) -> dict[str, list[str]]:
        """Schedules shown together: all, where they are few; else the baseline and a family."""
        if len(self.schedules) <= 7:
            return {"": self.schedules}
        families: dict[str, list[str]] = {}
        for name in self.schedules:
            if name != self.baseline:
                families.setdefault(family(name), []).append(name)
        return {key: [self.baseline, *names] for key, names in families.items()}


def family(schedule: str) -> str:
    """What a schedule's name says before the comma."""
    return schedule.split(",")[0]


def looks(schedules: Sequence[str], baseline: str) -> dict[str, Look]:
    """`{schedule: Look}`, the same in all figures of a comparison.

    Example:
    >>> from layerwise.comparison.figures.style import looks
    >>> found = looks(["simultaneous", "cyclic, 1 step", "cyclic, sweep"], "simultaneous")
    >>> found["cyclic, 1 step"].color == found["cyclic, sweep"].color
    True
    >>> found["cyclic, 1 step"].marker == found["cyclic, sweep"].marker
    False
    """
    families = list(dict.fromkeys(family(name) for name in schedules if name != baseline))
    colors = {name: color for name, color in _FAMILIES.items() if name in families}
    free = [color for color in _OTHERS if color not in colors.values()]
    for name in families:
        if name not in colors:
            colors[name] = free.pop(0) if free else _COLORS[7]
    variants = list(dict.fromkeys(name.partition(", ")[2] for name in schedules if ", " in name))
    result = {}
    for name in schedules:
        variant = name.partition(", ")[2]
        place = variants.index(variant) if variant else 0
        result[name] = Look(
            color=_BASELINE if name == baseline else colors[family(name)],
            dashes=_DASHES[place % len(_DASHES)],
            marker=_MARKERS[place % len(_MARKERS)],
        )
    return result


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
