import importlib.util

import keras
import numpy as np
import pytest

import layerwise
from experiments.cost import baselines
from experiments.cost.recompile import Recompiling
from experiments.harness.timing import Training
from tests.experiments.cost import tiny


@pytest.mark.thorough
def test_the_masked_gradient_is_the_same_step():
    ours, masked = Training(tiny.SMALL, steps=6), Training(tiny.SMALL, steps=6)
    masked.model.set_weights(ours.model.get_weights())
    for training in (ours, masked):
        training.model.compile(keras.optimizers.SGD(0.1), loss=training.model.loss)
    baselines.mask_gradients(masked.model, layerwise.partition(masked.model), every=2)
    ours.epochs(layerwise.BlockCoordinate(every=2))
    masked.epochs()
    for a, b in zip(tiny.weights(ours.model), tiny.weights(masked.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_recompiling_moves_one_block_and_is_undone():
    training = Training(tiny.SMALL)
    way = Recompiling(training, layerwise.partition(training.model))
    before = tiny.weights(training.model)
    way.switch(1)
    training.model.train_on_batch(*training.batch())
    moved = tiny.moved(before, tiny.weights(training.model))
    assert moved == [False, False, True, True, False, False]
    way.undo()
    assert len(training.model.trainable_variables) == 6


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "badam"))), reason="badam is not installed"
)
@pytest.mark.parametrize("every", [1, 2])
def test_badam_makes_the_same_visits(every):
    from experiments.cost.badam import Badam

    badam = Badam([64] * 4, 256, 3 * every, every)
    moved = []
    for batch in badam.batches[: 3 * every]:
        before = [p.detach().clone() for p in badam.network.parameters()]
        badam.step(*batch)
        moved.append(tiny.moved(before, badam.network.parameters()))
    blocks = [0] * every + [1] * every + [2] * every
    assert moved == [[k == block for k in (0, 0, 1, 1, 2, 2)] for block in blocks]


def test_figure_and_answer(tmp_path):
    number = {"network": "dense", "n_blocks": 3, "value": 0.01, "low": 0.009, "high": 0.02}
    found = [
        number | {"every": every, "variant": variant, "quantity": quantity, "unit": unit}
        for every in (1, 2)
        for variant in ("layerwise", "badam (torch)")
        for quantity, unit in (("step", "s"), ("step over layerwise", "ratio"))
    ]
    names, lines = tiny.shown("baselines", found, tmp_path)
    assert names == {"baselines"}
    assert lines == {
        f"step of badam (torch) / ours, visits of {every}": "0.01 (0.009 to 0.02)"
        for every in (1, 2)
    }
