"""programs: compiled programs, and the seconds they take, against the number of blocks."""

import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

import layerwise
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import figures
from experiments.harness.networks import Network
from experiments.harness.timing import Training, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORK = "dense 64"
ENOUGH = 60  # seconds after which a number of blocks is not measured again


def measure(settings: Settings) -> list[dict]:
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


def figure(table: pd.DataFrame) -> "Figure | None":
    """Programs and compile seconds against the number of blocks; torch compiles nothing."""
    import seaborn as sns

    table = table[table["backend"] != "torch"]
    if table.empty:
        return None
    drawn, axes = figures.subplots(1, 2, 4.2, 3)
    networks = ", ".join(table["network"].unique())
    for ax, quantity in zip(axes[0], ("programs", "compile"), strict=True):
        here = table[table["quantity"].eq(quantity) & table["value"].gt(0)]
        sns.lineplot(
            here,
            x="n_blocks",
            y="value",
            hue="backend",
            style="variant",
            hue_order=figures.backends_of(table),
            palette=figures.colors(),
            size="backend",
            sizes={"tensorflow": 4, "jax": 1.5},  # their lines may lie on each other
            markers=True,
            ax=ax,
            legend=quantity == "compile",
        )
        ax.set(xscale="log", yscale="log", xlabel=f"blocks ({networks})")
        ticks = sorted(here["n_blocks"].unique())
        ax.set_xticks(ticks, ticks)
        ax.minorticks_off()
        ax.yaxis.set_major_formatter("{x:g}")
    axes[0, 0].set_ylabel("compiled programs")
    axes[0, 1].set_ylabel("seconds in calls that compile")
    sns.move_legend(axes[0, 1], "upper left", bbox_to_anchor=(1, 1), frameon=False)
    drawn.suptitle("First sweep over all blocks")
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Compile seconds of a sweep over the most blocks; torch compiles none."""
    most = rows["n_blocks"].max()
    found = rows[rows["n_blocks"] == most].pivot(
        index="variant", columns="quantity", values="value"
    )
    ratios = found["compile"] / found.loc["simultaneous", "compile"]
    for variant in found.index[found["programs"] > 1]:
        name = f"compiling a sweep of {most} blocks / a simultaneous step, {variant}"
        yield name, f"{ratios[variant]:.3g}"


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


PART = Part("programs", measure, {"programs": figure}, answer)
