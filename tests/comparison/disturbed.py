"""A small comparison as a process of its own, which can be killed and started again: ``start(folder)``."""

import json
import os
import subprocess
import sys
import time

import keras
import pandas as pd

import layerwise
from layerwise.comparison import frames
from tests.comparison import problems

NOT_REPEATED = ["train_seconds", "compile_seconds", "seconds_to_target", "started_at"]
SCHEDULES = {"simultaneous": layerwise.Simultaneous, "cyclic": layerwise.BlockCoordinate}


def net():
    """Return three dense blocks.

    No batch normalization, below which biases have no gradient but rounding, of which Adam makes steps of full length: what
    is rounded otherwise, as with another number of threads, would be another run.
    """
    layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(8, "tanh"), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((5,)), *layers])


class Net:
    """Makes a model; writes into a file which process it was sent to, and how often."""

    def __init__(self, file):
        self.file = file

    def __call__(self):
        return net()

    def __setstate__(self, state):
        self.__dict__ = state
        with open(self.file, "a") as file:
            file.write(f"{os.getpid()}\n")


def compare(folder=None, **arguments):
    """Carry out the comparison: two schedules, tuned over two rates and more, measured with three seeds."""
    options = {"learning_rates": (0.01, 0.03), "seeds": 3, "epochs": 2, "batch_size": 16}
    return layerwise.compare(
        {"net": net if folder is None else Net(f"{folder}/sent")},
        {"vectors": problems.data()},
        SCHEDULES,
        verbose=0,
        results=folder,
        **options | arguments,
    )


def start(folder, **arguments):
    """Start the comparison in a process of its own session."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.comparison.disturbed", str(folder), json.dumps(arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        start_new_session=True,
    )


def kept(folder):
    """The names of the runs that are on disk."""
    written = set(frames.read(folder)[0]["run_id"])
    return written | {path.stem for path in folder.glob("unfinished/[!.]*.json")}


def wait_for_runs(folder, count, process):
    """Wait until so many runs are on disk, or the process has ended."""
    while process.poll() is None and len(kept(folder)) < count:
        time.sleep(0.2)


def assert_same(found, expected, but=NOT_REPEATED):
    """Two comparisons are the same row for row, but for times."""
    for name in ("runs", "curves"):
        one, other = getattr(found, name), getattr(expected, name)
        columns = [column for column in one if column not in but]
        pd.testing.assert_frame_equal(one[columns], other[columns])


if __name__ == "__main__":
    from pathlib import Path

    from tests.comparison.disturbed import compare

    compare(Path(sys.argv[1]), **json.loads(sys.argv[2]))
