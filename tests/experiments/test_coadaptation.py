"""The net of two weights by closed form and by the package; and answers that are those of the committed frames."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from experiments.coadaptation import deep_nets, depth, plane, rates, story
from experiments.coadaptation.experiment import OPENING, PARTS
from experiments.coadaptation.two_weights import (
    OPTIMIZERS,
    ORDERS,
    by_package,
    closed_form,
    outcomes,
)
from experiments.harness import parts
from experiments.linearity.nets import images
from experiments.linearity.training import flat
from layerwise.diagnostics import Step, reversals
from tests.helpers import mostly_thorough

RESULTS = Path(__file__).parents[2] / "results" / "coadaptation"
STARTS = ((0.1, 1.0), (3.5, -3.5), (-1.75, 0.5))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("order", mostly_thorough(ORDERS, fast=("cyclic",)))
def test_package_and_closed_form_take_the_same_steps(optimizer, order):
    at = (1, 2, 6)
    w, v = np.transpose(STARTS)
    expected = closed_form(w, v, optimizer, 0.05, order, at)
    measured = by_package(STARTS, optimizer, 0.05, order, at)
    np.testing.assert_allclose(measured, expected, rtol=1e-4, atol=1e-5)  # float32 against float64


def test_outcomes_are_told_apart():
    steps = (*range(100, 301, 100), 301)
    starts = {"c": (0.1, 1.0), "s": (1.0, 1.0), "d": (50.0, 50.0)}
    for letter, (w, v) in starts.items():
        states = closed_form(np.array([w]), np.array([v]), "SGD", 0.4, "simultaneous", steps)
        assert outcomes(states).item() == letter
    told = closed_form(np.array([0.1]), np.array([1.0]), "SGD", story.ALONE, "simultaneous", steps)
    assert outcomes(told).item() == "o"


def test_the_story_happens_with_a_rate_for_each_weight_in_the_package_too():
    layers = [keras.layers.Dense(1, use_bias=False, name=name) for name in "vw"]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile(keras.optimizers.SGD(1.0), loss="mse")
    model.set_weights([np.array([[1.0]]), np.array([[0.1]])])
    schedule = layerwise.Simultaneous(rates=dict(zip("wv", story.ALONE, strict=True)))
    seen = []
    for _ in range(2):
        model.fit(np.ones((1, 1)), np.full((1, 1), -0.1), verbose=0, callbacks=[schedule])
        seen.append([weight.item() for weight in model.get_weights()])
    np.testing.assert_allclose(seen, [[-1.0, -0.1], [1.0, 0.1]], atol=1e-5)


def test_package_and_closed_form_agree_in_the_committed_map():
    both = plane.compared(parts.read(RESULTS, "plane"))
    assert len(both) == len(plane.COARSE) ** 2 * len(OPTIMIZERS) * len(ORDERS)
    assert both["same"].mean() > 0.99
    # On the line w = v rounding decides: without it training goes into the saddle at w = v = 0.
    assert both[both["w"] != both["v"]]["same"].all()


def test_weights_that_will_go_back_are_those_that_have_gone_back_one_step_later():
    x, y = images()
    model = deep_nets.compiled("tanh", 2, 5)
    model.optimizer.learning_rate = 1.0
    step = Step(model, x, y)
    expected = deep_nets.going_back(step)
    start = model.get_weights()
    moves = np.split(flat(step.displacement), np.cumsum([w.size for w in start])[:-1])
    model.set_weights([w + u.reshape(w.shape) for w, u in zip(start, moves, strict=True)])
    before = {id(v): w for v, w in zip(model.trainable_variables, start, strict=True)}
    step = Step(model, x, y)
    shares = reversals(step, before)["share"]
    found = np.average(shares, weights=[np.count_nonzero(g) for g in step.gradient])
    assert 0.05 < expected < 0.95
    assert found == pytest.approx(expected, abs=0.01)  # float32 turns a sign or two


def of_rates(one, others):
    """Rows as `rates.measure` gives them: the measured losses with one rate and with each other way."""
    net, losses = "tanh 32-32", {"one rate": one, **dict.fromkeys(rates.WAYS[1:], others)}
    rows = [
        {"net": net, "way": way, "phase": phase, "trial": 0, "seed": seed, "rate": 1.0, "factor 0": 1.0, "loss": loss}
        for way, of in losses.items() for phase in ("tune", "measure") for seed, loss in enumerate(of)
    ]  # fmt: skip
    return pd.DataFrame(rows)


LOSSES = np.array([0.010, 0.011, 0.012, 0.013, 0.014, 0.015])


@pytest.mark.parametrize(
    ("factor", "verdict", "begins"),
    [
        (0.5, "better", "**A learning rate for each block beats one"),
        (2.0, "worse", "**One learning rate for the whole net beats one"),
        ([0.5, 2, 0.5, 2, 0.5, 2], "no difference shown", "**Of 3 cases"),
    ],
)
def test_rates_are_told_apart_by_the_rows_and_so_is_the_first_sentence(factor, verdict, begins):
    rows = of_rates(LOSSES, LOSSES * factor)
    assert set(rates.compared(rows)["verdict"]) == {verdict}
    assert rates.answer(rows).startswith(begins)


def test_runs_that_diverged_are_counted_and_enter_no_ratio():
    lost = np.append(LOSSES, np.inf)
    rows = of_rates(np.append(LOSSES, 0.01), lost * 0.5)
    found = rates.compared(rows)
    assert found["ratio"].tolist() == pytest.approx([0.5] * 3)
    assert set(found["verdict"]) == {"no difference shown"}  # more of them diverged
    assert rates.answer(rows).count("1 of 7") == 3
    assert set(rates.compared(of_rates(lost, lost * 0.5))["verdict"]) == {"better"}


def test_trends_with_depth_are_those_of_the_rows():
    common = {"trained": "not yet", "sweeps": 0, "fraction": depth.HALF}
    changes = {"linear": 1.0, "tanh": -1.0, "relu": 0.0}
    rows = [
        {"kind": kind, "depth": layers, "width": width, "seed": seed, "value": 2 + seed + change * (layers > 2), **common}
        for kind, change in changes.items() for layers, width in ((2, 16), (2, 125), (32, 16)) for seed in range(6)
    ]  # fmt: skip
    assert depth.trends(pd.DataFrame(rows), "value") == {"higher": 2, "lower": 2, "all": 6}


def test_the_answer_is_that_of_the_committed_frames():
    found = {name: parts.load("coadaptation", name) for name in PARTS}
    text = parts.answer(RESULTS, "coadaptation", found, OPENING)
    assert (RESULTS / "answer.md").read_text() == text + "\n"
