"""More than one device: the weights of the single-device run, to float32 rounding, and the same block moves everywhere.

Nets without batch normalization, dropout or clipping, where the maths is the same. Each case needs processes of its own:
devices are counted when a backend starts.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        keras.backend.backend() == "torch", reason="Keras trains on one device on torch"
    ),
]
HERE = Path(__file__).parent
SCHEDULES = ("simultaneous", "shuffled", "sweep", "greedy")


def start(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finish(*processes):
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors


def assert_same_weights(folder, one, other):
    for name in SCHEDULES:
        first, second = (
            np.load(folder / f"{name}_{one}.npz"),
            np.load(folder / f"{name}_{other}.npz"),
        )
        assert len(first.files) == len(second.files) > 0
        for key in first.files:
            # 24 Adam steps of 0.01: a rounding error of 1e-7 in a small gradient grows to some 1e-6
            np.testing.assert_allclose(first[key], second[key], rtol=1e-4, atol=1e-5)


def test_replicas_or_a_sharded_batch_on_one_host(tmp_path):
    finish(start("devices.py", 1, tmp_path))
    finish(start("devices.py", 2, tmp_path))
    assert_same_weights(tmp_path, 1, 2)


@pytest.mark.skipif(
    keras.backend.backend() != "jax", reason="across hosts, stock fit works on JAX only"
)
def test_two_joined_jax_processes(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    finish(start("joined.py", port, 0, tmp_path), start("joined.py", port, 1, tmp_path))
    finish(start("joined.py", 0, 9, tmp_path))
    assert_same_weights(tmp_path, 0, 9)
    assert_same_weights(tmp_path, 1, 9)
