"""How each schedule looks, in every figure of a comparison."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import seaborn as sns

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


def family(schedule: str) -> str:
    """What a schedule's name says before the comma."""
    return schedule.split(",")[0]


def looks(schedules: Sequence[str], baseline: str) -> dict[str, Look]:
    """`{schedule: Look}`, the same in all figures of a comparison.

    Example:
    >>> from layerwise.comparison.figures.looks import looks
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
