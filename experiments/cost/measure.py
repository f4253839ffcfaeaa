"""Measures one part on the backend that this process was started with: PART SCALE DEVICE DTYPE FILE."""

import importlib
import json
import os
import sys

import keras

from experiments.cost import devices
from experiments.cost.settings import settings
from layerwise.comparison.frames import provenance


def measure(part, scale, device, dtype):
    """The rows of a part, each with what identifies it and where it came from."""
    devices.require(device)
    keras.config.set_dtype_policy(dtype)
    keras.utils.set_random_seed(0)
    os.environ |= {"LAYERWISE_COST_SCALE": scale, "LAYERWISE_COST_DEVICE": device}
    identity = {"backend": keras.backend.backend(), "device": devices.device_name(), "dtype": dtype}
    origin = {"scale": scale, "framework_version": _framework_version(), **provenance()}
    rows = importlib.import_module(f"experiments.cost.{part}").measure(settings(scale, device))
    return [{**identity, **row, **origin} for row in rows]


def _framework_version():
    return importlib.import_module(keras.backend.backend()).__version__


if __name__ == "__main__":
    try:
        rows = measure(*sys.argv[1:5])
    except (ValueError, ImportError) as error:
        sys.exit(f"error: {error}")
    with open(sys.argv[5], "w") as file:
        json.dump(rows, file, default=float)
