"""Verdicts over the tasks of a comparison, on frames whose outcome is known."""

import numpy as np
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


@pytest.fixture(scope="module")
def rows():
    found = []
    for schedule, outcome in OUTCOMES.items():
        for seed in range(10):
            cost, score = outcome(seed)
            reached = {"reached": cost is not None, "flops_to_target": cost}
            found.append(
                problems.run_row(schedule, seed, target=0.8, test_score=score, flops=400, **reached)
            )
    return verdict.frame(Comparison.of(frames.run_frame(found), frames.curve_frame([])))


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


def test_table_sentence_and_figure_say_what_the_frame_says(rows):
    lines = verdict.table(rows).splitlines()
    assert lines[2] == "| half the cost | 10 of 10 | 0.5× | 1 | 0 | 0 | 1 | 0 | 0 |"  # noqa: RUF001
    text = verdict.sentence(rows, "Any of them")
    assert "beyond chance cheaper in 1 and dearer in 2 of 4" in text and "31 of 40 runs" in text
    axis = verdict.figure(rows).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(OUTCOMES)[1:]
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    hollow = [line.get_markerfacecolor() == "none" for line in dots]
    assert hollow == [False, False, True, False]
    assert axis.get_xticklabels()[-1].get_text() == "missed"
