"""Estimates from few runs, with intervals that cover what they claim; none from fewer than five."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import scipy.stats

LEAST_RUNS = 5
LEVEL = 0.95
Numbers: TypeAlias = Sequence[float] | np.ndarray | pd.Series


def mean(values: Numbers, level: float = LEVEL) -> tuple[float, float, float]:
    """`(mean, low, high)` with Student's interval of a level; values that are missing are left out.

    Example:
    >>> from layerwise.comparison.intervals import mean
    >>> tuple(round(number, 2) for number in mean([1.0, 2.0, 3.0, 4.0, 5.0]))
    (3.0, 1.04, 4.96)
    """
    values = _numbers(values)
    if not len(values):
        return np.nan, np.nan, np.nan
    center = float(values.mean())
    if len(values) < LEAST_RUNS:
        return center, np.nan, np.nan
    half = scipy.stats.t.ppf((1 + level) / 2, len(values) - 1) * scipy.stats.sem(values)
    return center, center - float(half), center + float(half)


def geometric_mean(values: Numbers) -> tuple[float, float, float]:
    """`(geometric mean, low, high)` of positive numbers, such as ratios: Student's interval of their logarithms.

    Values that are missing are left out.

    Example:
    >>> from layerwise.comparison.intervals import geometric_mean
    >>> tuple(round(number, 2) for number in geometric_mean([0.25, 0.5, 1.0, 2.0, 4.0]))
    (1.0, 0.26, 3.9)
    """
    center, low, high = np.exp(mean(np.log(_numbers(values))))
    return float(center), float(low), float(high)


def ratio_of_means(values: Numbers, reference: Numbers) -> tuple[float, float, float]:
    """`(ratio, low, high)` of the means of positive numbers that are paired: Student's interval of the ratio's logarithm,
    whose error is to first order that of the mean of `values / mean(values) - reference / mean(reference)`.

    Example:
    >>> from layerwise.comparison.intervals import ratio_of_means
    >>> found = ratio_of_means([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 3.0, 7.0, 9.0, 9.0])
    >>> tuple(round(number, 2) for number in found)
    (0.5, 0.41, 0.61)
    """
    ours, theirs = np.asarray(values, "float64"), np.asarray(reference, "float64")
    ratio = float(ours.mean() / theirs.mean())
    _, low, high = mean(ours / ours.mean() - theirs / theirs.mean())
    return ratio, ratio * float(np.exp(low)), ratio * float(np.exp(high))


def median(values: Numbers, level: float = LEVEL) -> tuple[float, float, float]:
    """`(median, low, high)` with a distribution-free interval of a level; values may be infinite.

    The ends are order statistics, interpolated between the two that cover just less and just more than the level
    (Hettmansperger and Sheather 1986). Of five values the whole range covers 0.9375, and is taken for 0.95; where it covers
    far less than the level, the interval has no ends.

    Example:
    >>> from layerwise.comparison.intervals import median
    >>> median([3.0, 1.0, 2.0, float("inf"), 5.0])
    (3.0, 1.0, inf)
    """
    ordered = np.sort(_numbers(values))
    n = len(ordered)
    if not n:
        return np.nan, np.nan, np.nan
    center = _between(ordered[(n - 1) // 2], ordered[n // 2], 0.5)
    if n < LEAST_RUNS:
        return center, np.nan, np.nan
    covers = 1 - 2 * scipy.stats.binom.cdf(np.arange((n + 1) // 2), n, 0.5)
    wide = max([k for k, cover in enumerate(covers) if cover >= level], default=None)
    if wide is None and level - covers[0] > 0.02:
        return center, -np.inf, np.inf
    if wide is None:
        return center, float(ordered[0]), float(ordered[-1])
    k = wide + 1  # the k-th smallest and largest
    share = (covers[wide] - level) / (covers[wide] - covers[wide + 1])
    weight = (n - k) * share / (k + (n - 2 * k) * share)
    return (
        center,
        _between(ordered[wide], ordered[wide + 1], weight),
        _between(ordered[-1 - wide], ordered[-2 - wide], weight),
    )


def share(successes: float, n: int) -> tuple[float, float, float]:
    """`(share, low, high)` with the exact interval of Clopper and Pearson; half successes are ties.

    Example:
    >>> from layerwise.comparison.intervals import share
    >>> tuple(round(number, 3) for number in share(10, 10))
    (1.0, 0.692, 1.0)
    """
    if not n:
        return np.nan, np.nan, np.nan
    if n < LEAST_RUNS:
        return successes / n, np.nan, np.nan
    tail, beta = (1 - LEVEL) / 2, scipy.stats.beta.ppf
    low = float(beta(tail, successes, n - successes + 1)) if successes > 0 else 0.0
    high = float(beta(1 - tail, successes + 1, n - successes)) if successes < n else 1.0
    return successes / n, low, high


def improvement(
    values: Numbers, baseline: Numbers, more_is_better: bool
) -> tuple[float, float, float]:
    """How likely a run beats the baseline's run of the same seed: `(share, low, high)` of pairs won, ties half.

    A missing value (a target that was missed, a run that diverged) loses against any other and ties with another missing.

    Example:
    >>> from layerwise.comparison.intervals import improvement
    >>> improvement([3, 4], [5, float("nan")], more_is_better=False)[0]
    1.0
    """
    sign = 1.0 if more_is_better else -1.0
    ours, theirs = (
        np.nan_to_num(sign * np.asarray(v, "float64"), nan=-np.inf, neginf=-np.inf, posinf=np.inf)
        for v in (values, baseline)
    )
    return share(float(np.sum(ours > theirs) + 0.5 * np.sum(ours == theirs)), len(ours))


def p_value(differences: Numbers) -> float:
    """Of Student's test that paired differences have mean zero; NaN for fewer than five of them."""
    values = _numbers(differences)
    if len(values) < LEAST_RUNS:
        return np.nan
    spread = values.std(ddof=1)
    if spread <= 1e-12 * abs(values.mean()):  # all the same, but for rounding
        return 1.0 if values.mean() == 0 else 0.0
    return float(scipy.stats.ttest_1samp(values, 0.0).pvalue)


def sign_test(ratios: Numbers) -> float:
    """The p value of the sign test that ratios are as often below 1 as above; ratios of 1 do not count, infinite ones do.
    NaN for fewer than five ratios.

    Example:
    >>> from layerwise.comparison.intervals import sign_test
    >>> round(sign_test([2.0, 3.0, float("inf"), 1.0, 2.0, 4.0]), 4)
    0.0625
    """
    values = _numbers(ratios)
    if len(values) < LEAST_RUNS:
        return np.nan
    below, above = int((values < 1).sum()), int((values > 1).sum())
    return float(scipy.stats.binomtest(below, below + above).pvalue) if below + above else 1.0


def holm(p_values: Numbers) -> np.ndarray:
    """P values corrected for there being several (Holm 1979); missing ones stay missing and do not count.

    Example:
    >>> from layerwise.comparison.intervals import holm
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p_values, "float64")
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected = np.full(len(given), np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * given[order]))
    return corrected


def _numbers(values: Any) -> np.ndarray:
    numbers = np.asarray(values, "float64")
    return numbers[~np.isnan(numbers)]


def _between(left, right, weight):
    """A weighted mean, also where one end is infinite."""
    if left == right or weight == 0:
        return float(left)
    return float(right) if weight == 1 else float((1 - weight) * left + weight * right)
