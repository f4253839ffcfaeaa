import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from layerwise.comparison import frames, trainer, workers
from tests.comparison import problems

SCHEDULES = {"simultaneous": layerwise.Simultaneous, "cyclic": layerwise.BlockCoordinate}
ALONE = {"schedules": {"simultaneous": layerwise.Simultaneous}}
NOT_REPEATED = ["train_seconds", "compile_seconds", "seconds_to_target", "started_at"]

pytestmark = pytest.mark.filterwarnings("ignore:What was tuned lies")


def small_net():
    """Return two dense blocks with dropout between them."""
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((5,)), *layers])


def compare(**arguments):
    defaults = {
        "models": {"net": small_net},
        "data": {"vectors": problems.data()},
        "schedules": SCHEDULES,
        "learning_rates": (0.01, 0.03, 0.1),
        "tuning_seeds": 2,
        "seeds": 5,
        "epochs": 3,
        "batch_size": 16,
        "verbose": 0,
    }
    return layerwise.compare(**(defaults | arguments))


@pytest.fixture(scope="module")
def comparison():
    return compare()


def test_trials_are_as_many_and_no_seed_is_tuned_and_measured(comparison):
    runs = comparison.runs
    seeds = {phase: set(rows["seed"]) for phase, rows in runs.groupby("phase")}
    assert not seeds["tune"] & seeds["measure"]
    for _, rows in runs.groupby("schedule"):
        tune = rows[rows["phase"] == "tune"]
        tried = sorted(zip(tune["learning_rate"], tune["seed"], strict=True))
        grid = [(rate, seed) for rate in (0.01, 0.03, 0.1) for seed in (1000, 1001)]
        assert set(grid) <= set(tried) and len(tried) == len(set(tried))
        measured = rows[rows["phase"] == "measure"]
        assert (
            measured.groupby("tuned_for")["seed"].apply(list).map(lambda s: s == [*range(5)]).all()
        )


def test_measured_runs_have_the_settings_that_tuning_chose(comparison):
    for _, rows in comparison.runs.groupby("schedule"):
        tune = rows[rows["phase"] == "tune"]
        means = tune.groupby("learning_rate")["best_validation_score"].mean()
        cost = tune["flops_to_target"].astype("float64").fillna(np.inf)
        medians = cost.groupby(tune["learning_rate"]).median()
        used = rows[rows["phase"] == "measure"].groupby("tuned_for")["learning_rate"].unique()
        assert means[used["score"][0]] == means.max()
        assert medians[used.get("cost", used["score"])[0]] == medians.min()


def test_every_schedule_spends_what_the_baseline_spends(comparison):
    spent = comparison.runs.groupby("schedule")["flops"].agg(["min", "max"])
    assert (spent["min"] == spent["max"]).all()
    assert spent["max"].max() / spent["min"].min() <= 1.1
    assert (comparison.runs["flops"] == comparison.runs["planned_flops"]).all()
    assert comparison.runs["budget"].eq("flops").all()


def test_target_is_from_the_baselines_tuning_and_shared(comparison):
    runs = comparison.runs
    own = runs[runs["schedule"] == "simultaneous"]
    measured = own[(own["phase"] == "measure") & (own["tuned_for"] == "score")]
    (rate,) = measured["learning_rate"].unique()
    tune = own[(own["phase"] == "tune") & (own["learning_rate"] == rate)]
    # Seeds 1000 and 1001 have the validation parts 1 and 2 of three; part 0 goes by both.
    for part, tuned in enumerate((tune, tune[tune["seed"] == 1000], tune[tune["seed"] == 1001])):
        best = tuned["best_validation_score"].median()
        error = tuned["best_validation_score_error"].median()
        (target,) = runs.loc[runs["seed"] % 3 == part, "target"].unique()
        assert target == pytest.approx(best - max(2 * error, 0.01 * best))
    assert error > 0.01


def test_rows_agree_with_their_curves(comparison):
    for _, row in comparison.runs.iterrows():
        curve = comparison.curves[comparison.curves["run_id"] == row["run_id"]]
        assert curve.groupby("split").size().to_dict() == dict.fromkeys(
            ("train", "validation", "test"), row["epochs"] + 1
        )
        last = curve[curve["epoch"] == row["epochs"]].set_index("split")
        for split in ("train", "validation", "test"):
            assert row[f"{split}_loss"] == last.loc[split, "loss"]
            assert row[f"{split}_score"] == last.loc[split, "score"]
        assert row["flops"] == last.loc["test", "flops"] > 0
        validation = curve[curve["split"] == "validation"].set_index("epoch")["score"].drop(0)
        hits = validation.index[validation >= row["target"]]
        assert row["reached"] == bool(len(hits))
        assert (row["epochs_to_target"] is pd.NA) or row["epochs_to_target"] == hits[0]


def test_seeds_are_paired(comparison):
    start = comparison.curves[comparison.curves["epoch"] == 0].merge(comparison.runs, on="run_id")
    first = start[start["split"] == "test"].groupby(["seed", "learning_rate", "schedule"])["loss"]
    simultaneous = first.first().unstack("schedule")["simultaneous"].dropna()
    assert simultaneous.groupby("seed").nunique().eq(1).all()
    assert simultaneous.nunique() == 7


def test_table_and_repr_quote_the_frames(comparison):
    text = repr(comparison)
    n = len(comparison.runs)
    assert f"{n} runs ({n} finished)" in text
    summary = comparison.summary.set_index(["schedule", "tuned_for"])
    accuracy = summary.loc[("cyclic", "score"), "test_score_mean"]
    (line,) = [line for line in text.splitlines() if line.startswith("| cyclic")]
    assert f"| {100 * accuracy:.1f} [" in line


@pytest.mark.thorough
def test_an_interrupted_comparison_keeps_its_runs_and_goes_on(
    tmp_path, monkeypatch, capsys, comparison
):
    stock, ran = trainer.Trainer.run, []

    def run(self, setting, seed, plan, probed=False):
        if len(ran) == 8:
            raise KeyboardInterrupt
        ran.append((self.cell.schedule, setting["learning_rate"], seed))
        return stock(self, setting, seed, plan, probed)

    monkeypatch.setattr(trainer.Trainer, "run", run)
    with pytest.raises(KeyboardInterrupt):
        compare(results=tmp_path)
    runs, curves = frames.read(tmp_path)
    assert len(runs) == 8 and curves["run_id"].nunique() == 8
    before = list(ran)
    ran[:] = [None] * 100  # no further interruption
    again = compare(results=tmp_path, verbose=1)
    assert "measured runs: " in capsys.readouterr().out
    assert len(before) + len(ran) - 100 == len(comparison.runs) and not set(before) & set(ran[100:])
    same = [name for name in frames.RUN_COLUMNS if name not in NOT_REPEATED]
    pd.testing.assert_frame_equal(again.runs[same], comparison.runs[same])
    pd.testing.assert_frame_equal(frames.read(tmp_path)[0], again.runs)
    assert not (tmp_path / "unfinished").exists()
    assert len(json.loads((tmp_path / "settings.json").read_text())["sessions"]) == 2
    ran.clear()
    compare(results=tmp_path)
    assert not ran


@pytest.mark.thorough
def test_a_folder_with_another_comparison_is_left_alone(tmp_path):
    small = {"learning_rates": (0.01,), "tuning_seeds": 2, "seeds": 1, "epochs": 1, **ALONE}
    small["first_seed"] = 7
    compare(results=tmp_path, **small)
    before = (tmp_path / "runs.csv").read_bytes()
    with pytest.raises(ValueError, match=r"another comparison.*give another results folder"):
        compare(results=tmp_path, **(small | {"epochs": 2}))
    with pytest.raises(ValueError, match=r"another comparison.*give another results folder"):
        compare(results=tmp_path, **(small | {"first_seed": 0}))
    assert (tmp_path / "runs.csv").read_bytes() == before
    compare(results=tmp_path, **(small | {"seeds": 2}))  # more of the same is added
    runs = frames.read(tmp_path)[0]
    assert len(runs) == 4
    seeds = {phase: set(rows["seed"]) for phase, rows in runs.groupby("phase")}
    assert seeds == {"tune": {1007, 1008}, "measure": {7, 8}}


def test_diverged_and_failed_runs_are_rows_and_the_others_go_on(tmp_path):
    class Breaking(layerwise.BlockCoordinate):
        def prepare(self, epochs):
            raise RuntimeError("cannot be")

    rates = list(np.float32([0.01, 3e38]))  # of NumPy, in another sequence, and in a file of JSON
    with pytest.warns(UserWarning, match="7 of .* runs failed.*RuntimeError: cannot be"):
        comparison = compare(
            schedules={"simultaneous": layerwise.Simultaneous, "breaking": Breaking},
            optimizers={"sgd": keras.optimizers.SGD},
            learning_rates=rates,
            results=tmp_path,
            tuning_seeds=1,
            epochs=1,
            target=0.999,
        )
    runs = comparison.runs.set_index(["schedule", "phase"])
    tune = runs.loc[("simultaneous", "tune")].set_index("learning_rate")["status"]
    assert tuple(tune[float(rate)] for rate in rates) == ("finished", "diverged")
    assert (runs.loc[("simultaneous", "measure"), "status"] == "finished").all()
    assert (runs.loc["breaking", "error"] == "RuntimeError: cannot be").all()
    summary = comparison.summary.set_index("schedule")
    assert summary.loc["breaking", ["n_runs", "n_finished", "reach_rate"]].tolist() == [5, 0, 0]
    assert summary.loc["breaking", "test_score_improvement"] == 0
    assert "never" not in repr(comparison) and "missed" in repr(comparison)


@pytest.mark.thorough
def test_a_tuned_rate_at_the_edge_is_warned_of():
    with pytest.warns(
        UserWarning,
        match=r"at the edge .* vectors · net · adam · simultaneous \(score: learning_rate",
    ):
        compare(learning_rates=(1e-9, 2e-9), tuning_seeds=1, seeds=1, epochs=1, **ALONE)


@pytest.mark.thorough
def test_regularizers_and_a_given_target():
    def model(regularizer):
        penalty = {"none": None, "l2": keras.regularizers.L2(10.0)}[regularizer]
        dense = keras.layers.Dense(3, kernel_regularizer=penalty)
        return keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, "relu"), dense])

    comparison = compare(
        models=model,
        regularizers=("none", "l2"),
        learning_rates=(0.03,),
        tuning_seeds=1,
        seeds=1,
        target=0.2,
        **ALONE,
    )
    assert comparison.runs["target"].eq(0.2).all()
    by_regularizer = comparison.runs.groupby("regularizer")["train_loss"].mean()
    assert by_regularizer["l2"] > by_regularizer["none"]
    assert by_regularizer["l2"] < np.log(3) + 0.1, "the reported loss is without the penalty"


def test_class_weights_need_classes():
    def numbers(n):
        return np.zeros((n, 5), "float32"), np.linspace(0.1, 1, 3 * n).reshape(n, 3)

    data = layerwise.Data(numbers(60), numbers(20), numbers(20))
    with pytest.raises(ValueError, match="neither a label for each example nor one-hot rows"):
        compare(data=data, class_weight={0: 2.0})


@pytest.mark.thorough
def test_who_cannot_spend_what_the_baseline_does_is_named():
    greedy = {
        "simultaneous": layerwise.Simultaneous,
        "greedy": lambda: layerwise.GreedyLayerwise(finetune_epochs=20),
    }
    options = {"learning_rates": (0.01,), "tuning_seeds": 1, "seeds": 1, "epochs": 1}
    with pytest.warns(UserWarning, match=r"net.*: greedy spent [\d.]+ times the FLOPs of sim"):
        found = compare(schedules=greedy, **options)
    assert any("equal FLOPs allow" in finding for finding in found.audit())


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"epochs": 0}, ValueError, "epochs must be an int of at least 1, got 0"),
        ({"seeds": 2.0}, ValueError, "seeds must be an int"),
        ({"first_seed": -1}, ValueError, "first_seed must be an int of at least 0"),
        ({"target": 97}, ValueError, "units of 'accuracy', between 0 and 1, got 97"),
        ({"batch_size": 61}, ValueError, "at most the 60 training examples"),
        ({"learning_rates": ()}, ValueError, "different positive numbers"),
        ({"learning_rates": {"sgd": (0.1,)}}, ValueError, "optimizers are"),
        ({"schedules": {}}, ValueError, "schedules must be a dict"),
        ({"schedules": ["greedy"]}, ValueError, "schedules must be a dict"),
        ({"learning_rates": 0.1}, TypeError, "learning_rates must be a tuple"),
        ({"schedules": {"s": layerwise.Simultaneous()}}, TypeError, "lambda"),
        ({"schedules": {"s": lambda: "adam"}}, TypeError, "must return a layerwise.Schedule"),
        ({"optimizers": {"adam": lambda rate: "adam"}}, TypeError, "must return a keras optimizer"),
        ({"models": {"net": lambda: "net"}}, TypeError, "must return a keras.Model"),
        ({"models": problems.net()}, TypeError, "Write a function that builds it"),
        ({"data": (np.zeros(3), np.zeros(3))}, TypeError, "layerwise.Data"),
        ({"regularizers": ("l2", "l2")}, ValueError, "different names"),
        ({"jobs": 0}, ValueError, "jobs must be"),
        ({"cluster": "localhost"}, ValueError, "must be 'dask://HOST:PORT'"),
        ({"budget": "time"}, ValueError, "one of flops, epochs, seconds, got 'time'"),
        ({"search": {"every": (1,)}}, ValueError, "'schedule.every'; got 'every'"),
        ({"search": {"schedule.every": 3}}, ValueError, "must be a tuple of values"),
        ({"search": {"schedule.every": (0, 1)}}, ValueError, "every must be a positive int"),
        ({"loss": "mse"}, ValueError, "give a target for each output"),
        ({"target": float("nan")}, ValueError, "target must be a validation score"),
        ({"search": {"optimizer.learning_rate": (0.1, 1)}}, ValueError, "as 'learning_rate', not"),
        ({"search": {"schedule.evry": (1, 2)}}, ValueError, "no schedule has .* mean 'every'"),
        ({"search": {"optimizer.momentun": (0.1,)}}, ValueError, "no optimizer has .*'momentun'"),
        ({"class_weight": [1, 2]}, ValueError, "class_weight must be"),
        ({"callbacks": [1]}, TypeError, r"callable \(\) -> list"),
        ({"callbacks": lambda: [layerwise.Simultaneous()]}, ValueError, "must return no schedule"),
    ],
)
def test_bad_arguments_raise_before_anything_is_trained(change, error, message, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    with pytest.raises(error, match=message):
        compare(**change)


ALL_OF_IT = """
import sys, layerwise
from tests.comparison import problems
layerwise.compare(problems.net, problems.data(), problems.SCHEDULES, learning_rates=(0.01,), seeds=1, epochs=3,
                  batch_size=16, verbose=0, timed=1)
print("loaded:", *sorted({"tensorflow", "jax", "torch"} & set(sys.modules)))
"""


@pytest.mark.thorough
@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="what must not be loaded is TensorFlow"
)
def test_a_comparison_on_another_backend_does_not_load_tensorflow():
    """It would take a worker on JAX as long to start as all else, and 0.3 GiB."""
    found = subprocess.run(
        [sys.executable, "-c", ALL_OF_IT], capture_output=True, text=True, check=True
    )
    loaded = found.stdout.splitlines()[-1].split()[1:]
    assert "tensorflow" not in loaded and keras.backend.backend() in loaded


@pytest.mark.thorough
def test_what_is_searched_beside_the_rate_is_compared_by_name():
    found = compare(
        schedules={"simultaneous": layerwise.Simultaneous},
        optimizers={"SGD": keras.optimizers.SGD},
        learning_rates=np.array([0.3]),
        search={"optimizer.momentum": (0.5, 0.9)},
        seeds=1,
        tuning_seeds=1,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metric=keras.metrics.SparseCategoricalAccuracy,
        class_weight={np.int64(k): 1.0 for k in range(3)},
    )
    tune = found.runs[found.runs["phase"] == "tune"]
    assert set(tune["status"]) == {"finished"} and set(tune["learning_rate"]) == {0.3}
    assert {"0.5", "0.9"} <= set(tune["optimizer.momentum"]) <= {"0.5", "0.9", "0.278", "0.154"}


_KEPT = []


def grow(mebibytes):
    """Keep so much memory in this process; return which one it is."""
    _KEPT.append(np.ones(mebibytes * 2**20, "uint8"))
    return os.getpid()


@pytest.mark.thorough
def test_a_worker_that_grows_as_programs_do_keeps_them():
    pytest.importorskip("psutil", reason="without it, joblib replaces no worker")
    with workers.Processes(problems.grid(), 1) as processes:
        executor, found = processes._executors[0], set()
        for mebibytes in (1, 400, 1):  # joblib looks after a call, a second after it looked last
            time.sleep(1.1)
            found.add(executor.submit(grow, mebibytes).result())
        found.add(executor.submit(grow, 1).result())
    assert len(found) == 1


def test_models_that_share_weights_that_are_trained_are_refused(monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    base = keras.Sequential([keras.Input((5,)), keras.layers.Dense(8, "relu", name="outside")])

    def net():
        return keras.Sequential([keras.Input((5,)), base, keras.layers.Dense(3)])

    one = net()
    for shared in (net, lambda: one):
        with pytest.raises(ValueError, match=r"models\['tuned'\].*outside/kernel.*inside the fun"):
            compare(models={"new": small_net, "tuned": shared})
    base.trainable = False
    problems.grid(model=net).check()


def test_what_is_no_sequence_is_refused():
    with pytest.raises(TypeError, match=r"regularizers must be a tuple.*\('l2',\)"):
        compare(regularizers="l2")
    with pytest.raises(TypeError, match=r"probes must be a tuple of callables"):
        compare(probes=lambda: layerwise.Probe())
