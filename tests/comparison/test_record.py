"""A results folder that is gone on with holds what a new one would hold."""

import pandas as pd
import pytest

import layerwise
from tests.comparison import problems

pytestmark = pytest.mark.filterwarnings("ignore:What was tuned lies")


def compare(folder, tuning_seeds):
    return layerwise.compare(
        problems.net,
        problems.data(),
        {"simultaneous": layerwise.Simultaneous},
        learning_rates=(0.01, 0.02, 0.04),
        tuning_seeds=tuning_seeds,
        seeds=5,
        epochs=3,
        batch_size=16,
        budget="epochs",
        results=folder,
        verbose=0,
    )


def rates(comparison):
    runs = comparison.runs
    return set(runs[runs["phase"] == "measure"]["learning_rate"])


@pytest.mark.thorough
def test_what_more_tuning_no_longer_chooses_is_no_longer_measured(tmp_path):
    first = compare(tmp_path / "one", tuning_seeds=1)
    whole = compare(tmp_path / "other", tuning_seeds=4)
    assert rates(first) != rates(whole), "the test is about another choice"
    gone_on = compare(tmp_path / "one", tuning_seeds=4)
    times = [name for name in whole.runs if "seconds" in name or name == "started_at"]
    for found, expected in ((gone_on, whole), (layerwise.Comparison.load(tmp_path / "one"), whole)):
        pd.testing.assert_frame_equal(
            found.runs.drop(columns=times), expected.runs.drop(columns=times)
        )
