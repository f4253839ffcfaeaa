"""Intervals cover what they claim: by simulation."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from layerwise.comparison import intervals

RUNS = 4000  # the standard error of a coverage of 0.95 is 0.0034


def coverage(estimate, draw, truth, n):
    """Return the share of intervals of n drawn values that hold the truth."""
    rng = np.random.default_rng(n)
    found = (estimate(draw(rng, n)) for _ in range(RUNS))
    return np.mean([low <= truth <= high for _, low, high in found])


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize(
    "estimate, draw, truth",
    [
        # paired differences of scores and losses
        (intervals.mean, lambda rng, n: rng.normal(1, 2, n) - rng.normal(0, 1, n), 1.0),
        # paired ratios of costs
        (
            intervals.median,
            lambda rng, n: rng.lognormal(0.3, 0.6, n) / rng.lognormal(0, 0.4, n),
            np.exp(0.3),
        ),
        # costs, a quarter of them infinite: a miss
        (
            intervals.median,
            lambda rng, n: np.where(rng.random(n) < 0.25, np.inf, rng.uniform(0, 0.75, n)),
            0.5,
        ),
    ],
    ids=["differences", "ratios", "costs with misses"],
)
def test_coverage_is_what_is_claimed(estimate, draw, truth, n):
    # At n = 5 the widest interval of a median covers 0.9375. Four standard errors are what the simulation may be off by.
    exact = 1 - 2 * 0.5**5 if estimate is intervals.median and n == 5 else 0.95
    assert 0.93 <= exact <= 0.97
    assert abs(coverage(estimate, draw, truth, n) - exact) < 4 * np.sqrt(0.05 * 0.95 / RUNS)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 10, 20])
def test_ratios_of_restricted_means_are_covered_as_claimed(n):
    def draw(rng, n):
        seed = rng.normal(0, 0.3, n)  # what a seed does to both of a pair
        ours, theirs = (
            np.exp(shift + seed + rng.normal(0, 0.4, n)).clip(max=2.5) for shift in (0.3, 0.0)
        )
        return ours, theirs

    ours, theirs = draw(np.random.default_rng(0), 2_000_000)
    found = coverage(
        lambda pair: intervals.ratio_of_means(*pair), draw, ours.mean() / theirs.mean(), n
    )
    assert 0.93 <= found <= 0.97


@pytest.mark.parametrize("n", [5, 10, 20])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_shares_are_covered_at_least_as_often_as_claimed(n, share):
    covered = 0.0
    for wins in range(n + 1):
        _, low, high = intervals.share(wins, n)
        expected = scipy.stats.binomtest(wins, n).proportion_ci(method="exact")
        np.testing.assert_allclose([low, high], [expected.low, expected.high], atol=1e-9)
        covered += scipy.stats.binom.pmf(wins, n, share) * (low <= share <= high)
    assert covered >= 0.95


@pytest.mark.parametrize("n", [0, 1, 4])
def test_no_interval_below_five(n):
    for estimate in (intervals.mean, intervals.median):
        center, low, high = estimate(np.arange(float(n)))
        assert np.isnan([low, high]).all() and np.isnan(center) == (n == 0)
    assert np.isnan(intervals.share(0, n)[1:]).all()
    assert np.isnan(intervals.p_value(np.arange(float(n))))


numbers = st.floats(-1e6, 1e6) | st.just(np.nan)


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8), st.booleans())
def test_improvement_counts_pairs(pairs, more_is_better):
    total = 0.0
    for ours, theirs in pairs:
        if np.isnan(ours) or np.isnan(theirs):
            won, tied = np.isnan(theirs), np.isnan(ours) and np.isnan(theirs)
        else:
            won = ours > theirs if more_is_better else ours < theirs
            tied = ours == theirs
        total += 0.5 if tied else float(won)
    ours, theirs = zip(*pairs, strict=True)
    found, low, high = intervals.improvement(ours, theirs, more_is_better)
    assert found == pytest.approx(total / len(pairs))
    assert len(pairs) < 5 or low <= found <= high


def test_holm_is_the_step_down_procedure_and_leaves_what_is_missing():
    rng = np.random.default_rng(0)
    values = rng.random(7)
    expected = np.empty(7)
    worst = 0.0
    for place, index in enumerate(np.argsort(values)):
        worst = max(worst, min(1.0, (7 - place) * values[index]))
        expected[index] = worst
    found = intervals.holm([*values[:3], np.nan, *values[3:]])
    np.testing.assert_allclose(np.delete(found, 3), expected)
    assert np.isnan(found[3])


def test_false_alarms_over_a_family_are_as_rare_as_claimed():
    rng = np.random.default_rng(1)
    # Of 600 families 0.05 are alarms, give or take 0.009.
    families = rng.normal(size=(600, 4, 10))
    alarms = [min(intervals.holm([intervals.p_value(d) for d in one])) < 0.05 for one in families]
    assert 0.02 < np.mean(alarms) < 0.08
