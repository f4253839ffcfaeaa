"""programs: compiled programs, and the seconds they take, against the number of blocks."""

import layerwise
from experiments.cost.networks import Network
from experiments.cost.timing import Training, summary


def measure(settings):
    """Rows for each number of blocks: one simultaneous step, and a first sweep over the blocks."""
    _simultaneous(_training(settings, 2))  # what a framework does once
    rows = []
    for n in sorted({*settings.counts, *settings.shared_counts}):
        repetitions = min(3, settings.repetitions) if n <= 20 else 1
        found = [
            (
                n,
                "simultaneous",
                1,
                [_simultaneous(_training(settings, n)) for _ in range(repetitions)],
            )
        ]
        limits = [None] * (n in settings.counts) + [settings.max_programs] * (
            n in settings.shared_counts
        )
        for limit in limits:
            sweeps = [_sweep(_training(settings, n), limit) for _ in range(repetitions)]
            name = "a program for each block" if limit is None else f"max_programs={limit}"
            found.append((n, name, sweeps[0][0], [seconds for _, seconds in sweeps]))
        for n_blocks, variant, programs, seconds in found:
            row = {"network": "dense 32", "n_blocks": n_blocks, "variant": variant}
            rows.append(row | {"quantity": "programs", "value": programs, "unit": "programs"})
            rows.append(row | {"quantity": "compile", **summary(seconds), "unit": "s"})
    return rows


def _training(settings, n):
    return Training(Network("dense 32", lambda: settings.many(n), batch_size=32, steps=n))


def _simultaneous(training):
    schedule = layerwise.Simultaneous()
    training.epochs(schedule)
    return schedule.compile_seconds


def _sweep(training, limit):
    """Programs and compile seconds of a first sweep."""
    schedule = layerwise.BlockCoordinate(max_programs=limit)
    training.epochs(schedule)
    return len(schedule.traces), schedule.compile_seconds
