"""programs: compiled programs, and the seconds they take, against the number of blocks."""

import functools
import time

import layerwise
from experiments.cost.networks import Network
from experiments.cost.timing import Training, summary

NETWORK = "dense 64"
ENOUGH = 60  # seconds after which a number of blocks is not measured again


def measure(settings):
    """Rows for each number of blocks: one simultaneous step, and a first sweep over the blocks."""
    _simultaneous(_training(settings, 2))  # what a framework does once
    rows = []
    for n in sorted({*settings.counts, *settings.shared_counts}):
        measured = {"simultaneous": _simultaneous}
        if n in settings.counts:
            measured["a program for each block"] = functools.partial(_sweep, limit=None)
        if n in settings.shared_counts:
            limit = settings.max_programs
            measured[f"max_programs={limit}"] = functools.partial(_sweep, limit=limit)
        programs, seconds = {}, {variant: [] for variant in measured}
        start = time.perf_counter()
        for _ in range(min(3, settings.repetitions)):
            for variant, compiling in measured.items():
                programs[variant], found = compiling(_training(settings, n))
                seconds[variant].append(found)
            if time.perf_counter() - start > ENOUGH:
                break
        for variant in measured:
            row = {"network": NETWORK, "n_blocks": n, "variant": variant}
            rows.append(
                row | {"quantity": "programs", "value": programs[variant], "unit": "programs"}
            )
            rows.append(row | {"quantity": "compile", **summary(seconds[variant]), "unit": "s"})
    return rows


def _training(settings, n):
    return Training(Network(NETWORK, lambda: settings.many(n), batch_size=32, steps=n))


def _simultaneous(training):
    """One program, and the compile seconds of stock training."""
    schedule = layerwise.Simultaneous()
    training.epochs(schedule)
    return 1, schedule.compile_seconds


def _sweep(training, limit):
    """Programs and compile seconds of a first sweep."""
    schedule = layerwise.BlockCoordinate(max_programs=limit)
    training.epochs(schedule)
    return len(schedule.traces), schedule.compile_seconds
