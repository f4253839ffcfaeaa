import dataclasses

import pytest

from experiments.cost import steps
from experiments.harness import rows
from tests.experiments.cost import tiny


@pytest.fixture(scope="module")
def found():
    return steps.measure(dataclasses.replace(tiny.SETTINGS, repetitions=2))


@pytest.mark.thorough
def test_steps_have_the_limit_of_their_products(found):
    frame = rows.frame(found)
    limits = tiny.values(frame, "FLOP ratio", "block")
    depth = 3
    for block in range(depth):
        # of a layer's three products: all forward ones, those for inputs above the block, one for weights
        expected = (depth + (depth - 1 - block) + 1) / (3 * depth - 1)
        assert limits[block] == pytest.approx(expected, abs=0.04)
    ratios = frame[frame["quantity"] == "step ratio"]
    assert set(ratios["block"]) == {0, 1, 2, "mean", "cyclic"}
    assert (ratios["low"] <= ratios["value"]).all() and (ratios["value"] <= ratios["high"]).all()
    assert (ratios["repetitions"] == 2).all()


def test_figure_and_answer(found, tmp_path):
    names, lines = tiny.shown("steps", found, tmp_path)
    assert names == {"steps"}
    limit = tiny.values(rows.frame(found), "FLOP ratio", "block")["mean"]
    assert lines["by counted FLOPs, dense"] == f"{limit:.3g}"
    assert set(lines) == {
        "block step / simultaneous step, dense",
        "by counted FLOPs, dense",
        "switching every step / never, dense",
    }
