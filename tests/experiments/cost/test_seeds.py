import keras
import pytest

from experiments.cost import seeds
from experiments.harness import rows
from tests.experiments.cost import tiny


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "jax", reason="jax.vmap makes the batch of runs")
def test_an_epoch_of_several_runs_at_once(monkeypatch, tmp_path):
    monkeypatch.setitem(seeds.COUNTS, "cpu", (1, 2))
    monkeypatch.setattr(seeds.models, "convnet", seeds.models.mlp)  # is compiled sooner
    found = seeds.measure(tiny.SETTINGS)
    ratios = tiny.values(rows.frame(found), "runs an hour over one by one")
    assert (ratios.loc["1 at once"] == 1).all() and (ratios > 0).all()
    names, lines = tiny.shown("seeds", found, tmp_path)
    assert names == {"seeds"} and len(lines) == 2
    said = seeds.short(rows.frame([{**row, "device": "here"} for row in found]))
    assert [sentence.split(",")[0] for sentence in said] == [
        "Runs as one batch of runs (digits mlp",
        "Runs as one batch of runs (digits convnet",
    ]
