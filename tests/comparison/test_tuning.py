import keras
import numpy as np
import pytest

from layerwise.comparison import frames, settings
from layerwise.comparison.tuning import (
    at_the_edge,
    chosen,
    next_trials,
    of_purpose,
    targets_of,
    tuned,
)
from tests.comparison import problems


def tuning_runs(scores, **more):
    """Return tuning rows from `{rate: [(status, score, loss[, FLOPs to target]), ...]}`."""
    rows = []
    for rate, runs in scores.items():
        for place, (status, score, loss, *flops) in enumerate(runs):
            values = {"best_validation_score": score, "best_validation_loss": loss, **more}
            values |= {"status": status, "flops_to_target": flops[0] if flops else None}
            rows.append(problems.run_row("s", 1000 + place, "tune", rate, **values))
    return frames.run_frame(rows)


@pytest.mark.parametrize(
    "scores, expected",
    [
        (  # the best mean, not the best run
            {
                0.1: [("finished", 0.8, 1), ("finished", 0.8, 1)],
                0.3: [("finished", 0.95, 1), ("finished", 0.6, 1)],
            },
            0.1,
        ),
        (  # a run that diverged loses, however good it was before
            {
                0.1: [("finished", 0.3, 1), ("finished", 0.3, 1)],
                0.3: [("finished", 0.55, 1), ("diverged", 0.9, 1)],
            },
            0.1,
        ),
        ({0.1: [("finished", 0.8, 0.5)], 0.3: [("finished", 0.8, 0.4)]}, 0.3),
        ({0.3: [("finished", 0.8, 0.4)], 0.1: [("finished", 0.8, 0.4)]}, 0.1),
        ({0.1: [("failed", np.nan, np.nan)], 0.01: [("diverged", np.nan, np.nan)]}, 0.01),
    ],
)
def test_tuned_for_score(scores, expected):
    runs = tuning_runs(scores)
    measured = runs.assign(phase="measure", best_validation_score=1.0, learning_rate=7.0)
    both = frames.run_frame([*runs.to_dict("records"), *measured.to_dict("records")])
    assert tuned(both, "score") == {"learning_rate": expected}
    worse = tuning_runs(
        {
            rate: [(status, -score, *rest) for status, score, *rest in some]
            for rate, some in scores.items()
        },
        direction="min",
    )
    assert tuned(worse, "score") == {"learning_rate": expected}, "less is better"


@pytest.mark.parametrize(
    "flops, expected",
    [
        ({0.1: (5, 5, 5), 0.3: (1, 9, 9)}, 0.1),  # the median, not the mean
        ({0.1: (9, 9, 9), 0.3: (1, None, None)}, 0.1),  # a miss is infinite
        ({0.1: (9, 9, 9), 0.3: (1, 2, None)}, 0.3),  # and one of three does not matter
        ({0.1: (None,), 0.3: (None,)}, 0.3),  # no cost to compare: the score decides
    ],
)
def test_tuned_for_cost(flops, expected):
    scores = {0.1: 0.8, 0.3: 0.9}
    runs = tuning_runs(
        {rate: [("finished", scores[rate], 1, one) for one in some] for rate, some in flops.items()}
    )
    assert tuned(runs, "cost") == {"learning_rate": expected}
    picked = chosen(runs, (0.7,))
    assert set(picked) == ({"score"} if expected == 0.3 else {"score", "cost"})


def test_targets_lie_two_standard_errors_or_a_hundredth_below_the_median_best():
    good = [("finished", score, 1) for score in (0.9, 0.7, 0.95)]
    scores = {0.1: good, 0.3: [("finished", 0.5, 1)] * 3}
    error = "best_validation_score_error"
    for given, expected in ((0.02, 0.9 - 0.04), (0.001, 0.9 - 0.009), (np.nan, 0.9 - 0.009)):
        assert targets_of(tuning_runs(scores, **{error: given})) == (pytest.approx(expected),)
    errors = {0.1: [("finished", 2.0, 1)], 0.3: [("finished", 3.0, 1)]}
    found = targets_of(tuning_runs(errors, direction="min", **{error: 0.2}))
    assert found == (pytest.approx(2.4),)


def test_each_validation_part_has_a_target_of_its_own():
    # Seeds 1000, 1001, ... have the parts 1, 2, 0, 1, 2 of three.
    scores = {0.1: [("finished", score, 1) for score in (0.9, 0.8, 0.7, 0.92, 0.82)]}
    runs = tuning_runs(scores, best_validation_score_error=0.01)
    assert targets_of(runs, 3) == pytest.approx((0.7 - 0.02, 0.91 - 0.02, 0.81 - 0.02))
    # Nobody had part 0: it goes by all runs there are.
    assert targets_of(runs[:2], 3) == pytest.approx((0.85 - 0.02, 0.9 - 0.02, 0.8 - 0.02))
    curve = frames.curve_frame([{"epoch": 1, "flops": 9, "split": "validation", "score": 0.75}])
    row = {"direction": "max", "status": "finished"}
    for seed, target in ((0, 0.68), (1, 0.89), (2, 0.79), (3, 0.68), (1000, 0.89)):
        found = frames.with_target(row | {"seed": seed}, curve, (0.68, 0.89, 0.79))
        assert (found["target"], found["reached"]) == (target, target <= 0.75)


def test_no_target_where_nothing_finished():
    assert targets_of(tuning_runs({0.1: [("diverged", 0.9, 1)]})) is None


def test_a_run_that_failed_before_it_had_a_metric_does_not_say_which_way_is_better():
    good = [("finished", 0.5, 1)], [("finished", 0.9, 1)]
    runs = tuning_runs(dict(zip((0.1, 0.3), good, strict=True)), direction="min")
    failed = problems.run_row("s", 1000, "tune", 1.0, status="failed", metric="", direction="max")
    runs = frames.run_frame([failed, *runs.to_dict("records")])
    assert tuned(runs, "score") == {"learning_rate": 0.1}


def test_edge_of_what_was_tried():
    rates = {0.1: 0.8, 0.3: 0.9, 1.0: 0.7}
    scores = {rate: [("finished", score, 1)] for rate, score in rates.items()}
    assert not at_the_edge(tuning_runs(scores))
    edge = at_the_edge(tuning_runs({rate: scores[rate] for rate in (0.1, 0.3)}))
    assert edge == {"score: learning_rate": 0.3}
    assert not at_the_edge(tuning_runs({0.1: scores[0.1]}))


def play(grid, cell, score_of, cost_of=lambda rate: None, target=None):
    """Carry out the tuning of a cell with made-up outcomes; return the rates in the order tried."""
    rows, order = [], []
    while trials := next_trials(grid, cell, frames.run_frame(rows), target):
        for setting, seed in trials:
            rate = setting["learning_rate"]
            values = {"best_validation_score": score_of(rate), "best_validation_loss": 1.0}
            values["flops_to_target"] = cost_of(rate)
            rows.append(problems.run_row("s", seed, "tune", rate, **values))
            order.append(rate)
    return order


def test_the_grid_grows_until_the_best_lies_inside_at_most_three_times_a_side():
    grid, cell = problems.grid(learning_rates={"optimizer": (0.1, 0.2)}), problems.cell("greedy")
    assert play(grid, cell, lambda rate: -abs(rate - 0.4)) == [0.1, 0.2, 0.4, 0.8]
    assert play(grid, cell, lambda rate: rate) == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert play(grid, cell, lambda rate: -rate) == [0.1, 0.2, 0.05, 0.025, 0.0125]
    both = play(grid, cell, lambda rate: rate, lambda rate: round(10000 * rate), target=(0.5,))
    assert sorted(both) == [0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6]


def test_the_grid_does_not_grow_where_an_optimizer_takes_no_more():
    grid = problems.grid(
        optimizer=keras.optimizers.SGD,
        learning_rates={"optimizer": (0.1,)},
        search={"optimizer.momentum": (0.5, 0.9)},
    )
    cell, rows = problems.cell("greedy"), []
    for setting, seed in grid.trials(cell):
        score = setting["optimizer.momentum"]
        row = problems.run_row("s", seed, "tune", 0.1, best_validation_score=score)
        rows.append(row | {"best_validation_loss": 1.0} | settings.columns_of(setting))
    assert not next_trials(grid, cell, frames.run_frame(rows), None), "1.62 is no momentum"


def test_every_schedule_has_as_many_trials_whatever_it_has_to_tune():
    grid = problems.grid(
        search={"schedule.every": (1, 10, "epoch")}, learning_rates={"optimizer": (0.001, 0.1)}
    )
    trials = {name: grid.trials(problems.cell(name)) for name in problems.SCHEDULES}
    assert {name: len(found) for name, found in trials.items()} == dict.fromkeys(trials, 6)
    rates = [setting["learning_rate"] for setting, _ in trials["greedy"]]
    np.testing.assert_allclose(rates, np.geomspace(0.001, 0.1, 6), rtol=0.01)
    made = grid.schedule(problems.cell("shuffled, 1 step"), {"schedule.every": 10})
    assert made.every == 10 and made.order == "shuffled"
    grid.check()


def test_schedules_with_arguments_of_their_own_have_as_many_trials():
    search = {"schedule.every": (1, 10, 50), "schedule.finetune_epochs": (0, 1)}
    grid = problems.grid(search=search, learning_rates={"optimizer": (1, 2, 3)})
    cells = [problems.cell(name) for name in problems.SCHEDULES]
    assert [len(grid.trials(cell)) for cell in cells] == [12, 12, 12]
    assert [len(grid.values(cell)["learning_rate"]) for cell in cells] == [12, 4, 6]
    assert all(isinstance(rate, float) for rate in grid.values(cells[0])["learning_rate"])


def test_whole_numbers_stay_whole_and_end_at_one():
    base = {"learning_rate": (0.1,), "schedule.every": (1, 10)}
    tried = settings.product(base)
    (more,) = settings.extensions(base, tried, [tried[1]])
    assert more == {"learning_rate": 0.1, "schedule.every": 100}
    assert not settings.extensions(base, tried, [tried[0]])

    assert settings.reachable(base, "schedule.every") == {"1", "10", "100", "1000", "10000"}


def test_the_best_of_several_arguments_is_compared_with_all_its_neighbours():
    base = {"learning_rate": (0.01, 0.1), "model.strength": (1.0, 2.0, 4.0)}
    tried = settings.product(base | {"learning_rate": (0.01, 0.1, 1.0)})
    tried += [{"learning_rate": 10.0, "model.strength": 2.0}]
    # One step beyond the edge, though several settings share a value there, and to either side of the strength.
    assert settings.extensions(base, tried, tried[-1:]) == [
        {"learning_rate": 100.0, "model.strength": 2.0},
        {"learning_rate": 10.0, "model.strength": 1.0},
        {"learning_rate": 10.0, "model.strength": 4.0},
    ]
    inside = {"learning_rate": 0.1, "model.strength": 2.0}
    assert not settings.extensions(base, tried, [inside])


def test_a_value_is_at_an_edge_of_what_it_was_compared_with():
    """A rate of 1 was tried with another strength alone: beside the best one, a rate of 0.1 is the largest."""
    rows = []
    for rate, strength, score in (
        (0.01, 2.0, 0.8), (0.1, 2.0, 0.9), (0.01, 1.0, 0.7), (1.0, 1.0, 0.7), (0.1, 4.0, 0.8), (0.1, 1.0, 0.8),
    ):  # fmt: skip
        values = {"best_validation_score": score, "best_validation_loss": 1.0}
        row = problems.run_row("s", 1000, "tune", rate, **values, flops_to_target=None)
        rows.append(row | {"model.strength": str(strength), "run_id": f"{rate}, {strength}"})
    assert at_the_edge(frames.run_frame(rows)) == {"score: learning_rate": 0.1}


def test_one_setting_may_serve_both_purposes():
    rows = [problems.run_row("s", seed, tuned_for="score") for seed in (0, 1)]
    runs = frames.run_frame(rows)
    assert len(of_purpose(runs, "cost")) == 2
    runs = frames.run_frame([*rows, problems.run_row("s", 0, learning_rate=1, tuned_for="cost")])
    assert of_purpose(runs, "cost")["learning_rate"].tolist() == [1]
