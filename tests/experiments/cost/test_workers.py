import importlib.util
import types

import pytest

from experiments.cost import workers
from experiments.harness import rows
from tests.experiments.cost import tiny


@pytest.mark.slow
def test_runs_an_hour_of_two_workers_over_one(monkeypatch, tmp_path):
    """Comparisons in processes and on clusters have tests of their own: here they only take so many seconds."""
    now, asked = [0.0], []

    def compare(*, seeds, jobs=1, cluster=None, **definition):
        assert list(definition["optimizers"]) == ["Adam"] and definition["verbose"] == 0
        asked.append((seeds, jobs, cluster and cluster.partition("127")[0]))
        two = jobs == 2 or cluster is not None
        now[0] += 100 * seeds if two else 10 + 150 * seeds
        return types.SimpleNamespace(runs=range(3 + 10 * seeds))

    monkeypatch.setattr(workers.layerwise, "compare", compare)
    monkeypatch.setattr(workers, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    found = workers.measure(tiny.SETTINGS)
    dask = importlib.util.find_spec("distributed") is not None
    ways = ["processes", *(["Dask", "Dask, README's settings"] if dask else [])]
    clusters = [(seeds, 1, "dask://") for seeds in (1, 2)] * (2 if dask else 0)
    assert asked == [(1, 1, None), (2, 1, None), (1, 2, None), (2, 2, None), *clusters]
    frame = rows.frame(found)
    for kind, alone, over in (
        ("runs", 23 / 310, (23 / 200) / (23 / 310)),
        ("further runs", 10 / 150, 150 / 100),
    ):
        assert tiny.values(frame, f"{kind} an hour").to_dict() == {
            "one": pytest.approx(3600 * alone)
        }
        ratios = tiny.values(frame, f"{kind} an hour of 2 workers over one")
        assert ratios.to_dict() == dict.fromkeys(ways, pytest.approx(over))
    names, lines = tiny.shown("workers", found, tmp_path)
    assert names == set() and len(lines) == 2 * len(ways)
