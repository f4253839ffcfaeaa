"""forgetting: every visit with the state kept and forgotten, and an answer that compares the two."""

from experiments import forgetting
from experiments.harness import verdict
from layerwise.comparison import Comparison, frames
from tests.comparison import problems


def test_every_visit_comes_with_the_state_kept_and_forgotten():
    made = {name: make() for name, make in forgetting.schedules(("10 steps", "1 epoch")).items()}
    assert next(iter(made)) == "simultaneous"
    assert {name: schedule.state for name, schedule in made.items() if name != "simultaneous"} == {
        "10 steps, kept": "keep",
        "10 steps, forgotten": "reset",
        "1 epoch, kept": "keep",
        "1 epoch, forgotten": "reset",
    }
    assert made["1 epoch, kept"].every == "epoch"


def test_forgetting_is_compared_with_keeping():
    costs = {"simultaneous": 100, "10 steps, kept": 200, "10 steps, forgotten": 600}
    rows = [
        problems.run_row(
            schedule,
            seed,
            target=0.8,
            test_score=0.9,
            reached=True,
            flops=1000,
            flops_to_target=cost,
        )
        for schedule, cost in costs.items()
        for seed in range(8)
    ]
    comparison = Comparison.of(frames.run_frame(rows), frames.curve_frame([]))
    said = forgetting.findings(comparison, verdict.frame(comparison))
    assert len(said) == 3
    assert said[0].startswith("Visits of 10 steps, the optimizer's state forgotten at each: 3×")  # noqa: RUF001
    assert "the same with the state kept" in said[0] and "clearly more in 1 of 1" in said[0]
    assert said[1].startswith("Taking turns, the state kept: 2×")  # noqa: RUF001
    assert said[2].startswith("Taking turns, the state forgotten: 6×")  # noqa: RUF001
