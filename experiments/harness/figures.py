"""What the figures of measured rows share: one file for each device and data type, colours, points with quartiles.

Matplotlib and seaborn load with the first figure: a process that measures time and memory does not hold them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKENDS = ("tensorflow", "jax", "torch")
LIMIT = {"color": "0.25", "linestyle": (0, (4, 2)), "linewidth": 1.2}  # a line to compare with
_FACTORS = {"s": 1e3, "ratio": 1}  # seconds are shown as milliseconds


def draw(
    folder: Path, name: str, table: pd.DataFrame, figure: Callable[[pd.DataFrame], Figure | None]
) -> list[Path]:
    """Draws one figure of a table for each device and data type in it; returns the paths.

    Args:
        folder: Where the files go.
        name: The file's name; device and data type follow where there is more than one of them.
        table: Rows as `rows.read` gives them.
        figure: Draws the rows of one device and data type; `None` where they hold nothing of it.
    """
    import matplotlib
    import seaborn as sns

    paths = []
    style = {**sns.axes_style("whitegrid"), "font.size": 9, "axes.titlesize": 10}
    style |= {"savefig.dpi": 150, "figure.constrained_layout.use": True}
    devices = table.groupby(["device", "dtype"], sort=False)
    for (device, dtype), rows in devices:
        with matplotlib.rc_context(style):
            drawn = figure(rows)
            if drawn is None:
                continue
            lines = [drawn.get_suptitle(), _origin(rows, device, dtype)]
            characters = int(13 * drawn.get_figwidth())
            lines = [part for line in lines for part in textwrap.wrap(line, characters)]
            drawn.suptitle("\n".join(lines), fontsize=10)
        words = [name]
        if len(devices) > 1:
            words.append(re.sub(r"[^\w.]+", "_", f"{device}_{dtype}"))
        path = Path(folder) / f"{'-'.join(words)}.png"
        drawn.savefig(path)
        paths.append(path)
    return paths


def colors() -> dict[str, tuple]:
    """`{backend: colour}`, the same in all figures."""
    import seaborn as sns

    return dict(zip(BACKENDS, sns.color_palette("colorblind"), strict=False))


def backends_of(table: pd.DataFrame) -> list[str]:
    """The backends that a table holds, in the order of the figures."""
    return [backend for backend in BACKENDS if backend in set(table["backend"])]


def subplots(
    rows: int, columns: int, width: float, height: float, **options: object
) -> tuple[Figure, np.ndarray]:
    """A figure and its grid of axes, each of them `width` by `height` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + width * columns, 0.8 + height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def label_edges(axes: np.ndarray, x: str, y: str) -> None:
    """Labels x below the lowest axes of a grid, and y beside the leftmost."""
    for ax in axes[-1]:
        ax.set_xlabel(x)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)


def points(ax: Axes, x: Sequence, rows: pd.DataFrame, color: tuple) -> None:
    """A point and an upright line for each row: median and quartiles."""
    ax.vlines(x, rows["low"], rows["high"], color=color, linewidth=1.5)
    ax.plot(x, rows["value"], "o", color=color, markersize=4)


def dots(ax: Axes, names: Iterable[str], rows: pd.DataFrame, color: tuple, unit: str) -> None:
    """A named line for each row: median, quartiles, and the number; `unit` is "s" or "ratio"."""
    factor = _FACTORS[unit]
    places = np.arange(len(rows))
    values = rows["value"].to_numpy() * factor
    ax.hlines(places, rows["low"] * factor, rows["high"] * factor, color=color, linewidth=2.5)
    ax.plot(values, places, "o", color=color, markersize=6)
    for place, value in zip(places, values, strict=True):
        ax.annotate(
            f"{value:.3g}",
            (value, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    ax.set_yticks(places, list(names))
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.margins(x=0.15)


def _origin(rows, device, dtype):
    scales = "/".join(rows["scale"].unique())
    return f"{device}, {dtype}; {scales} scale, {pd.to_datetime(rows['started_at']).max():%Y-%m-%d}"
