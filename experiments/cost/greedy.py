"""greedy: a greedy run with and without cached features, over a simultaneous run of one stage's epochs."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import layerwise
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import figures, markdown
from experiments.harness.timing import Training, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CACHES = {"no cache": None, "cached in memory": "memory", "cached on disk": "disk"}


def measure(settings: Settings) -> list[dict]:
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


def figure(table: pd.DataFrame) -> "Figure":
    """Seconds of a greedy run over those of a simultaneous run with one stage's epochs."""
    here = _ratios(table)
    blocks, backends = int(here["n_blocks"].iloc[0]), figures.backends_of(table)
    drawn, axes = figures.subplots(1, len(backends), 2.8, 1.6, sharex=True, sharey=True)
    for ax, backend in zip(axes[0], backends, strict=True):
        rows = here[here["backend"] == backend]
        figures.dots(ax, rows["variant"], rows, figures.colors()[backend], "ratio")
        ax.axvline(1, **figures.LIMIT)
        ax.set(title=backend, xlabel="run / simultaneous run")
    drawn.suptitle(
        f"Greedy, {blocks} equal blocks, over a simultaneous run with the epochs of one stage (dashed: as long)"
    )
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The same ratios, by cache."""
    for _, row in _ratios(rows).iterrows():
        name = f"greedy run / simultaneous run of a stage's epochs, {row['variant']}"
        yield name, markdown.median(row)


def _ratios(rows):
    return rows[
        rows["quantity"].eq("run over a simultaneous run") & rows["variant"].ne("simultaneous")
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


PART = Part("greedy", measure, {"greedy": figure}, answer)
