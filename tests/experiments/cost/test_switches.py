import numpy as np
import pytest

import layerwise
from experiments.cost import switches
from experiments.harness import rows
from experiments.harness.timing import Training
from tests.experiments.cost import tiny

STATES = list(switches.STATES)
WAYS = [*STATES, "trainable and compile"]


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(switches, "CYCLIC_EPOCHS", 2)
        return switches.measure(tiny.SETTINGS)


@pytest.mark.thorough
def test_switches_of_each_state_and_of_compile(found):
    frame = rows.frame(found)
    taken, steps = tiny.values(frame, "switch"), tiny.values(frame, "step")
    assert list(taken.index) == WAYS
    assert (taken.drop("trainable and compile") > 0).all()
    # Of one repetition each ratio is that of its two medians.
    for quantity, expected in {
        "switch over a simultaneous step": taken / steps["simultaneous"],
        "trainable and compile over a switch": taken["trainable and compile"] / taken,
        "step with a switch over one without": tiny.values(frame, "step with a switch")
        / steps["staying"],
    }.items():
        ratios = tiny.values(frame, quantity)
        assert list(ratios.index) == STATES
        np.testing.assert_allclose(ratios, expected[STATES])


def test_each_update_is_one_switch_and_the_clock_is_taken_away_again():
    training, schedule = Training(tiny.TWO), layerwise.BlockCoordinate()
    with switches.seconds_of_switches() as seconds:
        training.epochs(schedule)
    assert len(seconds) == 1 + training.steps and min(seconds) >= 0
    training.epochs(schedule)
    assert len(seconds) == 1 + training.steps


def test_figure_and_answer(found, tmp_path):
    names, lines = tiny.shown("switches", found, tmp_path)
    assert names == {"switches"}
    assert list(lines) == [f"ms a switch takes, {way}" for way in WAYS]
