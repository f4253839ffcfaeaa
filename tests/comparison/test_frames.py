import collections
import functools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import layerwise
from layerwise.comparison import frames, settings
from layerwise.comparison.outcome import Evaluation, Outcome
from layerwise.comparison.statistics import SUMMARY_COLUMNS
from tests.comparison import problems

# The design, section 4, word for word where it lists names.
RUNS = """
experiment, dataset, model, n_blocks, schedule, optimizer, regularizer, learning_rate, batch_size,
epochs, budget, seed, phase, tuned_for, backend, device, jobs, status, error, updates, examples, flops,
planned_flops, planned_seconds, train_seconds, compile_seconds, optimizer_state_bytes, peak_memory_bytes, metric,
direction, target, reached, epochs_to_target, updates_to_target, flops_to_target, seconds_to_target,
area_under_curve, train_loss, train_score, validation_loss, validation_score, test_loss, test_score, best_epoch,
best_train_loss, best_train_score, best_validation_loss, best_validation_score,
best_test_loss, best_test_score, best_validation_score_error, generalization_gap, score_gap, run_id,
layerwise_version, keras_version, git_commit, started_at
"""
CURVES = "run_id, epoch, update, examples, flops, train_seconds, split, loss, score"
SUMMARY = """
dataset, model, schedule, optimizer, regularizer, tuned_for, learning_rate, n_runs, n_finished, reach_rate, reach_low,
reach_high
"""
METRICS = "area_under_curve, train_loss, test_loss, test_score, score_gap"
RELATIVE = """
ratio, ratio_low, ratio_high, ratio_p, improvement, improvement_low, improvement_high, restricted,
restricted_low, restricted_high
"""
SUFFIXES = """
mean, low, high, difference, difference_low, difference_high, p, improvement, improvement_low, improvement_high
"""
FIRST, SECOND = (layerwise.Update(blocks=(block,)) for block in range(2))


def names(text):
    return re.split(r",\s*", text.strip())


def test_columns_are_those_of_the_design():
    assert names(RUNS) == frames.RUN_COLUMNS
    assert names(CURVES) == frames.CURVE_COLUMNS
    metrics = [f"{metric}_{suffix}" for metric in names(METRICS) for suffix in names(SUFFIXES)]
    clocks = [
        f"{clock}_to_target_{end}"
        for clock in ("epochs", "updates", "flops", "seconds")
        for end in ("median", "low", "high", "restricted")
    ]
    relative = [
        f"{clock}_{column}"
        for clock in ("epochs", "updates", "flops", "seconds")
        for column in names(RELATIVE)
    ]
    assert [*names(SUMMARY), *clocks, *relative, *metrics] == SUMMARY_COLUMNS


def outcome(accuracies, losses, status="finished"):
    """Return an outcome whose splits are one hundredth apart."""
    evaluations = [
        Evaluation(
            epoch=epoch,
            examples=32 * epoch,
            train_seconds=0.5 * epoch,
            counts=collections.Counter({FIRST: 2 * epoch, SECOND: epoch, "a look": 7 * epoch}),
            scores={
                split: (loss + shift, accuracy - shift)
                for split, shift in (("train", -0.01), ("validation", 0.0), ("test", 0.01))
            },
            flops=1000 * epoch,
        )
        for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]
    return Outcome(status, n_blocks=3, compile_seconds=1.5, evaluations=evaluations)


def test_row_of_a_finished_run():
    row = frames.row_of(
        {"run_id": "r"}, outcome([0.99, 0.5, 0.8, 0.8, 0.7], [2, 1.0, 0.6, 0.5, 0.4])
    )
    assert row["best_epoch"] == 3  # the tie goes to the lower loss, epoch 0 is untrained
    assert row["best_test_loss"] == pytest.approx(0.51)
    assert row["area_under_curve"] == pytest.approx((0.5 + 0.8 + 0.8 + 0.7) / 4)
    assert (row["updates"], row["examples"], row["flops"], row["train_seconds"]) == (
        12,
        128,
        4000,
        2,
    )
    assert row["generalization_gap"] == pytest.approx(0.02)
    assert row["score_gap"] == pytest.approx(0.02)
    assert row["validation_score"] == 0.7


def test_row_of_a_diverged_run_has_costs_and_no_end():
    row = frames.row_of({"run_id": "r"}, outcome([0.1, 0.5, 0.1], [2, 1.0, np.nan], "diverged"))
    frame = frames.run_frame([row])
    assert frame.loc[0, "updates"] == 6 and frame.loc[0, "best_epoch"] == 1
    empty = ["train_loss", "test_score", "area_under_curve", "score_gap"]
    assert frame.loc[0, empty].isna().all()
    assert frame.loc[0, "best_validation_score"] == 0.5


def test_row_of_a_run_that_failed_before_it_began():
    frame = frames.run_frame([frames.row_of({"run_id": "r"}, Outcome("failed", error="why"))])
    assert frame.loc[0, ["status", "error"]].tolist() == ["failed", "why"]
    assert frame.loc[0, "updates"] is pd.NA and not frame.loc[0, "reached"]


ROW = {"direction": "max", "seed": 0, "status": "finished"}


@pytest.mark.parametrize("target, epoch", [(0.5, 1), (0.75, 3), (0.8, 3), (0.05, 1)])
def test_target_is_reached_at_the_first_evaluation_that_has_it(target, epoch):
    made = outcome([0.1, 0.6, 0.3, 0.8, 0.7], [1] * 5)
    row = frames.with_target(ROW, frames.curve_of("r", made), (target,))
    assert row["reached"]
    assert row["epochs_to_target"] == epoch
    assert row["updates_to_target"] == 3 * epoch
    assert row["flops_to_target"] == 1000 * epoch
    assert row["seconds_to_target"] == 0.5 * epoch


def test_less_is_better_where_the_metric_says_so():
    made = outcome([2.0, 0.6, 0.3, 0.8, 0.3], [1, 1, 0.5, 1, 0.4])
    made.direction = "min"
    row = frames.row_of({"run_id": "r", "seed": 0}, made)
    assert row["best_epoch"] == 4  # the least error, the tie to the lower loss
    assert row["score_gap"] == pytest.approx(-0.02), "train errs more than test"
    row = frames.with_target(row, frames.curve_of("r", made), (0.5,))
    assert row["epochs_to_target"] == 2


@pytest.mark.parametrize("target", [0.81, None])
def test_a_missed_target_is_empty_and_never_the_cap(target):
    made = outcome([0.1, 0.8, 0.7], [1] * 3)
    frame = frames.run_frame(
        [frames.with_target(ROW, frames.curve_of("r", made), target and (target,))]
    )
    assert not frame.loc[0, "reached"]
    clocks = [f"{clock}_to_target" for clock in ("epochs", "updates", "flops", "seconds")]
    assert frame.loc[0, clocks].isna().all()


@pytest.mark.parametrize("commit", ["5a313e5", None])  # None: code outside a git repository
def test_frames_survive_the_disk(tmp_path, monkeypatch, commit):
    runs, curves = problems.made_up()
    monkeypatch.setattr(frames, "_git_commit", lambda: commit)
    runs = frames.run_frame(runs.assign(git_commit=frames.provenance()["git_commit"]))
    frames.write(tmp_path, runs=runs, curves=curves)
    again, curves_again = frames.read(tmp_path)
    pd.testing.assert_frame_equal(again, runs)
    pd.testing.assert_frame_equal(curves_again, curves)
    assert list(again.columns) == names(RUNS)
    assert sorted(path.name for path in Path(tmp_path).iterdir()) == ["curves.parquet", "runs.csv"]


def test_what_else_was_tuned_has_columns_that_survive_the_disk(tmp_path):
    settings_ = [{"learning_rate": 0.1, "schedule.every": value} for value in (1, "epoch")]
    settings_.append({"learning_rate": 0.0316})
    rows = [problems.run_row("s", k) | settings.columns_of(s) for k, s in enumerate(settings_)]
    runs = frames.run_frame(rows)
    frames.write(tmp_path, runs=runs, curves=frames.curve_frame([]))
    again, _ = frames.read(tmp_path)
    pd.testing.assert_frame_equal(again, runs)
    assert [settings.setting_of(row) for _, row in again.iterrows()] == settings_


def test_the_commit_of_changed_code_is_called_dirty_and_results_are_no_code(tmp_path):
    def git(*command):
        return subprocess.run(["git", *command], cwd=tmp_path, check=True, capture_output=True)

    for name in ("code", "results"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("old")
    git("init")
    git("add", ".")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "first")
    commit = git("rev-parse", "HEAD").stdout.decode().strip()
    found = functools.partial(frames._git_commit.__wrapped__, tmp_path / "code")
    assert found() == commit
    (tmp_path / "results" / "file").write_text("new")
    assert found() == commit
    (tmp_path / "code" / "file").write_text("new")
    assert found() == f"{commit}-dirty"
    shutil.rmtree(tmp_path / ".git")
    assert found() is None
