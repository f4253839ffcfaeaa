import collections
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import layerwise
from experiments import convergence, forgetting, orders
from layerwise.comparison import Comparison, timings
from tests.comparison import problems


def test_full_is_what_the_question_asks_for():
    definition = convergence.define("full", (8, 8, 1), 10)
    assert next(iter(definition["schedules"])) == "simultaneous"
    found = {type(make()) for make in definition["schedules"].values()}
    assert found == {
        layerwise.Simultaneous,
        layerwise.BlockCoordinate,
        layerwise.GreedyLayerwise,
    }
    every = convergence.define("full", (8, 8, 1), 10, optimizers=convergence.OPTIMIZERS)
    assert set(definition["optimizers"]) < set(every["optimizers"]) == set(every["learning_rates"])
    for name, make in every["optimizers"].items():
        given = (0.1, 5) if "cosine" in name else (0.1,)
        made = make(*given)
        assert name.startswith(type(made).__name__)
        falls = isinstance(
            made.get_config()["learning_rate"], dict
        )  # the config of a learning-rate schedule
        assert falls == ("cosine" in name)
    assert definition["seeds"] == 20 and definition["tuning_seeds"] == 6
    for model in definition["models"].values():
        assert len(layerwise.partition(model())) == 4


def test_orders_has_every_order_with_every_length_of_a_visit():
    definition = orders.define("full", (8, 8, 1), 10)
    made = [make() for make in definition["schedules"].values()]
    assert isinstance(made[0], layerwise.Simultaneous)
    found = [(s.order, "sweep" if s.sweep_each_batch else s.every) for s in made[1:]]
    names = ("cyclic", "reverse", "shuffled", "random")
    assert sorted(found, key=str) == sorted(
        ((order, visit) for order in names for visit in (1, 10, "epoch", "sweep")), key=str
    )


@pytest.mark.parametrize("module", [convergence, orders, forgetting])
def test_quick_is_a_part_of_full(module):
    quick, full = (module.define(scale, (8, 8, 1), 10) for scale in ("quick", "full"))
    assert set(quick["schedules"]) < set(full["schedules"])
    assert list(quick["models"]) == ["mlp"]
    for optimizer, rates in quick["learning_rates"].items():
        assert set(rates) <= set(full["learning_rates"][optimizer])


def test_in_a_word_says_whether_one_block_at_a_time_pays():
    costs = pd.DataFrame({"cost": ["dearer", "unclear", "dearer"]})
    assert "it took clearly more in 2 of 3 cases" in convergence.in_a_word(costs)
    unclear = pd.DataFrame({"cost": ["unclear"] * 2})
    assert "cannot be told from 2 cases" in convergence.in_a_word(unclear)
    costs.loc[1, "cost"] = "cheaper"
    assert (
        "clearly less arithmetic than to move all layers at once in 1 of 3"
        in convergence.in_a_word(costs)
    )


def test_by_the_clock_is_of_timing_runs_alone():
    runs, curves = problems.made_up(("simultaneous", "cyclic, 1 step"), seeds=5)
    untimed = Comparison.of(runs, curves)
    assert convergence.by_the_clock(untimed) == ""
    measured = runs[(runs["phase"] == "measure") & (runs["seed"] == 0)]
    seconds = {"simultaneous": 1.0, "cyclic, 1 step": 0.75}
    found = timings.frame(
        {"run_id": run["run_id"], "repetition": repetition, "epoch": epoch, "update": 10 * epoch}
        | {"train_seconds": epoch * seconds[run["schedule"]]}
        for run in measured.to_dict("records")
        for repetition in range(3)
        for epoch in range(1, int(run["epochs"]) + 1)
    )
    said = convergence.by_the_clock(Comparison.of(runs, curves, timed=found))
    assert "Medians of 3 or more runs" in said
    assert "A single Update: taking turns, one block at a time 0.75×." in said  # noqa: RUF001


def test_feature_rows_have_no_models_of_images():
    assert list(convergence.define("full", (7,), 2)["models"]) == ["mlp", "normalized mlp"]


@pytest.mark.slow
def test_the_main_job_from_the_command_line(tmp_path):
    arguments = [
        "--only",
        "greedy",
        "--optimizers",
        "Adam",
        "--seeds",
        "1",
        "--tuning-seeds",
        "1",
        "--epochs",
        "4",
        "--budget",
        "epochs",
        "--subset",
        "300",
    ]
    command = [sys.executable, "-m", "experiments.convergence", *arguments]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, "--results", str(tmp_path)], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    runs = pd.read_csv(tmp_path / "convergence" / "runs.csv")
    trials = runs[runs["phase"] == "tune"].groupby(["schedule", "optimizer"]).size()
    assert len(trials) == 2 and trials.between(4, 4 + 12).all(), "the grid, and what it grew by"
    measured = runs[runs["phase"] == "measure"].groupby(["schedule", "optimizer", "tuned_for"])
    assert measured.size().eq(1).all()
    figures = (path.name for path in (tmp_path / "convergence").glob("*.png"))
    kinds = collections.Counter(name.partition("-digits")[0] for name in figures)
    assert kinds.pop("verdict.png") == 1
    assert kinds.pop("survival", 0) <= 1  # where some run reached the target
    assert len(kinds) == 6 and set(kinds.values()) == {1}
    assert "| greedy |" in done.stdout
    answer = (tmp_path / "convergence" / "answer.md").read_text()
    assert "| greedy |" in answer and "experiments.convergence --only greedy" in answer
