"""greedy: a greedy run with and without cached features, over a simultaneous run of one stage's epochs."""

import time

import numpy as np

import layerwise
from experiments.cost.timing import Training, summary

CACHES = {"no cache": None, "cached in memory": "memory", "cached on disk": "disk"}


def measure(settings):
    """Rows of the network of equal blocks: seconds of whole runs, less those of calls that compiled."""
    training, epochs = Training(settings.greedy), settings.stage_epochs
    schedules = {
        name: layerwise.GreedyLayerwise(settings.greedy.blocks, epochs_per_block=epochs)
        for name in CACHES
    }

    def repetition():
        found = {"simultaneous": _simultaneous(training, epochs)}
        return found | {
            name: _greedy(training, schedule, epochs, CACHES[name])
            for name, schedule in schedules.items()
        }

    training.epochs()  # compiles
    found = [repetition() for _ in range(settings.repetitions)]
    rows = []
    for name in found[0]:
        seconds = np.array([one[name] for one in found])
        ratios = seconds / [one["simultaneous"] for one in found]
        rows.append((name, "run", summary(seconds), "s"))
        rows.append((name, "run over a simultaneous run", summary(ratios), "ratio"))
    return [
        {"network": settings.greedy.name, "n_blocks": training.n_blocks, "variant": variant}
        | {"quantity": quantity, **numbers, "unit": unit}
        for variant, quantity, numbers, unit in rows
    ]


def _simultaneous(training, epochs):
    start = time.perf_counter()
    training.epochs(epochs=epochs)
    return time.perf_counter() - start


def _greedy(training, schedule, epochs, cache):
    schedule.restart()
    start = time.perf_counter()
    schedule.fit(
        training.model,
        training.x,
        training.y,
        cache_features=cache,
        batch_size=training.network.batch_size,
        epochs=epochs * training.n_blocks,
        shuffle=False,
        verbose=0,
    )
    return time.perf_counter() - start - schedule.compile_seconds
