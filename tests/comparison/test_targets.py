"""Which tuning runs come next depends on which there are, not on when they came."""

import itertools
import random

import pandas as pd
import pytest

from layerwise.comparison import frames, settings
from layerwise.comparison.targets import rounds, settled
from tests.comparison import problems

GRID = {"learning_rates": {"optimizer": (0.1, 0.2)}, "tuning_seeds": 2}


def entry(rate, seed, score):
    """Return a tuning run of the baseline, without target, and its curve of one epoch."""
    row = problems.run_row(
        "simultaneous", seed, "tune", rate, dataset="vectors", model="net", optimizer="optimizer"
    )
    row |= {"best_validation_score": score, "best_validation_loss": 1.0}
    curve = {"epoch": [1], "flops": [1000], "split": ["validation"], "score": [score]}
    return row, frames.curve_frame(pd.DataFrame(curve))


def rates_left(grid, entries, target=None):
    _, left = rounds(grid, problems.cell("simultaneous"), entries, target)
    return [(setting["learning_rate"], seed) for setting, seed in left]


def test_a_round_that_was_interrupted_ends_as_it_began():
    grid = problems.grid(**GRID)
    first = [entry(rate, seed, rate) for rate in (0.1, 0.2) for seed in (1000, 1001)]
    assert rates_left(grid, first) == [(0.4, 1000), (0.4, 1001)]
    # This one alone says that a still larger rate should be tried; its round is not over.
    assert rates_left(grid, [*first, entry(0.4, 1000, 0.9)]) == [(0.4, 1001)]


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(5))
def test_all_orders_lead_to_the_same_runs(seed):
    grid, chance = problems.grid(**GRID), random.Random(seed)

    def score(rate, seed):
        return 0.9 - abs(rate - 0.35) + (0.3 if (rate, seed) == (0.4, 1000) else 0.0)

    entries, in_rounds = [], []
    while left := rates_left(grid, entries):
        rate, run_seed = chance.choice(left)
        entries.append(entry(rate, run_seed, score(rate, run_seed)))
    while left := rates_left(grid, in_rounds):
        in_rounds += [entry(*trial, score(*trial)) for trial in left]
    found, expected = (
        sorted((settings.setting_of(row)["learning_rate"], row["seed"]) for row, _ in some)
        for some in (entries, in_rounds)
    )
    assert found == expected
    assert set(itertools.product((0.1, 0.2, 0.4), (1000, 1001))) <= set(found)


def test_a_target_is_settled_when_the_tuning_of_the_baseline_is_over():
    grid, entries = problems.grid(**GRID), []
    baseline = problems.cell("simultaneous")
    while left := rates_left(grid, entries):
        assert settled(grid, baseline, entries) is None
        entries += [entry(*trial, 0.9 - trial[0]) for trial in left]
    best = max(row["best_validation_score"] for row, _ in entries)
    # Of three validation parts two were met; the other one goes by both.
    assert settled(grid, baseline, entries) == (pytest.approx(0.99 * best),) * 3
    assert settled(problems.grid(**GRID, target=0.5), baseline, []) == (0.5,)


def test_runs_that_no_round_asks_for_do_not_count():
    grid, baseline = problems.grid(**GRID), problems.cell("simultaneous")
    entries = [entry(rate, seed, 0.9 - rate) for rate in (0.1, 0.2) for seed in (1000, 1001)]
    while left := rates_left(grid, entries):
        entries += [entry(*trial, 0.9 - trial[0]) for trial in left]
    known, _ = rounds(grid, baseline, entries, None)
    assert len(known) == len(entries)
    astray = entry(0.8, 1000, 0.99)  # of an earlier grid, with a seed alone
    assert rounds(grid, baseline, [*entries, astray], None) == (known, [])
    assert settled(grid, baseline, [*entries, astray]) == settled(grid, baseline, entries)
