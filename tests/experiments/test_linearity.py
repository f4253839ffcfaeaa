"""The linear theory of a sweep against quadratics, flow and Newton's step against closed forms."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import scipy.linalg

import layerwise
from experiments.harness import parts
from experiments.linearity import edge, flow, settling, single
from experiments.linearity.experiment import OPENING, PARTS
from experiments.linearity.sweeps import (
    largest_stable_rate,
    spectral_radius,
    steep_directions,
    turns_of,
)
from experiments.linearity.training import by_block, flat, hessian
from layerwise.diagnostics import Step

RESULTS = Path(__file__).parents[2] / "results" / "linearity"
SIZES = (3, 2, 4)


def quadratic(seed):
    """A random Hessian and its blocks, some of them coupled closely."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(sum(SIZES), sum(SIZES))) * np.geomspace(1, 0.1, sum(SIZES))
    return root @ root.T, np.split(np.arange(sum(SIZES)), np.cumsum(SIZES)[:-1])


def growth(matrix, blocks, rate, turns, times):
    """By how much the loss grows in the second half, when the turns are taken so many times."""
    place, losses = np.random.default_rng(9).normal(size=len(matrix)), []
    for _ in range(times):
        for turn in turns:
            moving = np.concatenate([blocks[k] for k in turn])
            place[moving] -= rate * (matrix @ place)[moving]
        losses.append(place @ matrix @ place)
    return losses[-1] / losses[times // 2]


@pytest.mark.parametrize("order", ["simultaneous", "cyclic", "reverse", "shuffled"])
@pytest.mark.parametrize("seed", range(3))
def test_descent_on_a_quadratic_is_stable_up_to_the_largest_stable_rate(order, seed):
    matrix, blocks = quadratic(seed)
    turns = turns_of(order, len(blocks))
    factors = steep_directions(lambda v: by_sizes(matrix @ flat(v)), SIZES, sum(SIZES))
    rate = largest_stable_rate(factors, turns)
    times = 1800 // len(turns)
    assert growth(matrix, blocks, 0.98 * rate, turns, times) < 1
    assert growth(matrix, blocks, 1.02 * rate, turns, times) > 1
    whole, own = 2 / np.linalg.norm(matrix, 2), [2 / np.linalg.norm(matrix[np.ix_(b, b)], 2) for b in blocks]  # fmt: skip
    assert rate == pytest.approx(whole) if order == "simultaneous" else rate >= 0.998 * min(own)


def test_the_small_matrix_has_the_spectral_radius_of_the_whole_sweep():
    matrix, blocks = quadratic(0)
    factors = steep_directions(lambda v: by_sizes(matrix @ flat(v)), SIZES, sum(SIZES))
    sweep = np.eye(len(matrix))
    for block in blocks:
        sweep[block] -= 0.3 * matrix[block] @ sweep
    expected = np.abs(np.linalg.eigvals(sweep)).max()
    assert spectral_radius(factors, 0.3, turns_of("cyclic", 3)) == pytest.approx(expected)


@pytest.mark.thorough
@pytest.mark.parametrize("order", ["simultaneous", "cyclic"])
def test_the_package_is_stable_up_to_the_same_rate(order):
    x, y, model = two_blocks()
    step = Step(model, x, y, blocks="layer")
    sizes = [w.size for w in step.weights]
    factors = steep_directions(step.hessian_vector, sizes, sum(sizes))
    rate = largest_stable_rate(factors, turns_of(order, len(sizes)))
    for factor, stable in ((0.97, True), (1.03, False)):
        x, y, model = two_blocks()
        model.optimizer.learning_rate = factor * rate
        schedule = layerwise.Simultaneous() if order == "simultaneous" else layerwise.BlockCoordinate("layer")  # fmt: skip
        before = Step(model, x, y, blocks="layer").loss
        many = [np.tile(part, (600, 1)) for part in x], np.tile(y, (600, 1))
        model.fit(*many, batch_size=len(y), shuffle=False, verbose=0, callbacks=[schedule])
        assert (Step(model, x, y, blocks="layer").loss < before) == stable


def test_the_flow_of_a_linear_net_is_an_exponential():
    x, y, model = one_block()
    step = Step(model, x, y)
    times = (0.5, 2.0, 20.0)
    matrix, gradient = hessian(step), flat(step.gradient)
    decays = [scipy.linalg.expm(-time * matrix) - np.eye(len(matrix)) for time in times]
    expected = [scipy.linalg.solve(matrix, decay @ gradient) for decay in decays]
    np.testing.assert_allclose(flow.flow(step, times), expected, atol=1e-7)


def test_on_a_quadratic_one_newton_step_is_enough_and_a_gradient_step_is_not():
    x, y, model = one_block()
    step = Step(model, x, y)
    least = step.loss_at(by_block(step, -np.linalg.solve(hessian(step), flat(step.gradient))))
    newton = min(single.best_length(step, direction) for direction in single.newton(step))
    assert newton[0] == pytest.approx(least, rel=1e-3) and newton[1] == pytest.approx(1, abs=0.05)
    gradient = -flat(step.gradient)
    loss, length = single.best_length(step, gradient)
    assert length == pytest.approx(
        gradient @ gradient / (gradient @ hessian(step) @ gradient), rel=1e-3
    )
    assert loss > 1.1 * least


def test_committed_runs_at_once_sit_at_the_edge_and_blocks_in_turn_beyond_it():
    runs = edge.late(parts.read(RESULTS, "edge"))
    assert runs.groupby(["net", "order", "rate"])["seed"].nunique().min() >= 10
    assert runs["net"].nunique() >= 3
    means = runs.groupby(["net", "order", "rate"])[["whole", "used"]].mean()
    together = means.xs("simultaneous", level="order")
    assert together["whole"].between(0.95, 1.05).all()
    assert (means.drop("simultaneous", level="order")["whole"] > 1.05).all()


def test_committed_runs_of_blocks_in_turn_were_trained_on_for_each_net():
    rows = edge.scaled(parts.read(RESULTS, "edge"))
    long = rows[rows["sweeps"] == edge.LONG]
    assert long.groupby("net")["seed"].nunique().tolist() == [10, 10, 10]
    assert long["used"].notna().all()


@pytest.mark.parametrize(
    ("before", "last", "state"),
    [(0.8, 0.9, "nearing"), (0.6, 0.5, "leaving"), (0.7, 0.7, "below"), (0.9, 1.0, "at"), (1.1, 1.2, "beyond")],
)  # fmt: skip
def test_where_long_training_came_is_told_from_the_rows(before, last, state):
    spread = np.linspace(-0.01, 0.01, 6)
    rows = [
        {"net": "tanh 8", "seed": seed, "sweeps": sweeps, "loss": 1 / sweeps, "whole": 2.0, "steepest_block": 1.5,
         "used": used + (-1) ** (sweeps // 10) * spread[seed]}
        for sweeps, used in ((10, 0.4), (20, before), (30, last)) for seed in range(6)
    ]  # fmt: skip
    assert settling.settled(pd.DataFrame(rows), 10)["state"].item() == state
    text, _ = settling.answer(pd.DataFrame(rows), 10)
    assert settling.WORDS[state] in text and "Training has not ended" in text


def test_the_answer_is_that_of_the_committed_frames():
    found = {name: parts.load("linearity", name) for name in PARTS}
    text = parts.answer(RESULTS, "linearity", found, OPENING)
    assert (RESULTS / "answer.md").read_text() == text + "\n"


def by_sizes(vector):
    return np.split(vector, np.cumsum(SIZES)[:-1])


def two_blocks():
    """A quadratic: the sum of two linear layers, each of its own inputs, which are correlated."""
    random = np.random.default_rng(0)
    common = random.normal(size=(30, 3))
    x = [(common + 0.5 * random.normal(size=(30, 3))).astype("float32") for _ in range(2)]
    keras.utils.set_random_seed(0)
    inputs = [keras.Input((3,)), keras.Input((3,))]
    outputs = [keras.layers.Dense(1, use_bias=False)(one) for one in inputs]
    model = keras.Model(inputs, keras.layers.Add()(outputs))
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    return x, np.zeros((30, 1), "float32"), model


def one_block():
    """A quadratic: a linear layer, with targets that it cannot all meet."""
    random = np.random.default_rng(0)
    x = random.normal(size=(20, 4)) * np.array([2.0, 1.0, 0.5, 0.3])
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse")
    return x.astype("float32"), random.normal(size=(20, 1)).astype("float32"), model
