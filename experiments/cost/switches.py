"""switches: what changing the block costs, with each optimizer state, and by `trainable` and `compile`."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
import pandas as pd

from experiments.cost.part import Part, one
from experiments.cost.recompile import Recompiling
from experiments.cost.settings import Settings
from experiments.harness import figures, markdown
from experiments.harness.timing import Planned, Training, summary
from layerwise.optimizers import StateAtVisits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATES = ("keep", "reset", "drop")
NAMES = {state: f"layerwise, state='{state}'" for state in STATES}
NAMES["trainable and compile"] = "trainable and compile"
CYCLIC_EPOCHS = 5  # of which the mean is taken: a switch is small beside the noise of an epoch


def measure(settings: Settings) -> list[dict]:
    """Rows of the network of equal blocks.

    "switch" is timed by itself: what the schedule does before the step that begins a visit. "step with a switch" shows
    whatever else it may cost, beside steps of the same blocks that never change.
    """
    training = Training(settings.baseline)
    n = training.n_blocks
    staying = Planned([*range(n), *["cyclic"] * CYCLIC_EPOCHS], settings.baseline.blocks)
    schedules = {state: Planned(["cyclic"], settings.baseline.blocks, state) for state in STATES}

    def repetition():
        every = training.epochs(staying, n + CYCLIC_EPOCHS)
        seconds = {"staying": np.mean(every[:n]), "keep": np.mean(every[n:])}
        for state in STATES[1:]:
            seconds[state] = np.mean(training.epochs(schedules[state], CYCLIC_EPOCHS))
        return seconds | {"simultaneous": training.epochs()[0]}

    repetition()  # compiles
    found = [repetition() for _ in range(settings.repetitions)]
    seconds = {name: np.array([one[name] for one in found]) for name in found[0]}
    switching = {state: _switching(training, schedules[state]) for state in STATES}
    recompiling = _recompiling(training, staying.blocks)

    rows = []
    for name in STATES:
        over_staying = summary(seconds[name] / seconds["staying"])
        over_simultaneous = summary(switching[name] / np.median(seconds["simultaneous"]))
        recompiling_over = summary(np.median(recompiling) / switching[name])
        rows += [
            (name, "switch", summary(switching[name]), "s"),
            (name, "switch over a simultaneous step", over_simultaneous, "ratio"),
            (name, "trainable and compile over a switch", recompiling_over, "ratio"),
            (name, "step with a switch", summary(seconds[name]), "s"),
            (name, "step with a switch over one without", over_staying, "ratio"),
        ]
    rows += [
        ("staying", "step", summary(seconds["staying"]), "s"),
        ("simultaneous", "step", summary(seconds["simultaneous"]), "s"),
        ("trainable and compile", "switch", summary(recompiling), "s"),
    ]
    return [
        {"network": settings.baseline.name, "n_blocks": n, "variant": variant, "quantity": quantity}
        | {**numbers, "unit": unit}
        for variant, quantity, numbers, unit in rows
    ]


@contextlib.contextmanager
def seconds_of_switches() -> Iterator[list[float]]:
    """Inside, the seconds of what a schedule does before each Update, begun visits included, join the list.

    The only place of the experiments that reaches into how a schedule trains: the method that makes optimizer slots ready
    for an Update is replaced by one that also looks at the clock.
    """
    found, original = [], StateAtVisits.prepare

    def timed(*arguments):
        start = time.perf_counter()
        result = original(*arguments)
        found.append(time.perf_counter() - start)
        return result

    with mock.patch.object(StateAtVisits, "prepare", timed):
        yield found


def figure(table: pd.DataFrame) -> "Figure":
    """Seconds that a change of block takes."""
    wanted = table[table["quantity"].eq("switch")]
    backends, colors = figures.backends_of(table), figures.colors()
    drawn, axes = figures.subplots(1, len(backends), 3.2, 2.2, sharex=True, sharey=True)
    for ax, backend in zip(axes[0], backends, strict=True):
        here = wanted[wanted["backend"] == backend]
        step = one(table, backend=backend, variant="simultaneous", quantity="step")["value"]
        figures.dots(ax, [NAMES[name] for name in here["variant"]], here, colors[backend], "s")
        ax.axvline(step * 1e3, **figures.LIMIT)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(backend)
        ax.set_xlabel("ms a switch takes")
    drawn.suptitle(
        "What a change of block costs (median, quartiles); dashed: one simultaneous step"
    )
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Milliseconds of a switch in each way."""
    for variant in NAMES:
        row = one(rows, variant=variant, quantity="switch")
        yield f"ms a switch takes, {variant}", markdown.median(row, 1e3)


def _switching(training, schedule):
    """Seconds of each switch of an epoch, of which the first is left out."""
    training.epochs(schedule)  # compiles
    with seconds_of_switches() as found:
        training.epochs(schedule, CYCLIC_EPOCHS)
    return np.array(found[1:])


def _recompiling(training, blocks):
    """Seconds that a switch adds to a step, of the first, the middle and the last block.

    JAX compiles at the second step again: its arrays come from a program now. So three steps pay for a switch.
    """
    way, batch, found = Recompiling(training, blocks), training.batch(), []
    for index in (0, len(blocks) // 2, len(blocks) - 1):
        start = time.perf_counter()
        way.switch(index)
        for _ in range(3):
            training.model.train_on_batch(*batch)
        settled = time.perf_counter()
        training.model.train_on_batch(*batch)
        found.append(settled - start - 3 * (time.perf_counter() - settled))
    way.undo()
    return np.array(found)


PART = Part("switches", measure, {"switches": figure}, answer)
