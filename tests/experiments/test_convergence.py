import subprocess
import sys
from pathlib import Path

import keras
import pandas as pd
import pytest

import layerwise
from experiments import convergence


def test_full_is_what_the_question_asks_for():
    definition = convergence.define("full", (8, 8, 1), 10)
    schedules = {name: make() for name, make in definition["schedules"].items()}
    assert next(iter(schedules)) == "simultaneous"
    block = [s for s in schedules.values() if isinstance(s, layerwise.BlockCoordinate)]
    found = {(s.order, "sweep" if s.sweep_each_batch else s.every) for s in block}
    orders = ("cyclic", "reverse", "shuffled", "random")
    assert found == {(order, visit) for order in orders for visit in (1, 10, "epoch", "sweep")}
    greedy = [s for s in schedules.values() if isinstance(s, layerwise.GreedyLayerwise)]
    assert sorted(s.finetune_epochs > 0 for s in greedy) == [False, True]
    made = {name: make(0.1) for name, make in definition["optimizers"].items()}
    assert isinstance(made["SGD"], keras.optimizers.SGD) and made["SGD"].momentum == 0.9
    assert isinstance(made["Adam"], keras.optimizers.Adam)
    assert (
        definition["seeds"] == 20
        and definition["tuning_seeds"] == 5
        and set(definition["models"]) == {"mlp", "convnet"}
    )
    convnet = definition["models"]["convnet"]()
    assert any(isinstance(layer, keras.layers.BatchNormalization) for layer in convnet.layers)
    for model in definition["models"].values():
        assert len(layerwise.partition(model())) == 4


def test_quick_is_a_part_of_full():
    quick, full = (convergence.define(scale, (8, 8, 1), 10) for scale in ("quick", "full"))
    assert set(quick["schedules"]) < set(full["schedules"])
    assert list(quick["models"]) == ["mlp"]
    for optimizer, rates in quick["learning_rates"].items():
        assert set(rates) <= set(full["learning_rates"][optimizer])


def test_feature_rows_have_no_convnet():
    assert list(convergence.define("full", (7,), 2)["models"]) == ["mlp"]


@pytest.mark.slow
def test_the_main_job_from_the_command_line(tmp_path):
    arguments = [
        "--only",
        "greedy",
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
    assert len(trials) == 4 and trials.between(4, 4 + 12).all(), "the grid, and what it grew by"
    measured = runs[runs["phase"] == "measure"].groupby(["schedule", "optimizer", "tuned_for"])
    assert measured.size().eq(1).all()
    assert len(list((tmp_path / "convergence").glob("*.png"))) == 12
    assert "| greedy |" in done.stdout
    assert (tmp_path / "convergence" / "answer.md").read_text().strip() in done.stdout
