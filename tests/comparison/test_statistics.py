import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerwise.comparison import statistics
from layerwise.comparison.statistics import (
    estimate,
    interquartile_mean,
    paired,
    probability_of_improvement,
    relative_costs,
    summarize,
)
from tests.comparison import problems

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=1, max_size=30))
def test_interquartile_mean_drops_a_quarter_on_each_side(values):
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    assert interquartile_mean(values) == pytest.approx(sum(middle) / len(middle), abs=1e-6)


def test_interval_is_the_percentile_bootstrap_and_repeats():
    values = np.random.default_rng(3).normal(size=40)
    rng = np.random.default_rng(9)
    resampled = []
    for _ in range(20_000):
        drawn = np.sort(rng.choice(values, size=40))
        resampled.append(drawn[10:-10].mean())
    low, high = np.percentile(resampled, [2.5, 97.5])
    center, found_low, found_high = estimate(values)
    # The spread of an end of the interval over generators is below 0.01.
    np.testing.assert_allclose([found_low, found_high], [low, high], atol=0.03)
    assert estimate(values) == (center, found_low, found_high)


def test_interval_of_few_values():
    assert np.isnan(estimate([])).all()
    center, low, high = estimate([3.0])
    assert center == 3.0 and np.isnan([low, high]).all()


@given(
    st.lists(numbers | st.just(np.nan), min_size=1, max_size=8),
    st.lists(numbers | st.just(np.nan), min_size=1, max_size=8),
    st.booleans(),
)
def test_probability_of_improvement_counts_all_pairs(values, baseline, more_is_better):
    total = 0.0
    for ours in values:
        for theirs in baseline:
            if np.isnan(ours) or np.isnan(theirs):
                won, tied = np.isnan(theirs), np.isnan(ours) and np.isnan(theirs)
            else:
                won = ours > theirs if more_is_better else ours < theirs
                tied = ours == theirs
            total += 0.5 if tied else float(won)
    found = probability_of_improvement(values, baseline, more_is_better)
    assert found == pytest.approx(total / len(values) / len(baseline))


def by_hand(runs, schedule, baseline, column):
    """Return the paired differences of one schedule, by plain loops."""
    differences = []
    for _, ours in runs[(runs["schedule"] == schedule) & (runs["phase"] == "measure")].iterrows():
        for _, theirs in runs[runs["schedule"] == baseline].iterrows():
            same = theirs["phase"] == "measure" and theirs["seed"] == ours["seed"]
            if same and not pd.isna(ours[column]) and not pd.isna(theirs[column]):
                differences.append(float(ours[column]) - float(theirs[column]))
    return differences


@pytest.mark.parametrize("column", statistics.METRICS)
def test_differences_are_paired_by_seed(column):
    runs, _ = problems.made_up(seeds=6)
    summary = summarize(runs, "simultaneous").set_index("schedule")
    found = paired(runs, "simultaneous", column, operator.sub)
    for schedule in ("cyclic, 1 step", "greedy"):
        expected = by_hand(runs, schedule, "simultaneous", column)
        own = found[found["schedule"] == schedule]
        np.testing.assert_allclose(sorted(own["value"]), sorted(expected))
        row = summary.loc[schedule]
        names = [f"{column}_difference{end}" for end in ("", "_low", "_high")]
        np.testing.assert_allclose(row[names].astype("float64"), estimate(expected))
    assert summary.loc["simultaneous"].filter(like="difference").isna().all()


def test_summary_counts_and_censors():
    runs, _ = problems.made_up(seeds=6)
    summary = summarize(runs, "simultaneous").set_index("schedule")
    assert summary["n_runs"].tolist() == [6, 6, 6]
    assert summary["n_finished"].tolist() == [6, 5, 5]
    for schedule, row in summary.iterrows():
        own = runs[(runs["schedule"] == schedule) & (runs["phase"] == "measure")]
        assert row["reach_rate"] == own["reached"].mean() < 1 or schedule == "simultaneous"
        reached = own.loc[own["reached"], "epochs_to_target"].astype("float64")
        assert row["epochs_to_target_iqm"] == interquartile_mean(reached)
        assert row["learning_rate"] in (0.01, 0.1)  # 1.0 diverged in every tuning run


def test_tasks_are_compared_with_their_own_baseline():
    runs, _ = problems.made_up()
    other = runs.assign(dataset="other", test_accuracy=runs["test_accuracy"] / 2)
    both = summarize(pd.concat([runs, other]), "simultaneous").set_index(["dataset", "schedule"])
    alone = summarize(other, "simultaneous").set_index(["dataset", "schedule"])
    pd.testing.assert_series_equal(both.loc[("other", "greedy")], alone.loc[("other", "greedy")])


def test_relative_costs_are_paired_ratios():
    rows = [
        *(problems.run_row("simultaneous", seed, flops_to_target=10.0) for seed in (0, 1, 2)),
        problems.run_row("simultaneous", 3, flops_to_target=None),
        problems.run_row("greedy", 0, flops_to_target=5.0, epochs_to_target=1),
        problems.run_row("greedy", 1, flops_to_target=30.0, epochs_to_target=1),
        problems.run_row("greedy", 2, flops_to_target=None),
        problems.run_row("greedy", 3, flops_to_target=99.0, epochs_to_target=1),
    ]
    runs = problems.frames.run_frame(rows)
    costs = relative_costs(runs, "simultaneous").set_index(["schedule", "clock"])
    cost = costs.loc[("greedy", "flops")]
    assert cost["iqm"] == pytest.approx((0.5 + 3.0) / 2)
    assert (cost["n_reached"], cost["n_runs"]) == (3, 4)
    assert np.isnan(costs.loc[("greedy", "updates"), "iqm"])
