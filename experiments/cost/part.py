"""Part: one part of the question, from measuring to its lines of the answer."""

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from experiments.cost.settings import Settings

# The parts, in the order of the answer; each is the module of that name beside this one.
PARTS = (
    "steps",
    "switches",
    "programs",
    "memory",
    "greedy",
    "baselines",
    "grid",
    "executions",
    "workers",
    "seeds",
    "probes",
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of the question. Its module exposes it as `PART`.

    Attributes:
        name: The name of its module, and of the file with its rows.
        measure: The rows that the backend of this process gives at the settings of a scale.
        figures: `{name: function}`; each draws the rows of one device and data type, or gives `None`
            where they hold nothing of it.
        answer: Its lines of the answer, `(what, number)`, from the rows of one backend, device and data type.
        short: Sentences on what was found, from all its rows.
    """

    name: str
    measure: Callable[["Settings"], list[dict]]
    figures: dict[str, Callable[[pd.DataFrame], "Figure | None"]]
    answer: Callable[[pd.DataFrame], Iterable[tuple[str, str]]]
    short: Callable[[pd.DataFrame], Iterable[str]] = lambda rows: ()


def load(name: str) -> Part:
    """The part of that name."""
    return importlib.import_module(f"experiments.cost.{name}").PART


def one(rows: pd.DataFrame, **columns: object) -> pd.Series:
    """The first row whose columns have the given values."""
    for column, value in columns.items():
        rows = rows[rows[column] == value]
    return rows.iloc[0]
