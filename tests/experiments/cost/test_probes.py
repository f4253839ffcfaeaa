import pytest

from experiments.cost import probes
from experiments.harness import rows
from tests.experiments.cost import tiny


@pytest.mark.thorough
def test_what_a_probe_adds_with_its_own_time_and_without(monkeypatch, tmp_path):
    monkeypatch.setattr(probes, "EVERY", 2)
    monkeypatch.setattr(probes, "NETWORK", tiny.TWO)
    found = probes.measure(tiny.SETTINGS)
    over = tiny.values(rows.frame(found), "fit with a Probe over one without")
    assert list(over.index) == list(probes.WAYS)
    assert over["all of it"] > over["without the time that the Probe reports"] > 0
    assert tiny.values(rows.frame(found), "all quantities over a training step")["each once"] > 0
    names, lines = tiny.shown("probes", found, tmp_path)
    assert names == set() and len(lines) == 3
