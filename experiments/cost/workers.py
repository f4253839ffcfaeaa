"""workers: how many runs of a comparison two workers carry out in an hour, over one: processes, and a Dask cluster."""

import contextlib
import importlib.util
import time
from collections.abc import Iterator

import pandas as pd

import layerwise
from experiments import convergence
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import markdown
from experiments.harness.data import load

COUNT = 2


def measure(settings: Settings) -> list[dict]:
    """Rows of the main job on digits with more seeds: runs an hour of one worker, and of two over those of one.

    Seconds are of whole comparisons, the start of processes and what each of them compiles included. There are seeds
    enough that one worker takes minutes: of a comparison of one minute, the start is a third.
    """
    dataset, data, classes = load("digits")
    definition = convergence.define("quick", data.train[0].shape[1:], classes, optimizers=("Adam",))
    definition |= {
        "seeds": 60 if settings.scale == "full" else 2,
        "data": {dataset: data},
        "verbose": 0,
    }
    ways = {"one": contextlib.nullcontext({}), "processes": contextlib.nullcontext({"jobs": COUNT})}
    if importlib.util.find_spec("distributed"):
        ways["Dask"] = _dask()
    rates = {}
    for name, way in ways.items():
        with way as arguments:
            start = time.perf_counter()
            runs = layerwise.compare(**definition, **arguments).runs
            rates[name] = 3600 * len(runs) / (time.perf_counter() - start)
    rows = [
        {"variant": "one", "quantity": "runs an hour", "value": rates.pop("one"), "unit": "runs"}
    ]
    for name, rate in rates.items():
        ratio = rate / rows[0]["value"]
        rows.append(
            {
                "variant": name,
                "quantity": f"{COUNT} workers over one",
                "value": ratio,
                "unit": "ratio",
            }
        )
    return [{"network": "digits mlp", **row} for row in rows]


@contextlib.contextmanager
def _dask():
    """A cluster of workers on this machine, as the arguments of `compare`."""
    from dask.distributed import LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=COUNT, **options) as cluster:
        yield {"cluster": cluster.scheduler_address.replace("tcp://", "dask://")}


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Two workers over one, by kind."""
    for _, row in rows[rows["unit"] == "ratio"].iterrows():
        yield f"runs an hour of {row['quantity']}, {row['variant']}", markdown.median(row)


PART = Part("workers", measure, {}, answer)
