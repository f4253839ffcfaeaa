"""Tuning by Optuna: as many settings for each schedule, a function of those before, half for score and half for cost."""

import sys

import numpy as np
import pandas as pd
import pytest

import layerwise
from layerwise.comparison import frames, settings, tpe
from layerwise.comparison.tuning import next_trials
from tests.comparison import problems

optuna = pytest.importorskip("optuna")

RATES = {"optimizer": (1e-4, 1.0)}


def play(cell, grid, score_of, cost_of=lambda setting: None, target=None, rows=()):
    """Carry out the tuning of a cell with made-up outcomes; return its rows and the settings in the order tried."""
    rows, order = list(rows), []
    while trials := next_trials(grid, cell, frames.run_frame(rows), target):
        for setting, seed in trials:
            values = {"best_validation_score": score_of(setting), "best_validation_loss": 1.0}
            values["flops_to_target"] = cost_of(setting)
            tuned = settings.columns_of(setting)
            rows.append(
                problems.run_row("s", seed, "tune", tuned.pop("learning_rate"), **values, **tuned)
            )
        order.append(trials[0][0])
    return rows, order


def distance(rate, best):
    return abs(np.log10(rate / best))


def asked(n_trials=24, **arguments):
    return problems.grid(tuner="optuna", n_trials=n_trials, learning_rates=RATES, **arguments)


def test_it_asks_near_what_was_best():
    grid, cell = asked(), problems.cell("greedy")
    _, order = play(cell, grid, lambda setting: -distance(setting["learning_rate"], 0.03))
    assert len(order) == 24
    distances = [distance(setting["learning_rate"], 0.03) for setting in order]
    assert np.median(distances[12:]) < np.median(distances[:8]) / 2


def test_the_second_half_is_for_cost():
    grid, cell = asked(), problems.cell("greedy")

    def cost(setting):  # cheap far from where the score is best; not reached elsewhere
        rate = setting["learning_rate"]
        return int(1000 * (1 + distance(rate, 0.3))) if rate > 0.02 else None

    def score(setting):
        return -distance(setting["learning_rate"], 0.001)

    _, order = play(cell, grid, score, cost, target=-9.0)
    _, without = play(cell, grid, score, cost)
    assert order[:12] == without[:12] and order[12:] != without[12:]
    assert np.median([setting["learning_rate"] for setting in order[16:]]) > 0.05
    assert np.median([setting["learning_rate"] for setting in without[16:]]) < 0.01


@pytest.mark.thorough
@pytest.mark.parametrize("there", [1, 5, 17])
def test_what_was_interrupted_goes_on_as_if_it_had_not_been(there):
    grid, cell = asked(tuning_seeds=2), problems.cell("greedy")

    def score(setting):
        return -distance(setting["learning_rate"], 0.03)

    rows, order = play(cell, grid, score)
    assert play(cell, grid, score, rows=rows[: 2 * there])[1] == order[there:]


def test_every_schedule_has_as_many_settings_whatever_it_has_to_tune():
    grid = asked(None, search={"schedule.every": (1, 50), "schedule.order": ("cyclic", "random")})
    for name in problems.SCHEDULES:
        cell = problems.cell(name)
        _, order = play(cell, grid, lambda setting: setting["learning_rate"])
        assert len(order) == grid.n_settings(cell) == 8, "as many as the grid: 2 x 2 x 2"
        assert all(tpe.contains(grid.values(cell), setting) for setting in order)
    (setting, *_), values = order, grid.values(cell)
    assert set(setting) == {"learning_rate"}, "greedy has no such arguments"
    assert not tpe.contains(values, setting | {"schedule.every": 1})
    assert not tpe.contains(values, {"learning_rate": "fast"})


def test_what_there_is_to_try_is_tried_once():
    values = {"model.form": ("plain", "residual", None), "optimizer.nesterov": (True, False)}
    tried = []
    while setting := tpe.ask(values, tried, 10):
        tried.append((setting, 1.0 if setting["model.form"] else np.inf))
    assert len(tried) == 6
    assert {type(value) for setting, _ in tried for value in setting.values()} <= {
        str,
        bool,
        type(None),
    }


def test_numbers_stay_in_their_range_and_optuna_as_loud_as_it_was(capsys):
    before = optuna.logging.get_verbosity()
    values = {"learning_rate": (0.00123456, 0.00123457), "model.width": (3, 5)}
    setting = tpe.ask(values, [({"learning_rate": 0.00123456, "model.width": 4}, 0.1)], 4)
    assert tpe.contains(values, setting) and isinstance(setting["model.width"], int)
    assert optuna.logging.get_verbosity() == before
    assert not capsys.readouterr().err


def compare(folder=None, **arguments):
    schedules = {name: problems.SCHEDULES[name] for name in ("simultaneous", "greedy")}
    return layerwise.compare(
        problems.net,
        problems.data(),
        schedules,
        learning_rates=(0.001, 0.1),
        seeds=2,
        epochs=3,
        batch_size=16,
        tuner="optuna",
        results=folder,
        verbose=0,
        **arguments,
    )


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*Try more")
def test_a_comparison_that_was_cut_off_equals_one_that_was_not(tmp_path, monkeypatch):
    whole = compare(n_trials=4).runs
    assert whole.groupby(["schedule", "phase"]).size()[:, "tune"].tolist() == [4, 4]

    from layerwise.comparison.trainer import Trainer

    run, calls = Trainer.run, []

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return run(self, *arguments)

    monkeypatch.setattr(Trainer, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, n_trials=4)
    resumed = compare(tmp_path, n_trials=4).runs
    assert len(calls) == len(whole) + 1, "no run twice"
    own = ["schedule", "phase", "seed", "learning_rate", "flops", "best_validation_score"]
    pd.testing.assert_frame_equal(resumed[own], whole[own])
    with pytest.raises(ValueError, match="another comparison"):
        compare(tmp_path, n_trials=5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tuner": "random"}, "'grid' or 'optuna', got 'random'"),
        ({"n_trials": 3}, "for tuner='optuna'"),
        ({"tuner": "optuna", "n_trials": 0}, "at least 1, or None, got 0"),
    ],
)
def test_what_is_no_tuner_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        problems.grid(**arguments)


def test_without_optuna_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"layerwise\[optuna\]"):
        problems.grid(tuner="optuna")
