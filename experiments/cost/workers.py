"""workers: how many runs of a comparison two workers carry out in an hour, over one: processes, and a Dask cluster."""

import contextlib
import importlib.util
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

import layerwise
from experiments import convergence
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import markdown
from experiments.harness.data import load
from experiments.harness.timing import summary

COUNT = 2

# Dask's processes look at themselves a hundred times a second and give freed memory back at once, which takes CPU time from
# runs of a fraction of a second. In the README these settings are environment variables.
DASK_SETTINGS = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": 2**28,
    "distributed.nanny.pre-spawn-environ.MALLOC_MMAP_THRESHOLD_": 2**25,
}


def measure(settings: Settings) -> list[dict]:
    """Rows of the main job on digits with more seeds: runs an hour of one worker, and of two over those of one.

    Twice: of whole comparisons, the start of processes and what each of them compiles included, which is most of a
    comparison of one minute; and of further runs, when all that is over: by how many more runs a comparison of many seeds
    has than one of few, and by how many seconds it takes longer. At full scale thrice, all ways in turn.
    """
    dataset, data, classes = load("digits")
    definition = convergence.define("quick", data.train[0].shape[1:], classes, optimizers=("Adam",))
    definition |= {"data": {dataset: data}, "verbose": 0}
    full = settings.scale == "full"
    few, many, repetitions = (10, 45, 3) if full else (1, 2, 1)

    def timed(way, seeds):
        with way() as arguments:
            start = time.perf_counter()
            runs = layerwise.compare(**definition | {"seeds": seeds} | (arguments or {})).runs
            return len(runs), time.perf_counter() - start

    def rates(way):
        (n_few, short), (n_many, long) = (timed(way, seeds) for seeds in (few, many))
        return {"runs": n_many / long, "further runs": (n_many - n_few) / (long - short)}

    ways = {
        "one": contextlib.nullcontext,
        "processes": lambda: contextlib.nullcontext({"jobs": COUNT}),
    }
    if importlib.util.find_spec("distributed"):
        ways |= {"Dask": _dask, "Dask, README's settings": lambda: _dask(DASK_SETTINGS)}
    found = [{name: rates(way) for name, way in ways.items()} for _ in range(repetitions)]
    rows = []
    for kind in ("runs", "further runs"):
        measured = {name: np.array([each[name][kind] for each in found]) for name in ways}
        alone = measured.pop("one")
        rows.append(("one", f"{kind} an hour", 3600 * alone, "runs"))
        rows += [
            (name, f"{kind} an hour of {COUNT} workers over one", own / alone, "ratio")
            for name, own in measured.items()
        ]
    return [
        {"network": "digits mlp", "variant": name, "quantity": quantity, **summary(values)}
        | {"unit": unit}
        for name, quantity, values, unit in rows
    ]


@contextlib.contextmanager
def _dask(configuration=None):
    """A cluster of workers on this machine, as the arguments of `compare`."""
    import dask
    from dask.distributed import LocalCluster

    options = {"threads_per_worker": 1, "dashboard_address": None}
    with dask.config.set(configuration), LocalCluster(n_workers=COUNT, **options) as cluster:
        yield {"cluster": cluster.scheduler_address.replace("tcp://", "dask://")}


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Two workers over one, by kind."""
    for _, row in rows[rows["unit"] == "ratio"].iterrows():
        yield f"{row['quantity']}, {row['variant']}", markdown.median(row)


PART = Part("workers", measure, {}, answer)
