"""Timings: seconds that claims may rest on are of runs that had the machine to themselves, schedule by schedule in turn."""

import sys

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from layerwise.comparison import frames, timings, workers
from tests.comparison import problems

SCHEDULES = {name: problems.SCHEDULES[name] for name in ("simultaneous", "shuffled, 1 step")}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A comparison timed twice, and its folder."""
    folder = tmp_path_factory.mktemp("timed")
    return compare(folder, timed=2), folder


def compare(folder, **arguments):
    settings = {"learning_rates": (0.01,), "seeds": 2, "epochs": 2, "batch_size": 16, "verbose": 0}
    return layerwise.compare(
        problems.net, problems.data(), SCHEDULES, results=folder, **settings, **arguments
    )


def rows(run_id, *repetitions):
    """Rows of `timings`: the seconds at the end of each epoch, a list a repetition."""
    return [
        {"run_id": run_id, "repetition": number, "epoch": epoch, "update": 10 * epoch}
        | {"train_seconds": seconds}
        for number, one in enumerate(repetitions)
        for epoch, seconds in enumerate(one, 1)
    ]


def made_up():
    """Runs of two schedules, each with two measured seeds, and the timing of one of them each."""
    runs = frames.run_frame(
        [
            problems.run_row(schedule, seed, epochs=2, train_seconds=99.0, jobs=2)
            | {"epochs_to_target": reached, "seconds_to_target": 98.0 if reached else None}
            for schedule in ("simultaneous", "greedy")
            for seed, reached in ((1, 1), (2, None))
        ]
        + [problems.run_row("greedy", 1000, "tune", epochs=2, train_seconds=7.0, jobs=2)]
    )
    first = {row["schedule"]: row["run_id"] for row in runs[runs["seed"] == 1].to_dict("records")}
    found = timings.frame(
        rows(first["simultaneous"], [1.0, 2.0], [3.0, 8.0], [2.0, 4.0])
        + rows(first["greedy"], [2.0, 6.0], [3.0, 8.0], [4.0, 9.0])
    )
    return runs, found


def test_every_seed_takes_the_median_of_its_schedules_timed_run():
    runs, found = made_up()
    curves = frames.curve_frame(
        [
            {"run_id": run_id, "epoch": epoch, "split": "train", "train_seconds": 50.0 * epoch}
            for run_id in runs["run_id"]
            for epoch in (0, 1, 2)
        ]
    )
    timed, curves_now = timings.applied(runs, curves, found)
    measured = timed[timed["phase"] == "measure"].set_index(["schedule", "seed"])
    assert measured.loc[("simultaneous", 1), "seconds_to_target"] == 2.0
    assert measured.loc[("greedy", 1), "seconds_to_target"] == 3.0
    assert measured["seconds_to_target"].isna().tolist() == [False, True, False, True]
    assert measured["train_seconds"].tolist() == [4.0, 4.0, 8.0, 8.0]
    assert timed[timed["phase"] == "tune"]["train_seconds"].tolist() == [7.0]  # the grid's own
    own = curves_now[curves_now["run_id"] == runs["run_id"][1]]  # the seed that was not timed
    assert own["train_seconds"].tolist() == [0.0, 2.0, 4.0]
    assert runs["train_seconds"].max() == 99.0 and curves["train_seconds"].max() == 100.0


def test_runs_that_a_callback_ended_take_the_seconds_up_to_there(monkeypatch):
    runs, _ = made_up()
    of_greedy = runs["schedule"] == "greedy"
    runs.loc[(runs["seed"] == 1) & of_greedy, "examples"] = 16
    runs.loc[(runs["seed"] == 2) & of_greedy, "examples"] = 32
    took = []

    def in_turn(grid, chosen, repetitions):
        took.extend((row["schedule"], row["seed"]) for row in chosen)
        return timings.frame(rows(chosen[1]["run_id"], [2.0, 6.0]))

    monkeypatch.setattr(timings, "_in_turn", in_turn)
    found = timings.take(None, runs, timings.frame([]), 1, lambda kept: None)
    assert took == [("simultaneous", 1), ("greedy", 2)]  # the longer one
    ends = {
        run_id: 1 + (seed == 2) for run_id, seed in zip(runs["run_id"], runs["seed"], strict=True)
    }
    curves = frames.curve_frame(
        [{"run_id": run_id, "epoch": end, "split": "train"} for run_id, end in ends.items()]
    )
    timed, _ = timings.applied(runs, curves, found)
    own = timed[of_greedy & (timed["phase"] == "measure")].set_index("seed")["train_seconds"]
    assert own.to_dict() == {1: 2.0, 2: 6.0}


def test_a_cell_without_a_timed_run_has_no_seconds():
    runs, found = made_up()
    of_greedy = runs[(runs["schedule"] == "greedy")]["run_id"]
    timed, _ = timings.applied(
        runs, frames.curve_frame([]), found[~found["run_id"].isin(of_greedy)]
    )
    greedy = timed[(timed["schedule"] == "greedy") & (timed["phase"] == "measure")]
    assert greedy[["seconds_to_target", "train_seconds"]].isna().all(axis=None)


def test_without_timings_the_seconds_stay_and_are_said_to_be_the_grids():
    runs, found = made_up()
    curves = frames.curve_frame([])
    assert timings.applied(runs, curves, timings.frame([]))[0] is runs
    assert timings.whose_seconds(runs) == "2 side by side"
    assert timings.whose_seconds(timings.applied(runs, curves, found)[0]) == "alone"
    assert timings.whose_seconds(runs.assign(jobs=1)) == "as trained"


def test_the_seconds_of_an_update_are_over_the_baselines_of_the_same_repetition():
    runs, found = made_up()
    each = timings.seconds_per_update(runs, found, "simultaneous").set_index("schedule")
    assert each.loc["simultaneous", "seconds"] == 4.0 / 20
    # 6 / 2, 8 / 8 and 9 / 4 of the repetitions that ran beside one another
    assert each.loc["greedy", ["ratio_low", "ratio", "ratio_high"]].tolist() == [1.625, 2.25, 2.625]
    assert each["repetitions"].tolist() == [3, 3]


def test_a_baseline_of_two_timed_runs_counts_once_in_each_repetition():
    runs, found = made_up()
    (own,) = set(runs.loc[runs["schedule"] == "simultaneous", "run_id"]) & set(found["run_id"])
    again = runs[runs["run_id"] == own].assign(run_id="another setting")
    more = found[found["run_id"] == own].assign(run_id="another setting")
    once, twice = (
        timings.seconds_per_update(pd.concat(r), pd.concat(f), "simultaneous").set_index("schedule")
        for r, f in (([runs], [found]), ([runs, again], [found, more]))
    )
    assert twice["repetitions"].tolist() == [3, 3]
    pd.testing.assert_series_equal(once.loc["greedy"], twice.loc["greedy"])


@pytest.mark.slow
def test_runs_are_timed_in_turn_after_one_that_compiles(compared, monkeypatch):
    comparison, _ = compared
    order = []

    class Trainer(timings.Trainer):
        def run(self, *arguments, **named):
            order.append(self.cell.schedule)
            return super().run(*arguments, **named)

    monkeypatch.setattr(timings, "Trainer", Trainer)
    grid = problems.grid(
        SCHEDULES,
        optimizer=lambda learning_rate: keras.optimizers.Adam(learning_rate),
        data=problems.data(),
        experiment="comparison",
    )
    runs = comparison.runs.assign(dataset="vectors", model="net", optimizer="optimizer")
    kept = []
    found = timings.take(grid, runs, timings.frame([]), 2, kept.append)
    first, second = SCHEDULES
    assert order == [first, second, first, second, second, first]  # compiles, and two repetitions
    assert sorted(found["repetition"].unique()) == [0, 1] and len(kept) == 1
    ends = found.groupby(["run_id", "repetition"]).tail(1).merge(runs, on="run_id")
    assert (ends["update"] == ends["updates"]).all()  # the same run, again
    assert (found["train_seconds"] > 0).all()

    del order[:]
    again = timings.take(grid, runs, found, 2, kept.append)
    assert not order and len(kept) == 1 and again.equals(found)
    others = runs[(runs["phase"] == "measure") & (runs["seed"] == 1)].set_index("schedule")[
        "run_id"
    ]
    of = runs.set_index("run_id")["schedule"]
    renamed = found.assign(run_id=found["run_id"].map(of).map(others))
    assert not renamed["run_id"].isin(found["run_id"]).any()
    assert timings.take(grid, runs, renamed, 2, kept.append).equals(renamed)
    assert not order, "another run of the same programs was timed"
    more = timings.take(grid, runs, found, 3, kept.append)
    assert len(order) == 8 and more["repetition"].max() == 2


@pytest.mark.thorough
def test_a_comparison_keeps_its_timings_and_its_summary_is_of_them(compared):
    comparison, folder = compared
    loaded = layerwise.Comparison.load(folder)
    pd.testing.assert_frame_equal(loaded.timings, comparison.timings)
    last = comparison.timings.groupby(["run_id", "repetition"])["train_seconds"].last()
    ends = last.groupby("run_id").median()
    runs, _ = comparison.timed
    of = comparison.runs.set_index("run_id")["schedule"]
    for run_id, seconds in ends.items():
        own = runs[(runs["schedule"] == of[run_id]) & (runs["phase"] == "measure")]
        np.testing.assert_array_equal(own["train_seconds"], [seconds] * 2)
    assert "seconds, alone" in comparison.table() and "seconds, alone" in loaded.table()
    written = (folder / "timings.parquet").stat().st_mtime_ns
    again = compare(folder, timed=2)  # nothing is left to train or to time
    assert (folder / "timings.parquet").stat().st_mtime_ns == written
    assert again.timings.equals(comparison.timings)
    kept = compare(folder).timings  # also where none are asked for
    assert kept.equals(comparison.timings)


def test_a_run_of_a_few_batches_more_than_its_timed_one_takes_as_long():
    runs, taken = made_up()
    curves, longer = frames.curve_frame([]), runs["phase"] == "measure"
    expected, _ = timings.applied(runs, curves, taken)
    runs.loc[longer, "epochs"] += 1  # as a random order may bring about
    found, _ = timings.applied(runs, curves, taken)
    own = found.loc[longer, "train_seconds"]
    np.testing.assert_array_equal(own, expected.loc[longer, "train_seconds"])
    assert own.notna().all()


@pytest.mark.parametrize("timed", [-1, 1.5, True])
def test_the_number_of_timing_runs_is_checked_before_anything_is_trained(timed, tmp_path):
    with pytest.raises(ValueError, match="timed must be an int of at least 0"):
        compare(tmp_path / "none", timed=timed)
    assert not (tmp_path / "none").exists()


def test_runs_are_not_timed_where_the_workers_are_on_other_devices(monkeypatch, tmp_path):
    class Elsewhere(workers.Here):
        def __init__(self, grid, jobs):
            super().__init__(grid)
            self.environment = {**self.environment, "device": "NVIDIA H200"}

    module = sys.modules[
        "layerwise.comparison.compare"
    ]  # in the package the name is the function's
    monkeypatch.setattr(module, "local_workers", Elsewhere)
    with pytest.raises(ValueError, match="runs are timed in this process, on"):
        compare(tmp_path, timed=1)
