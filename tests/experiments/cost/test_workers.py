import importlib.util

import pytest

from experiments.cost import workers
from experiments.harness import rows
from tests.comparison import problems
from tests.experiments.cost import tiny


@pytest.mark.slow
def test_runs_an_hour_of_two_workers_over_one(monkeypatch, tmp_path):
    def define(scale, shape, n_classes, optimizers):
        assert scale == "quick" and list(optimizers) == ["Adam"]
        schedules = {"simultaneous": problems.SCHEDULES["simultaneous"]}
        return {
            "models": problems.net,
            "schedules": schedules,
            "epochs": 1,
            "seeds": 5,
            "learning_rates": (0.01,),
            "batch_size": 16,
        }

    monkeypatch.setattr(workers.convergence, "define", define)
    monkeypatch.setattr(workers, "load", lambda name: (name, problems.data(), 3))
    found = workers.measure(tiny.SETTINGS)
    there = {
        "processes",
        *(["Dask", "Dask, README's settings"] if importlib.util.find_spec("distributed") else []),
    }
    for kind in ("runs", "further runs"):
        over = tiny.values(rows.frame(found), f"{kind} an hour of 2 workers over one")
        assert set(over.index) == there
        assert set(tiny.values(rows.frame(found), f"{kind} an hour").index) == {"one"}
    whole = tiny.values(rows.frame(found), "runs an hour of 2 workers over one")
    assert (whole > 0).all()
    names, lines = tiny.shown("workers", found, tmp_path)
    assert names == set() and len(lines) == 2 * len(there)
