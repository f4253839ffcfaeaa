import pytest

from experiments.harness import devices


def test_a_gpu_that_is_not_there_is_said():
    if devices.device_name() != devices.processor_name():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="sees no GPU"):
        devices.require("gpu")
    devices.require("cpu")
    assert devices.device_peak() is None


def test_processes_side_by_side_are_as_many_as_cores_within_bounds(monkeypatch):
    for kind, cores, count in (
        ("cpu", 2, 2),
        ("cpu", 100, devices.MOST_PROCESSES),
        ("gpu", 100, 1),
    ):
        monkeypatch.setattr(devices.backend, "device", lambda kind=kind: kind)
        monkeypatch.setattr(devices, "cpu_count", lambda cores=cores: cores)
        assert devices.side_by_side() == count
