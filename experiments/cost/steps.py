"""steps: the step of each block, and of a new block at each step, over the simultaneous step in the same run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import layerwise
from experiments.cost.part import Part, one
from experiments.cost.settings import Settings
from experiments.harness import figures, markdown
from experiments.harness.networks import Network
from experiments.harness.timing import Planned, Training, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHUNK = 2  # epochs between two looks at the simultaneous step, so that both see the same machine


def measure(settings: Settings) -> list[dict]:
    """Rows for every network."""
    return [
        row for network in settings.networks for row in of_network(network, settings.repetitions)
    ]


def of_network(network: Network, repetitions: int) -> list[dict]:
    """Rows of one network: seconds and ratios of each block, their mean, and the switching; the counted FLOPs."""
    training = Training(network)
    n = training.n_blocks
    schedule = Planned([*range(n), "cyclic"], network.blocks)
    _round(training, schedule)  # compiles
    rounds = [_round(training, schedule) for _ in range(repetitions)]
    simultaneous = np.array([stock for stock, _ in rounds])  # repetition, epoch
    seconds = np.array([blocks for _, blocks in rounds])
    ratios = seconds / simultaneous
    batch = training.batch()
    everything = schedule.flops(layerwise.Update(blocks=None), *batch)
    limits = [schedule.flops(layerwise.Update(blocks=(k,)), *batch) / everything for k in range(n)]

    names = [block.name for block in schedule.blocks]
    cyclic = seconds[:, n] / seconds[:, :n].mean(axis=1)
    found = [("simultaneous", "", "step", summary(simultaneous.mean(axis=1)), "s")]
    for k, name in enumerate(names):
        found.append((k, name, "step", summary(seconds[:, k]), "s"))
        found.append((k, name, "step ratio", summary(ratios[:, k]), "ratio"))
        found.append((k, name, "FLOP ratio", {"value": limits[k]}, "ratio"))
    found += [
        ("mean", "", "step ratio", summary(ratios[:, :n].mean(axis=1)), "ratio"),
        ("mean", "", "FLOP ratio", {"value": np.mean(limits)}, "ratio"),
        ("simultaneous", "", "FLOPs", {"value": everything}, "FLOPs"),
        ("cyclic", "", "step", summary(seconds[:, n]), "s"),
        ("cyclic", "", "step ratio", summary(ratios[:, n]), "ratio"),
        ("cyclic", "", "switching ratio", summary(cyclic), "ratio"),
    ]
    return [
        {
            "network": network.name,
            "n_blocks": n,
            "block": block,
            "block_name": name,
        }
        | {"quantity": quantity, **numbers, "unit": unit}
        for block, name, quantity, numbers, unit in found
    ]


def figure(table: pd.DataFrame) -> "Figure":
    """The step of each block over the simultaneous step, beside the counted FLOPs."""
    ratios = table[table["quantity"].isin(["step ratio", "FLOP ratio"])]
    names = [name for name, _ in ratios.groupby("network", sort=False)]
    backends, colors = figures.backends_of(table), figures.colors()
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
    drawn, axes = figures.subplots(len(names), len(backends), 2.5, 1.9, sharey=True)
    for row, network in enumerate(names):
        for column, backend in enumerate(backends):
            ax = axes[row, column]
            here = ratios.query("network == @network and backend == @backend")
            blocks = here[here["block"].str.isdigit() & here["quantity"].eq("step ratio")]
            limits = here[here["block"].str.isdigit() & here["quantity"].eq("FLOP ratio")]
            if blocks.empty:
                ax.set_visible(False)
                continue
            ax.plot(limits["block"].astype(int), limits["value"], **figures.LIMIT)
            figures.points(ax, blocks["block"].astype(int), blocks, colors[backend])
            ax.axhline(1, color="0.6", linewidth=0.8)
            mean = here[here["block"] == "mean"].set_index("quantity")["value"]
            text = f"mean {mean['step ratio']:.2f}; FLOPs {mean['FLOP ratio']:.2f}"
            ax.text(0.03, 0.05, text, transform=ax.transAxes, fontsize=8, bbox=box)
            ax.set_title(f"{backend}: {network}")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.set_ylim(bottom=0)
    figures.label_edges(axes, "block (0 is at the input)", "step / simultaneous step")
    drawn.suptitle(
        "Seconds of an Adam step that moves one block, over one that moves all (median, quartiles); dashed: by FLOPs"
    )
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """The mean step of one block, what FLOPs say of it, and whether changing the block costs a step more."""
    for name, group in rows.groupby("network", sort=False):
        for what, block, quantity in (
            ("block step / simultaneous step", "mean", "step ratio"),
            ("by counted FLOPs", "mean", "FLOP ratio"),
            ("switching every step / never", "cyclic", "switching ratio"),
        ):
            yield f"{what}, {name}", markdown.median(one(group, block=block, quantity=quantity))


def short(rows: pd.DataFrame) -> Iterator[str]:
    """A sentence for each network: what the mean step of one block takes, by backend."""
    means = rows[(rows["block"] == "mean") & (rows["quantity"] == "step ratio")]
    where = ["backend", *(name for name in ("device", "dtype") if means[name].nunique() > 1)]
    for (network, n), found in means.groupby(["network", "n_blocks"], sort=False):
        places = found[where].agg(", ".join, axis=1)
        taken = markdown.listed(found["value"], places)
        yield (
            f"A step that moves one of {n:g} blocks ({network}) takes {taken} times as long as one that "
            "moves all."
        )


def _round(training, schedule):
    """Seconds per step of each entry of the plan, and of the simultaneous steps before and after it."""
    stock, seconds = [], []
    before = training.epochs()[0]
    while len(seconds) < len(schedule.plan):
        chunk = min(CHUNK, len(schedule.plan) - len(seconds))
        seconds += training.epochs(schedule, chunk)
        after = training.epochs()[0]
        stock += [(before + after) / 2] * chunk
        before = after
    return stock, seconds


PART = Part("steps", measure, {"steps": figure}, answer, short)
