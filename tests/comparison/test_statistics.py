import numpy as np
import pandas as pd
import pytest

from layerwise.comparison import statistics
from layerwise.comparison.intervals import holm, mean, median
from layerwise.comparison.statistics import horizon, paired, relative_costs, summarize, survival
from tests.comparison import problems


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
    runs, _ = problems.made_up(seeds=7)
    summary = summarize(runs, "simultaneous").set_index("schedule")
    for schedule in ("cyclic, 1 step", "greedy"):
        expected = by_hand(runs, schedule, "simultaneous", column)
        found = paired(runs, "simultaneous", column)
        own = found[found["schedule"] == schedule]
        differences = (own["value"] - own["reference"]).dropna()
        np.testing.assert_allclose(sorted(differences), sorted(expected))
        names = [f"{column}_difference{end}" for end in ("", "_low", "_high")]
        row = summary.loc[schedule]
        if row["n_finished"] < row["n_runs"]:  # what is left says nothing of all
            assert row[[*names, f"{column}_p"]].isna().all()
        else:
            np.testing.assert_allclose(row[names].astype("float64"), mean(expected))
    assert summary.loc["simultaneous"].filter(like="difference").isna().all()


def test_summary_counts_and_censors():
    runs, _ = problems.made_up(seeds=6)
    summary = summarize(runs, "simultaneous").set_index("schedule")
    assert summary["n_runs"].tolist() == [6, 6, 6]
    assert summary["n_finished"].tolist() == [6, 5, 5]
    for schedule, row in summary.iterrows():
        own = runs[(runs["schedule"] == schedule) & (runs["phase"] == "measure")]
        assert row["reach_rate"] == own["reached"].mean()
        took = own["epochs_to_target"].astype("float64").fillna(np.inf)
        assert row["epochs_to_target_median"] == np.median(took)
        end = horizon(runs, "epochs")
        assert row["epochs_to_target_restricted"] == np.minimum(took, end).mean()
        assert row["learning_rate"] == 0.1


def test_p_values_are_corrected_over_the_schedules_of_a_task():
    runs, _ = problems.made_up(seeds=8)
    other = runs.assign(dataset="other")
    summary = summarize(pd.concat([runs, other]), "simultaneous")
    for _, rows in summary.groupby("dataset"):
        alone = []
        for schedule in ("cyclic, 1 step", "greedy"):
            pair = runs if rows["dataset"].iloc[0] == "digits" else other
            pair = pair[pair["schedule"].isin(["simultaneous", schedule])]
            alone.append(summarize(pair, "simultaneous")["test_score_p"].iloc[1])
        np.testing.assert_allclose(rows["test_score_p"].iloc[1:], holm(alone))


def test_what_was_tuned_for_cost_has_rows_of_its_own_and_is_compared_with_its_like():
    rows = []
    for purpose, shift in (("score", 0.0), ("cost", 0.5)):
        for schedule, score in (("simultaneous", 1.0), ("greedy", 2.0)):
            rows += [
                problems.run_row(
                    schedule,
                    seed,
                    learning_rate=0.1 + shift,
                    tuned_for=purpose,
                    test_score=score + shift * (schedule == "greedy") + 0.01 * seed,
                )
                for seed in range(5)
            ]
    summary = summarize(problems.frames.run_frame(rows), "simultaneous")
    found = summary.set_index(["schedule", "tuned_for"])["test_score_difference"]
    assert found[("greedy", "score")] == pytest.approx(1.0)
    assert found[("greedy", "cost")] == pytest.approx(1.5)
    assert len(summary) == 4


def ratios(ours, theirs):
    """Return the frames of two schedules whose FLOPs to the target are given, `None` for a miss."""
    rows = []
    for schedule, costs in (("simultaneous", theirs), ("greedy", ours)):
        for seed, cost in enumerate(costs):
            reached = {} if cost is None else {"epochs_to_target": 1}
            spent = {"flops": 100.0, "epochs": 9, "updates": 90, "train_seconds": 1.0}
            rows.append(problems.run_row(schedule, seed, flops_to_target=cost, **reached, **spent))
    return problems.frames.run_frame(rows)


def test_relative_costs_are_paired_and_a_miss_is_infinite():
    runs = ratios([5, 30, None, 99, None], [10, 10, 10, None, None])
    cost = relative_costs(runs, "simultaneous").set_index(["schedule", "clock"])
    cost = cost.loc[("greedy", "flops")]
    # 0.5, 3, infinite, nothing, and a tie where both missed
    assert (cost["ratio"], cost["ratio_low"], cost["ratio_high"]) == (1.0, 0.0, np.inf)
    assert (cost["n_reached"], cost["n_runs"]) == (3, 5)
    assert horizon(runs, "flops") == 100
    restricted = (5 + 30 + 100 + 99 + 100) / (10 + 10 + 10 + 100 + 100)
    assert cost["restricted"] == pytest.approx(restricted)
    assert cost["restricted_low"] < restricted < cost["restricted_high"]


def test_p_values_of_what_was_tuned_for_cost_are_corrected_over_all_schedules():
    rng, rows = np.random.default_rng(0), []
    for schedule in ("simultaneous", "a", "b", "c"):
        for purpose in ("score", "cost") if schedule == "a" else ("score",):
            rows += [
                problems.run_row(schedule, k, tuned_for=purpose, test_score=0.1 * rng.normal())
                for k in range(6)
            ]
    runs = problems.frames.run_frame(rows)
    found = summarize(runs, "simultaneous").set_index(["schedule", "tuned_for"])["test_score_p"]
    assert len(found) == 5
    by_cost = runs[(runs["schedule"] != "a") | (runs["tuned_for"] == "cost")]
    alone = summarize(by_cost.assign(tuned_for="score"), "simultaneous").set_index("schedule")
    assert found[("a", "cost")] == alone["test_score_p"]["a"]


def test_the_summary_has_relative_costs_in_the_rows_of_what_was_tuned_for_cost():
    runs = ratios([5, 30, 20, 99, None], [10] * 5)
    dear = runs[runs["schedule"] == "greedy"].assign(learning_rate=0.2, tuned_for="cost")
    dear["flops_to_target"] = 2 * dear["flops_to_target"]
    runs = pd.concat([runs, dear])
    summary = summarize(runs, "simultaneous").set_index(["schedule", "tuned_for"])
    costs = relative_costs(runs, "simultaneous").set_index(["schedule", "clock"])
    assert costs.loc[("greedy", "flops"), "ratio"] == 6
    for column in statistics.RELATIVE:
        names = [f"{clock}_{column}" for clock in statistics.CLOCKS]
        assert summary.loc[("greedy", "score"), names].isna().all()
        for row in (("greedy", "cost"), ("simultaneous", "score")):
            expected = costs.loc[row[0], column].reindex(list(statistics.CLOCKS))
            np.testing.assert_allclose(
                summary.loc[row, names].astype("float64"), expected.astype("float64")
            )


def test_what_nobody_reached_has_no_ratio():
    costs = relative_costs(ratios([None] * 5, [None] * 5), "simultaneous")
    assert costs[list(statistics.RELATIVE)].isna().all().all()


def test_survival_falls_at_each_run_that_arrives_and_stays_where_some_never_do():
    runs = ratios([30, None, 5, 99, 30], [10] * 5)
    found = survival(runs, "flops")
    own = found[found["schedule"] == "greedy"]
    assert own["cost"].tolist() == [0, 5, 30, 30, 99]
    np.testing.assert_allclose(own["share"], [1, 0.8, 0.6, 0.4, 0.2])
    assert median(statistics.costs(runs[runs["schedule"] == "greedy"], "flops"))[0] == 30
