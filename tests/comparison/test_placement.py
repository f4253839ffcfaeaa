"""Where the data of runs lies, and the bar over them."""

import numpy as np
import pytest

from layerwise.comparison import placement
from layerwise.comparison.progress import Progress
from layerwise.comparison.trainer import Trainer
from tests.comparison import problems


@pytest.mark.thorough
def test_data_that_does_not_fit_on_the_device_comes_batch_by_batch_with_the_same_numbers(
    monkeypatch,
):
    grid = problems.grid()
    source, cell = grid.datasets["vectors"].source, problems.cell("shuffled, 1 step")
    found = {}
    for where, most in (("there", source.nbytes), ("with the host", source.nbytes - 1)):
        monkeypatch.setattr(placement, "RESIDENT_BYTES", most)
        ours = Trainer(grid, cell)
        found[where] = problems.curve(problems.run(ours, 0.03, 1))
        assert placement.stays_on_device(ours.model, source) == (where == "there")
    there, host = (np.array(curve, "float64") for curve in found.values())
    np.testing.assert_allclose(there, host, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("done", [0, 3])
def test_the_bar_counts_runs_and_grows_with_the_grid(done):
    with Progress("ours", total=3, done=done, verbose=0) as bar:
        for _ in range(4 - done):
            bar.one_more()
        task = bar.tasks[0]
        assert (task.completed, task.total) == (4, 4) and bar.disable
