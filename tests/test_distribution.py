"""More than one device: the weights of the single-device run, to float32 rounding, and the same block moves everywhere.

Nets without batch normalization, dropout or clipping, where the maths is the same. They need processes of their own: how
many devices there are is asked when a backend starts.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.devices import SCHEDULES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() == "torch", reason="Keras trains on one device on torch"
    ),
]
HERE = Path(__file__).parent


def start(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder of what one host has trained, on one device and on two."""
    folder = tmp_path_factory.mktemp("devices")
    finish(start("devices.py", folder))
    return folder


def assert_same_weights(one, other):
    for name in SCHEDULES:
        first, second = (np.load(path.format(name)) for path in (one, other))
        assert len(first.files) == len(second.files) > 0
        for key in first.files:
            # 12 Adam steps of 0.01: a rounding error of 1e-7 in a small gradient grows to some 1e-6
            np.testing.assert_allclose(first[key], second[key], rtol=1e-4, atol=1e-5)


def test_replicas_or_a_sharded_batch_on_one_host(trained):
    assert_same_weights(f"{trained}/{{}}_1.npz", f"{trained}/{{}}_2.npz")


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="across hosts, stock fit works on JAX only"
)
def test_two_joined_jax_processes(trained, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    finish(*(start("joined.py", port, process, tmp_path) for process in (0, 1)))
    for process in (0, 1):
        assert_same_weights(f"{trained}/{{}}_1.npz", f"{tmp_path}/{{}}_process_{process}.npz")
