"""What one backend measures, another measures, too."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ("tensorflow", "jax", "torch")


def measured(backend):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.diagnostics.measured"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.partition("JSON")[2])


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, BACKENDS)), reason="not all backends are installed"
)
def test_all_backends_measure_the_same():
    first, *others = (measured(backend) for backend in BACKENDS)
    for other in others:
        for name, columns in first.items():
            for column, values in columns.items():
                if isinstance(values[0], str):
                    assert other[name][column] == values
                    continue
                # Losses of about 1 are good to 1e-16, a difference of them to 1e-15, and so is what is
                # relative to a small one.
                small = np.min(np.abs(columns["predicted"])) if column == "miss" else 1.0
                np.testing.assert_allclose(
                    other[name][column],
                    values,
                    rtol=1e-8,
                    atol=1e-14 / small,
                    err_msg=f"{name} {column}",
                )
