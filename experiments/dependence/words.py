"""Numbers with intervals, and tables, as the answer shows them."""

from collections.abc import Sequence

import numpy as np


def in_words(estimate: Sequence[float], form: str) -> str:
    """`value [low, high]`; the value alone where too few runs stand behind it; a miss is infinite.

    Example:
    >>> from experiments.dependence.words import in_words
    >>> in_words((0.5, 0.25, float("inf")), "{:.2f}")
    '0.50 [0.25, ∞]'
    """
    center, low, high = ("∞" if np.isinf(v) else form.format(v) for v in estimate)
    return center if np.isnan(estimate[1]) else f"{center} [{low}, {high}]"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
