import pytest

from experiments.harness import devices


def test_a_gpu_that_is_not_there_is_said():
    if devices.device_name() != devices.processor_name():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="sees no GPU"):
        devices.require("gpu")
    devices.require("cpu")
    assert devices.device_peak() is None
