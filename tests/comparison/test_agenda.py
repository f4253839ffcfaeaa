"""Who is given which run: no training."""

import pandas as pd

from layerwise.comparison import frames
from layerwise.comparison.agenda import Agenda
from layerwise.comparison.budget import Plan
from tests.comparison import problems

ENVIRONMENT = {"backend": "any", "device": "cpu"}


def entry(run):
    """Return what is left of a run that finished: every rate is as good as any."""
    row = problems.run_row(
        run.cell.schedule,
        run.seed,
        run.phase,
        run.setting["learning_rate"],
        dataset="vectors",
        model="net",
        optimizer="optimizer",
    )
    row |= {"best_validation_score": 0.5, "best_validation_loss": 1.0, "examples": 100}
    row |= {"epochs": 2, "planned_flops": 7, "planned_seconds": 1.5}
    curve = {"epoch": [1], "flops": [1000], "split": ["validation"], "score": [0.5]}
    return row, frames.curve_frame(pd.DataFrame(curve))


def agenda(**arguments):
    return Agenda(problems.grid(learning_rates={"optimizer": (0.1,)}, **arguments), [], ENVIRONMENT)


def told(run):
    return run.cell.schedule, run.phase, run.seed


def test_one_worker_gets_one_cell_after_the_other():
    all_runs, order = agenda(), []
    while run := all_runs.take(0):
        order.append(told(run))
        is_over = all_runs.add(run, entry(run))
        assert is_over == (told(run)[1:] == ("measure", 1))
    one_cell = [("tune", 1000), ("measure", 0), ("measure", 1)]
    assert order == [(schedule, *run) for schedule in problems.SCHEDULES for run in one_cell]


def test_nobody_is_measured_or_compared_before_the_baseline_is_tuned():
    runs = agenda(tuning_seeds=2)
    first, second = runs.take(0), runs.take(1)
    assert [told(run) for run in (first, second)] == [
        ("simultaneous", "tune", 1000),
        ("simultaneous", "tune", 1001),
    ]
    assert runs.take(2) is None
    runs.add(first, entry(first))
    assert runs.take(0) is None
    runs.add(second, entry(second))
    assert told(runs.take(0)) == ("simultaneous", "measure", 0)
    assert told(runs.take(2)) == ("shuffled, 1 step", "tune", 1000), "who is new goes elsewhere"
    assert told(runs.take(1)) == ("simultaneous", "measure", 1), "who has the programs stays"


def test_a_run_whose_worker_was_lost_is_handed_out_again():
    runs = agenda()
    run = runs.take(0)
    assert runs.take(1) is None
    runs.put_back(run)
    assert runs.take(1) == run


def test_every_run_is_handed_out_once_to_several_workers():
    runs, under_way, seen = agenda(tuning_seeds=3, seeds=4), {}, []
    for worker in [0, 1, 2] * 30:
        if worker in under_way:
            run = under_way.pop(worker)
            runs.add(run, entry(run))
        if run := runs.take(worker):
            under_way[worker] = run
            seen.append(run.run_id)
    assert not under_way
    assert len(seen) == len(set(seen)) == 3 * (3 + 4)


def test_where_seconds_are_the_budget_the_first_plan_of_a_setting_holds():
    runs = agenda(budget="seconds", tuning_seeds=2)
    first = runs.take(0)
    assert first.plan is None
    assert runs.take(1) is None
    runs.add(first, entry(first))
    assert runs.take(1).plan == Plan(epochs=2, steps=100 // 16, flops=7, seconds=1.5)
