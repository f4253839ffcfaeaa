"""Verdicts over the tasks of a comparison, on frames whose outcome is known."""

import numpy as np
import pandas as pd
import pytest

from experiments.harness import verdict
from layerwise.comparison import Comparison, frames
from tests.comparison import problems

# What a run costs and scores by schedule and seed; the baseline costs 100 and scores 0.9.
OUTCOMES = {
    "simultaneous": lambda seed: (100, 0.9 + 0.001 * seed),
    "half the cost": lambda seed: (50, 0.95 + 0.001 * seed),
    "twice the cost": lambda seed: (200 + seed, 0.85 - 0.001 * seed),
    "now less, now more": lambda seed: ((50, 200)[seed % 2], 0.9 + 0.01 * (-1) ** seed),
    "misses most": lambda seed: (90 if seed == 0 else None, 0.9 + 0.001 * seed),
}


def comparison_of(outcomes, seeds=10):
    found = []
    for schedule, outcome in outcomes.items():
        for seed in range(seeds):
            cost, score = outcome(seed)
            reached = {"reached": cost is not None, "flops_to_target": cost}
            found.append(
                problems.run_row(schedule, seed, target=0.8, test_score=score, flops=400, **reached)
            )
    return Comparison.of(frames.run_frame(found), frames.curve_frame([]))


@pytest.fixture(scope="module")
def comparison():
    return comparison_of(OUTCOMES)


@pytest.fixture(scope="module")
def rows(comparison):
    return verdict.frame(comparison)


def test_what_is_cheaper_wherever_it_differs_is_cheaper_though_most_pairs_missed_both():
    found = comparison_of(
        {
            "simultaneous": lambda seed: (10.0 if seed % 10 > 3 else None, 0.8),
            "half the cost": lambda seed: (5.0 if seed % 10 > 3 else None, 0.8),
        },
        seeds=20,
    )
    most = comparison_of(
        {
            "simultaneous": lambda seed: (10.0 if seed > 10 else None, 0.8),
            "half the cost": lambda seed: (5.0 if seed > 10 else None, 0.8),
        },
        seeds=20,
    )
    for comparison, ratio in ((found, 0.5), (most, 1.0)):
        (row,) = verdict.frame(comparison).to_dict("records")
        assert (row["ratio"], row["cost"]) == (ratio, "cheaper")


def test_a_cost_counts_where_it_is_beyond_chance(rows):
    found = rows.set_index("schedule")
    assert found["cost"].to_dict() == {
        "half the cost": "cheaper",
        "twice the cost": "dearer",
        "now less, now more": "unclear",
        "misses most": "dearer",
    }
    assert found["ratio"].tolist() == [0.5, 2.045, 1.25, np.inf]
    assert found["n_reached"].tolist() == [10, 10, 10, 1]


def test_a_score_counts_where_it_is_beyond_chance(rows):
    assert rows.set_index("schedule")["score"].to_dict() == {
        "half the cost": "better",
        "twice the cost": "worse",
        "now less, now more": "unclear",
        "misses most": "unclear",
    }


def test_table_sentence_and_figure_say_what_the_frame_says(rows, comparison):
    lines = verdict.table(rows, comparison).splitlines()
    assert lines[2].startswith("| simultaneous | 10 of 10 | 1× |")  # noqa: RUF001
    assert lines[3] == "| half the cost | 10 of 10 | 0.5× | 1 | 0 | 0 | 1 | 0 | 0 |"  # noqa: RUF001
    assert verdict.by_network(rows) == [], "it is one network"
    two = pd.concat([rows, rows.assign(model="other", ratio=2 * rows["ratio"])])
    _, by_network = verdict.by_network(two)
    assert by_network.splitlines()[0] == "| schedule | mlp | other |"
    assert by_network.splitlines()[2] == "| half the cost | 0.5× | 1× |"  # noqa: RUF001
    text = verdict.sentence(rows, "Any of them")
    assert "clearly less in 1 and clearly more in 2 of 4" in text and "31 of 40 runs" in text
    axis = verdict.figure(rows).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(OUTCOMES)[1:]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    hollow = [line.get_markerfacecolor() == "none" for line in dots]
    assert hollow == [False, False, True, False]
    assert axis.get_xticklabels()[-1].get_text() == "missed"
