import pandas as pd

from layerwise.comparison import frames
from layerwise.comparison.audit import audit
from tests.comparison import problems


def cell(best=0.1, fastest=0.1, measured=(0.1,), seeds=5):
    """Return the runs of one cell whose best and fastest of three rates are given."""
    rows = [
        problems.run_row(
            "s",
            1000,
            "tune",
            rate,
            best_validation_score=0.9 if rate == best else 0.5,
            best_validation_loss=1.0,
            flops_to_target=1 if rate == fastest else 2,
        )
        for rate in (0.01, 0.1, 1.0)
    ]
    rows += [
        problems.run_row("s", k, learning_rate=rate) for rate in measured for k in range(seeds)
    ]
    return frames.run_frame(rows)


def test_a_clean_cell_has_no_findings():
    assert audit(cell()) == []


def test_edges_are_named_with_what_they_were_tuned_for():
    name = "digits, mlp, Adam, s"
    best = f"{name}: tuned for score to learning_rate 1, an edge of what was tried"
    assert audit(cell(best=1.0, measured=(0.1, 1.0))) == [best]
    fast = f"{name}: tuned for cost to learning_rate 0.01, an edge of what was tried"
    assert audit(cell(fastest=0.01, measured=(0.1, 0.01))) == [fast]


def test_one_learning_rate_is_named():
    runs = cell()
    runs = runs[(runs["phase"] == "measure") | (runs["learning_rate"] == 0.1)]
    assert audit(runs) == ["digits, mlp, Adam, s: learning_rate 0.1 was the only one tried"]


def test_one_learning_rate_that_finished_is_not_the_only_one_that_was_tried():
    runs = cell()
    others = (runs["phase"] == "tune") & (runs["learning_rate"] != 0.1)
    runs.loc[others, "status"] = ["diverged", "failed"] * (others.sum() // 2)
    assert "learning_rate 0.1 was the only one of 3 tried that finished" in audit(runs)[0]


def test_a_fastest_setting_that_was_not_measured_is_named():
    found = audit(cell(fastest=0.01))
    assert (
        "digits, mlp, Adam, s: the fastest in tuning, learning rate 0.01, was not measured" in found
    )


def test_intervals_on_few_runs_are_named():
    (found,) = audit(cell(seeds=4))
    assert found.endswith("4 measured runs finished with learning rate 0.1, intervals need 5")
    diverged = cell()
    diverged.loc[diverged.index[-1], "status"] = "diverged"
    assert audit(diverged) == [found]


def test_what_was_not_measured_and_what_never_finished_is_named():
    assert audit(cell(measured=())) == ["digits, mlp, Adam, s: nothing was measured"]
    failed = cell()
    failed["status"] = failed["status"].where(failed["phase"] == "measure", "failed")
    assert audit(failed)[0] == "digits, mlp, Adam, s: no tuning run finished"


def test_schedules_that_spent_more_than_others_under_equal_flops_are_named():
    def both(flops, budget="flops"):
        return pd.concat(
            cell().assign(schedule=name, flops=spent, budget=budget)
            for name, spent in (("s", 100), ("t", flops))
        )

    assert audit(both(109)) == audit(both(120, "epochs")) == []
    (found,) = audit(both(120))
    assert found == "digits, mlp, Adam: t spent 1.20 times the FLOPs of s, equal FLOPs allow 1.1"
