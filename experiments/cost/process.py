"""Measures one part on one backend, in a process where nothing else was done before.

`python -m experiments.cost.process PART SCALE DEVICE DTYPE FILE` is that process; the backend is the one in
`KERAS_BACKEND`.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras

from experiments.cost.part import load
from experiments.cost.settings import settings
from experiments.harness import devices
from layerwise.comparison.frames import provenance


def measured(part: str, backend: str, scale: str, device: str, dtype: str) -> list[dict]:
    """The rows of a part, from a process of its own.

    Raises:
        RuntimeError: The process failed; it has said why.
    """
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    if device == "cpu":
        environment |= {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu"}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "experiments.cost.process"]
        command += [part, scale, device, dtype, str(file)]
        if subprocess.run(command, env=environment).returncode:
            raise RuntimeError(f"{part} could not be measured on {backend}: see above")
        return json.loads(file.read_text())


def measure(part: str, scale: str, device: str, dtype: str) -> list[dict]:
    """The rows of a part in this process, each with what identifies it and where it came from."""
    devices.require(device)
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    backend = keras.backend.backend()
    identity = {"backend": backend, "device": devices.device_name(), "dtype": dtype}
    version = importlib.import_module(backend).__version__
    origin = {"scale": scale, "framework_version": version, **provenance()}
    rows = load(part).measure(settings(scale, device))
    return [{**identity, **row, **origin} for row in rows]


if __name__ == "__main__":
    try:
        _rows = measure(*sys.argv[1:5])
    except (ValueError, ImportError) as error:
        sys.exit(f"error: {error}")
    Path(sys.argv[5]).write_text(json.dumps(_rows, default=float))
