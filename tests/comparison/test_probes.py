"""Probes in a comparison: their frame beside the curves, and their time apart from training's."""

import functools
import time

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from layerwise.comparison import Comparison, identity
from layerwise.comparison.configs import as_text
from layerwise.comparison.identity import run_id
from layerwise.comparison.planner import Planner
from layerwise.comparison.trainer import Trainer
from tests.comparison import problems

X, Y = problems.data().source.first(16)[:2]
PROBE = functools.partial(layerwise.Probe, ("interaction",), every=4, data=(X, Y))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:What was tuned lies")
def test_measured_runs_are_probed_and_their_results_do_not_change(tmp_path):
    arguments = {
        "models": problems.net,
        "data": problems.data(),
        "schedules": {"cyclic": layerwise.BlockCoordinate},
        "learning_rates": (0.01,),
        "seeds": 2,
        "epochs": 1,
        "batch_size": 16,
        "verbose": 0,
    }
    plain = layerwise.compare(**arguments)
    probed = layerwise.compare(**arguments, probes=(PROBE,), results=tmp_path)
    scores = ["schedule", "phase", "seed", "train_loss", "test_loss", "updates", "flops"]
    assert probed.runs[scores].equals(plain.runs[scores])

    measured = probed.runs.query("phase == 'measure'")
    assert set(probed.probes["run_id"]) == set(measured["run_id"])
    for _, row in measured.iterrows():
        found = probed.probes.query("run_id == @row.run_id")
        assert sorted(set(found["step"])) == list(range(0, row["examples"] // 16 + 1, 4))
        beside = probed.curves.query("run_id == @row.run_id and split == 'train'")
        assert found["update"].max() <= beside["update"].max() == row["updates"]
        assert np.isfinite(found.query("measure == 'joint'")["value"]).all()
    assert plain.probes.empty and list(plain.probes.columns) == list(probed.probes.columns)

    assert Comparison.load(tmp_path).probes.equals(probed.probes)
    # Nothing is left to do, and what was measured is still there.
    again = layerwise.compare(**arguments, probes=(PROBE,), results=tmp_path)
    assert again.probes.equals(probed.probes)
    # Without a Probe these would be other runs.
    with pytest.raises(ValueError, match="another comparison"):
        layerwise.compare(**arguments, results=tmp_path)


@pytest.mark.thorough
def test_measuring_is_not_training_time(monkeypatch):
    probes, slept, clock = [], [], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + 1000 * len(slept))

    def made():
        probes.append(PROBE())
        probes[-1].quantities["slow"] = slow
        return probes[-1]

    def slow(step):
        slept.append(step)
        return pd.DataFrame({"nothing": [0.0]})

    trainer = Trainer(problems.grid(probes=(made,)), problems.cell("simultaneous"))
    probes.clear()
    setting = {"learning_rate": 0.01}
    plan = Planner(trainer.grid).plan(trainer.cell, setting)
    outcome = trainer.run(setting, 0, plan, probed=True)
    assert probes[-1].seconds > 1000 * len(slept) >= 3000
    assert outcome.evaluations[-1].train_seconds < 1000
    assert len(outcome.probes) == 1


@pytest.mark.parametrize(
    ("probes", "message"),
    [
        ((PROBE(),), "callables"),
        ((lambda: 3,), "callables"),
    ],
)
def test_what_is_no_maker_of_probes_is_said(probes, message):
    with pytest.raises(TypeError, match=message):
        problems.grid(probes=probes)


def test_a_probe_among_the_callbacks_is_refused():
    with pytest.raises(ValueError, match="give probes="):
        problems.grid(callbacks=lambda: [PROBE()])


def known_by(**arguments):
    grid = problems.grid(**arguments)
    return run_id(grid, problems.cell("simultaneous"), {"learning_rate": 0.01}, 0, "measure", {})


def test_functions_of_callbacks_and_probes_are_part_of_what_a_run_is_known_by():
    def own(step, scale=1.0):
        return pd.DataFrame({"scale": [scale]})

    def rate(value):
        return lambda: [keras.callbacks.LearningRateScheduler(lambda epoch: value)]

    seen = []
    listening = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    before = known_by(callbacks=lambda: [listening])
    seen.append(1)
    assert known_by(callbacks=lambda: [listening]) == before  # however often it was called
    assert known_by(callbacks=rate(0.1)) == known_by(callbacks=rate(0.1))
    made = [
        *({"callbacks": rate(value)} for value in (0.1, 0.5)),
        *(
            {"probes": (functools.partial(layerwise.Probe, functools.partial(own, scale=k), 4),)}
            for k in (1, 2)
        ),
        {"probes": (lambda: layerwise.Probe("parts", every=lambda step: step == 2),)},
        {"probes": (lambda: layerwise.Probe("parts", every=lambda step: step == 3),)},
    ]
    assert len({known_by(**one) for one in made}) == len(made)


def test_what_quantities_of_the_package_were_given_is_part_of_it():
    smoothness, noise = layerwise.diagnostics.smoothness, layerwise.diagnostics.gradient_noise
    given = [
        smoothness,
        functools.partial(smoothness, multiples=(0.0, 2.0)),
        functools.partial(smoothness, multiples=(0.0, 3.0)),
        functools.partial(smoothness, np.array([0.0, 4.0])),
        noise,
        functools.partial(noise, masks=3),
    ]
    ids = [known_by(probes=(lambda q=q: layerwise.Probe((q,), 100, (X, Y)),)) for q in given]
    assert len(set(ids)) == len(given)
    # As they were when results were kept.
    by_name = known_by(probes=(lambda: layerwise.Probe(("smoothness",), 100, (X, Y)),))
    for same in (
        functools.partial(smoothness),
        functools.partial(smoothness, multiples=(0.0, 1.0)),
    ):
        assert known_by(probes=(lambda q=same: layerwise.Probe((q,), 100, (X, Y)),)) == by_name


def test_what_holds_no_functions_and_the_packages_quantities_are_known_as_ever(monkeypatch):
    def arguments():
        smoothness = functools.partial(layerwise.diagnostics.smoothness, multiples=(0.0, 1.0))
        yield {"probes": (lambda: layerwise.Probe(("parts", smoothness), 100, (X, Y)),)}
        yield {"callbacks": lambda: [keras.callbacks.EarlyStopping("val_loss", mode="min")]}

    now = [known_by(**one) for one in arguments()]
    monkeypatch.setattr(identity, "with_functions", as_text)
    assert [known_by(**one) for one in arguments()] == now
