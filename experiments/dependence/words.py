"""Numbers with intervals, and verdicts, as the answer shows them."""

import numpy as np

Estimate = tuple[float, float, float]


def number(estimate: Estimate, form: str) -> str:
    """`value [low, high]`; the value alone where too few runs stand behind it. A miss is infinite; NaN was not measured.

    Example:
    >>> from experiments.dependence.words import number
    >>> number((0.5, 0.25, float("inf")), "{:.2f}")
    '0.50 [0.25, ∞]'
    """
    if np.isnan(estimate[0]):
        return "not measured"
    center, low, high = ("∞" if np.isinf(v) else form.format(v) for v in estimate)
    return center if np.isnan(estimate[1]) else f"{center} [{low}, {high}]"


def verdict(estimate: Estimate, same: float, below: str, above: str, neither: str) -> str:
    """What an interval says: that the value is below `same`, above it, or that it cannot be told.

    Example:
    >>> from experiments.dependence.words import verdict
    >>> verdict((0.5, 0.25, 0.75), 1.0, "less", "more", "as much, as far as can be told")
    'less'
    """
    _, low, high = estimate
    return below if high < same else above if low > same else neither
