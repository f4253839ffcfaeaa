"""baselines: a step of block-coordinate Adam, ours and by other people's ways, on the same visits."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.cost import badam
from experiments.cost.part import Part
from experiments.cost.recompile import Recompiling
from experiments.cost.settings import Settings
from experiments.harness import figures, markdown
from experiments.harness.timing import Training, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def measure(settings: Settings) -> list[dict]:
    """Rows of seconds per step for each length of a visit, and their ratio to ours in the same repetition.

    A masked gradient costs the same whatever the visits are: it is measured with the shortest ones.
    """
    return [row for every in settings.visits for row in of_visits(settings, every)]


def of_visits(settings: Settings, every: int) -> list[dict]:
    """Rows of one length of a visit: repetitions interleaved, each a sweep over all blocks."""
    network = settings.baseline
    blocks = layerwise.partition(network.build(), network.blocks)
    training = Training(network, steps=every * len(blocks))
    schedule = layerwise.BlockCoordinate(network.blocks, every=every, state="reset")
    widths = [layer.kernel.shape[0] for layer in training.model.layers]
    widths.append(training.model.output_shape[-1])
    with badam.Process(widths, network.batch_size, training.steps, every) as published:
        ways = {"layerwise": lambda: training.epochs(schedule)[0], "badam (torch)": published.epoch}
        if every == min(settings.visits):
            masked = Training(network, steps=training.steps)
            mask_gradients(masked.model, blocks, every)
            ways["gradient of all layers, masked"] = lambda: masked.epochs()[0]
        for way in ways.values():
            way()  # compiles
        found = [{name: way() for name, way in ways.items()} for _ in range(settings.repetitions)]
    seconds = {name: np.array([one[name] for one in found]) for name in ways}
    ratios = {name: values / seconds["layerwise"] for name, values in seconds.items()}
    recompiled = _recompiled(training, schedule.blocks, every)
    seconds["trainable and compile"] = recompiled
    ratios["trainable and compile"] = recompiled / np.median(seconds["layerwise"])
    return [
        {"network": network.name, "n_blocks": len(blocks), "every": every, "variant": name}
        | {"quantity": quantity, **summary(values[name]), "unit": unit}
        for name in seconds
        for quantity, values, unit in (
            ("step", seconds, "s"),
            ("step over layerwise", ratios, "ratio"),
        )
    ]


def mask_gradients(model: keras.Model, blocks: layerwise.Blocks, every: int) -> None:
    """All gradients are computed, and those of blocks without a turn are multiplied by zero."""
    optimizer = model.optimizer
    stock = optimizer.apply
    places = [v for block in blocks for v in [block.index] * len(block.variables)]

    def apply(gradients, variables=None):
        turn = keras.ops.mod(keras.ops.floor_divide(optimizer.iterations, every), len(blocks))
        mask = [keras.ops.cast(keras.ops.equal(turn, place), "float32") for place in places]
        gradients = [g * keras.ops.cast(m, g.dtype) for g, m in zip(gradients, mask, strict=True)]
        return stock(gradients, variables)

    optimizer.apply = apply


def figure(table: pd.DataFrame) -> "Figure":
    """Seconds per step of block-coordinate Adam by different ways."""
    from matplotlib.ticker import LogLocator, NullFormatter

    here = table[table["quantity"] == "step"]
    visits, backends = sorted(here["every"].unique()), figures.backends_of(table)
    colors = figures.colors()
    drawn, axes = figures.subplots(len(visits), len(backends), 2.9, 1.7, sharex=True, sharey="row")
    for row, every in enumerate(visits):
        for ax, backend in zip(axes[row], backends, strict=True):
            rows = here.query("backend == @backend and every == @every")
            if rows.empty:
                ax.set_visible(False)
                continue
            figures.dots(ax, rows["variant"], rows, colors[backend], "s")
            ours = rows[rows["variant"] == "layerwise"]["value"].iloc[0]
            ax.axvline(ours * 1e3, **figures.LIMIT)
            steps = "step" if every == 1 else "steps"
            ax.set(title=f"{backend}: visits of {every:g} {steps}", xscale="log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
    figures.label_edges(axes, "ms per step", "")
    network, blocks = here["network"].iloc[0], int(here["n_blocks"].iloc[0])
    drawn.suptitle(
        f"Block-coordinate Adam on {blocks} blocks ({network}) by different ways (median, quartiles); dashed: layerwise"
    )
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each other way over ours, by the length of a visit."""
    ratios = rows[rows["quantity"].eq("step over layerwise") & rows["variant"].ne("layerwise")]
    for _, row in ratios.iterrows():
        yield f"step of {row['variant']} / ours, visits of {row['every']:g}", markdown.median(row)


def _recompiled(training, blocks, every):
    """Seconds per step of the visits of the first, the middle and the last block, their switches included."""
    way, found = Recompiling(training, blocks), []
    rows = every * training.network.batch_size
    for index in (0, len(blocks) // 2, len(blocks) - 1):
        start = time.perf_counter()
        way.switch(index)
        training.model.fit(
            training.x[:rows],
            training.y[:rows],
            batch_size=training.network.batch_size,
            shuffle=False,
            verbose=0,
        )
        found.append((time.perf_counter() - start) / every)
    way.undo()
    return np.array(found)


PART = Part("baselines", measure, {"baselines": figure}, answer)
