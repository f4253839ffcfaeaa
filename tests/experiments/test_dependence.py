"""dependence: closed forms of two weights, nets of equal parameters, forms of images, and answers from frames."""

import argparse
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from experiments.dependence import answer, descent, experiment, nets, pictures, pixels, quadratics
from experiments.harness.data import load
from layerwise.diagnostics import Step, steepest

RESULTS = Path(__file__).parents[2] / "results"
CORRELATION = 0.9
HESSIAN = np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])


def two_weights(start, rate):
    """A net of two weights w and v whose mean squared error is (w, v) H (w, v)' / 2, and the batch of it."""
    inputs = keras.Input((2,))
    parts = [
        keras.layers.Dense(1, use_bias=False, name=name)(inputs[:, k : k + 1])
        for k, name in enumerate(("w", "v"))
    ]
    model = keras.Model(inputs, keras.layers.Add()(parts))
    model.set_weights([np.array([[value]]) for value in start])
    model.compile(keras.optimizers.SGD(rate), loss="mse")
    return model, np.linalg.cholesky(HESSIAN).T, np.zeros((2, 1))


@pytest.mark.parametrize(
    "schedule, name, steps",
    [
        (layerwise.Simultaneous(), "all at once", 6),
        (layerwise.BlockCoordinate(blocks=[["w"], ["v"]]), "one at a time", 6),
        (
            layerwise.BlockCoordinate(blocks=[["w"], ["v"]], sweep_each_batch=True),
            "one at a time",
            12,
        ),
    ],
)
def test_the_ways_are_those_of_the_package(schedule, name, steps):
    start = np.array([-1.0, 0.5])
    model, x, y = two_weights(start, 0.5)
    model.fit(x, y, batch_size=2, epochs=6, shuffle=False, verbose=0, callbacks=[schedule])
    expected = descent.path(lambda w: HESSIAN @ w, start, 0.5, name, steps)[-1]
    found = np.ravel([keras.ops.convert_to_numpy(v) for v in model.trainable_variables])
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32


def test_one_at_a_time_contracts_by_the_squared_correlation():
    way = descent.path(lambda w: HESSIAN @ w, np.array([0.3, 0.7]), 1.0, "one at a time", 20)
    rounds = way[2::2]
    np.testing.assert_allclose(rounds[1:] / rounds[:-1], CORRELATION**2, rtol=1e-9)


@pytest.mark.parametrize("sign", [1, -1])
def test_all_at_once_contracts_by_one_minus_rate_times_eigenvalue(sign):
    start, rate = np.array([1.0, sign]), 0.4
    way = descent.path(lambda w: HESSIAN @ w, start, rate, "all at once", 5)
    np.testing.assert_allclose(way[1:] / way[:-1], 1 - rate * (1 + sign * CORRELATION), rtol=1e-9)


def test_the_best_rate_is_the_best():
    hessian = np.diag([1.0, 0.2])
    best = descent.contraction(hessian, descent.best_rate(hessian), "all at once")
    others = [descent.contraction(hessian, rate, "all at once") for rate in np.linspace(0.1, 2, 40)]
    assert best <= min(others) and best == pytest.approx(0.8 / 1.2)


def test_the_best_step_in_a_ball_is_that_of_the_diagnostics():
    start = np.array([-1.0, 0.6])
    model, x, y = two_weights(start, 0.1)
    found = steepest(Step(model, x, y, blocks=1), radii=[0.1, 1.0], tolerance=1e-9, iterations=300)
    expected = [descent.best_in_ball(HESSIAN, start, radius) for radius in (0.1, 1.0)]
    np.testing.assert_allclose(found[["cosine", "gain"]], expected, rtol=1e-5)


def test_whitening_alone_makes_dependent_weights_independent():
    found = quadratics.preconditioned(HESSIAN)
    np.testing.assert_allclose(found["each weight"], HESSIAN)
    np.testing.assert_allclose(
        quadratics.preconditioned(np.diag([4.0, 1.0]))["each weight"], np.eye(2)
    )


def test_a_local_layer_whose_places_share_their_weights_is_a_convolution():
    shared = keras.layers.Conv2D(3, 3, 2, padding="same", data_format="channels_last")
    local = nets.LocallyConnected(3, 2)
    # Of an odd size: there both pad alike.
    images = np.random.default_rng(0).normal(size=(2, 7, 7, 2)).astype("float32")
    expected = shared(images)
    local.build(images.shape)
    kernel, bias = shared.get_weights()
    everywhere = np.broadcast_to(kernel.reshape(-1, 3), local.kernel.shape)
    local.set_weights([everywhere, np.broadcast_to(bias, local.bias.shape)])
    found, expected = (keras.ops.convert_to_numpy(value) for value in (local(images), expected))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_forms_of_images_hold_the_same_images():
    _, data, _ = load("digits")
    found = pixels.forms(data)
    plain, shuffled = (
        found[form].train[0].reshape(958, -1) for form in ("as they are", "shuffled")
    )
    np.testing.assert_array_equal(np.sort(plain, axis=1), np.sort(shuffled, axis=1))
    assert not np.array_equal(plain, shuffled)
    both = [
        np.concatenate([found[form].train[0], found[form].validation[0]])
        for form in ("centred", "whitened")
    ]
    for images in both:
        flat = images.reshape(len(images), -1)
        np.testing.assert_allclose(flat.mean(axis=0), 0, atol=1e-5)
        assert flat.var(axis=0).mean() == pytest.approx(1, abs=1e-4)
    rows = pixels.dependence_of(found).set_index("form")
    assert rows.loc["whitened", "condition_number"] < rows.loc["centred", "condition_number"] / 5
    assert rows.loc["whitened", "neighbours"] < rows.loc["centred", "neighbours"] / 3


def test_updates_count_the_first_time_and_a_miss_is_infinite():
    curves = pd.DataFrame(
        {"run_id": ["a"] * 3, "update": [0, 5, 9], "split": "train", "loss": [1.0, 0.05, 0.2]}
    )
    assert pictures.updates_to(curves, pd.Series(["a", "b"]), 0.1).tolist() == [5.0, np.inf]


def test_the_committed_answers_are_those_of_the_committed_frames():
    folders = [path.parent for path in RESULTS.rglob("dependence/answer.md")]
    assert folders
    for folder in folders:
        assert (folder / "answer.md").read_text(encoding="utf-8") == answer.answer(folder) + "\n"


def test_quadratics_are_measured_drawn_and_answered(tmp_path, capsys):
    options = {
        "data": "digits",
        "subset": None,
        "seeds": None,
        "scale": "quick",
        "results": tmp_path,
    }
    experiment.run(argparse.Namespace(**options, only=["quadratics"]))
    experiment.table(argparse.Namespace(results=tmp_path))
    text = (tmp_path / "dependence" / "answer.md").read_text()
    assert text in capsys.readouterr().out
    assert "## Two weights" in text and "## Pictures" not in text
    assert (tmp_path / "dependence" / "two-weights.png").exists()
    with pytest.raises(FileNotFoundError, match="experiments run dependence"):
        experiment.plot(argparse.Namespace(results=tmp_path / "nothing"))
