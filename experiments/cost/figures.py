"""Figures of the tables; none of them measures. One file for each device and data type."""

import re
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.cost import tables

_BACKENDS = ("tensorflow", "jax", "torch")
_COLORS = dict(zip(_BACKENDS, sns.color_palette("colorblind"), strict=False))
_LIMIT = {"color": "0.25", "linestyle": (0, (4, 2)), "linewidth": 1.2}
_FACTORS = {"s": 1e3, "ratio": 1}  # seconds are shown as milliseconds


def draw(folder):
    """Draws every figure that the tables in a folder hold; returns the paths."""
    folder, paths = Path(folder), []
    for name, (part, figure) in FIGURES.items():
        table = tables.read(folder, part)
        devices = table.groupby(["device", "dtype"], sort=False)
        for (device, dtype), rows in devices:
            style = {**sns.axes_style("whitegrid"), "font.size": 9, "axes.titlesize": 10}
            with matplotlib.rc_context(
                {**style, "savefig.dpi": 150, "figure.constrained_layout.use": True}
            ):
                drawn = figure(rows)
                if drawn is None:
                    continue
                lines = [drawn.get_suptitle(), _origin(rows, device, dtype)]
                characters = int(13 * drawn.get_figwidth())
                lines = [part for line in lines for part in textwrap.wrap(line, characters)]
                drawn.suptitle("\n".join(lines), fontsize=10)
            words = [name]
            if len(devices) > 1:
                words.append(re.sub(r"[^\w.]+", "_", f"{device}_{dtype}"))
            path = folder / f"{'-'.join(words)}.png"
            drawn.savefig(path)
            paths.append(path)
    return paths


def steps(table):
    """The step of each block over the simultaneous step, beside the counted FLOPs."""
    ratios = table[table["quantity"].isin(["step ratio", "FLOP ratio"])]
    names = [name for name, _ in ratios.groupby("network", sort=False)]
    backends = _present(table)
    figure, axes = _subplots(len(names), len(backends), 2.5, 1.9, sharey=True)
    for row, network in enumerate(names):
        for column, backend in enumerate(backends):
            ax = axes[row, column]
            here = ratios.query("network == @network and backend == @backend")
            blocks = here[here["block"].str.isdigit() & here["quantity"].eq("step ratio")]
            limits = here[here["block"].str.isdigit() & here["quantity"].eq("FLOP ratio")]
            if blocks.empty:
                ax.set_visible(False)
                continue
            ax.plot(limits["block"].astype(int), limits["value"], **_LIMIT)
            _points(ax, blocks["block"].astype(int), blocks, _COLORS[backend])
            ax.axhline(1, color="0.6", linewidth=0.8)
            mean = here[here["block"] == "mean"].set_index("quantity")["value"]
            text = f"mean {mean['step ratio']:.2f}; FLOPs {mean['FLOP ratio']:.2f}"
            ax.text(0.03, 0.05, text, transform=ax.transAxes, fontsize=8, bbox=_BOX)
            ax.set_title(f"{backend}: {network}")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.set_ylim(bottom=0)
    _labels(axes, "block (0 is at the input)", "step / simultaneous step")
    figure.suptitle(
        "Seconds of an Adam step that moves one block, over one that moves all (median, quartiles); dashed: by FLOPs"
    )
    return figure


def switches(table):
    """Seconds that a change of block takes."""
    wanted = table[table["quantity"].eq("switch")]
    figure, axes = _subplots(1, len(_present(table)), 3.2, 2.2, sharex=True, sharey=True)
    for ax, backend in zip(axes[0], _present(table), strict=True):
        here = wanted[wanted["backend"] == backend]
        one = table.query(
            "backend == @backend and variant == 'simultaneous' and quantity == 'step'"
        )
        names = [_SWITCHES[name] for name in here["variant"]]
        _dots(ax, names, here, _COLORS[backend], "s")
        ax.axvline(one["value"].iloc[0] * 1e3, **_LIMIT)
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.set_title(backend)
        ax.set_xlabel("ms a switch takes")
    figure.suptitle(
        "What a change of block costs (median, quartiles); dashed: one simultaneous step"
    )
    return figure


def programs(table):
    """Programs and compile seconds against the number of blocks; torch compiles nothing."""
    table = table[table["backend"] != "torch"]
    if table.empty:
        return None
    figure, axes = _subplots(1, 2, 4.2, 3)
    networks = ", ".join(table["network"].unique())
    for ax, quantity in zip(axes[0], ("programs", "compile"), strict=True):
        here = table[table["quantity"].eq(quantity) & table["value"].gt(0)]
        sns.lineplot(
            here,
            x="n_blocks",
            y="value",
            hue="backend",
            style="variant",
            hue_order=_present(table),
            palette=_COLORS,
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
    figure.suptitle("First sweep over all blocks")
    return figure


def memory(table):
    """Optimizer state after the first step, and the peak of the process in the steps after it."""
    quantities = [
        ("optimizer state", "MiB of optimizer state held"),
        ("peak resident memory", "MiB added to the process, peak after the first step"),
        ("peak device memory", "MiB, peak on the device"),
    ]
    states = table[table["variant"].notna()]
    kinds = [(q, text) for q, text in quantities if states["quantity"].eq(q).any()]
    networks = states["network"].unique()
    figure, axes = _subplots(len(networks), len(kinds), 4, 1.7)
    for row, network in enumerate(networks):
        here = states[states["network"] == network]
        largest = 2 * here[here["quantity"] == "largest block"]["value"].max() / 2**20
        for ax, (quantity, text) in zip(axes[row], kinds, strict=True):
            sns.barplot(
                here[here["quantity"] == quantity].assign(MiB=lambda f: f["value"] / 2**20),
                y="variant",
                x="MiB",
                hue="backend",
                hue_order=_present(table),
                palette=_COLORS,
                ax=ax,
                legend=row == 0 and quantity == kinds[0][0],
            )
            if quantity == "optimizer state":
                ax.axvline(largest, **_LIMIT)
            ax.set(xlabel=text, ylabel="", title=network)
    if axes[0, 0].get_legend():
        handles, names = axes[0, 0].get_legend_handles_labels()
        axes[0, 0].get_legend().remove()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    figure.suptitle(
        "Memory with Adam while the largest block moves, by what becomes of the state (dashed: twice that block's bytes)"
    )
    return figure


def activations(table):
    """Bytes that torch keeps for the backward pass of each block's step."""
    table = table[table["quantity"] == "saved activations"]
    if table.empty:
        return None
    networks = table["network"].unique()
    figure, axes = _subplots(1, len(networks), 2.8, 2.4)
    for ax, network in zip(axes[0], networks, strict=True):
        here = table[table["network"] == network]
        blocks = here[here["block"].str.isdigit()]
        ax.plot(blocks["block"].astype(int), blocks["value"] / 2**20, "o-", color=_COLORS["torch"])
        everything = here[here["block"] == "simultaneous"]["value"].iloc[0]
        ax.axhline(everything / 2**20, **_LIMIT)
        ax.set(
            xlabel="block that moves (0 is at the input)",
            ylabel="MiB",
            title=network,
            ylim=(0, None),
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
    figure.suptitle("torch: activations saved for the backward pass; dashed: when all blocks move")
    return figure


def greedy(table):
    """Seconds of a greedy run over those of a simultaneous run with one stage's epochs."""
    here = table[
        table["quantity"].eq("run over a simultaneous run") & table["variant"].ne("simultaneous")
    ]
    blocks, backends = int(here["n_blocks"].iloc[0]), _present(table)
    figure, axes = _subplots(1, len(backends), 2.8, 1.6, sharex=True, sharey=True)
    for ax, backend in zip(axes[0], backends, strict=True):
        rows = here[here["backend"] == backend]
        _dots(ax, rows["variant"], rows, _COLORS[backend], "ratio")
        ax.axvline(1, **_LIMIT)
        ax.set(title=backend, xlabel="run / simultaneous run")
    figure.suptitle(
        f"Greedy, {blocks} equal blocks, over a simultaneous run with the epochs of one stage (dashed: as long)"
    )
    return figure


def baselines(table):
    """Seconds per step of block-coordinate Adam by different ways."""
    here = table[table["quantity"] == "step"]
    visits, backends = sorted(here["every"].unique()), _present(table)
    figure, axes = _subplots(len(visits), len(backends), 2.9, 1.7, sharex=True, sharey="row")
    for row, every in enumerate(visits):
        for ax, backend in zip(axes[row], backends, strict=True):
            rows = here.query("backend == @backend and every == @every")
            if rows.empty:
                ax.set_visible(False)
                continue
            _dots(ax, rows["variant"], rows, _COLORS[backend], "s")
            ours = rows[rows["variant"] == "layerwise"]["value"].iloc[0]
            ax.axvline(ours * 1e3, **_LIMIT)
            ax.set(
                title=f"{backend}: visits of {every:g} {'step' if every == 1 else 'steps'}",
                xscale="log",
            )
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_formatter(NullFormatter())
    _labels(axes, "ms per step", "")
    network, blocks = here["network"].iloc[0], int(here["n_blocks"].iloc[0])
    figure.suptitle(
        f"Block-coordinate Adam on {blocks} blocks ({network}) by different ways (median, quartiles); dashed: layerwise"
    )
    return figure


FIGURES = {
    "steps": ("steps", steps),
    "switches": ("switches", switches),
    "programs": ("programs", programs),
    "memory": ("memory", memory),
    "activations": ("memory", activations),
    "greedy": ("greedy", greedy),
    "baselines": ("baselines", baselines),
}

_BOX = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
_SWITCHES = {
    "keep": "layerwise, state='keep'",
    "reset": "layerwise, state='reset'",
    "drop": "layerwise, state='drop'",
    "trainable and compile": "trainable and compile",
}


def _present(table):
    return [backend for backend in _BACKENDS if backend in set(table["backend"])]


def _subplots(rows, columns, width, height, **options):
    figure = Figure(figsize=(1.2 + width * columns, 0.8 + height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _labels(axes, x, y):
    for ax in axes[-1]:
        ax.set_xlabel(x)
    for ax in axes[:, 0]:
        ax.set_ylabel(y)


def _points(ax, x, rows, color):
    ax.vlines(x, rows["low"], rows["high"], color=color, linewidth=1.5)
    ax.plot(x, rows["value"], "o", color=color, markersize=4)


def _dots(ax, names, rows, color, unit):
    """A line for each row: median, quartiles, and the number."""
    factor = _FACTORS[unit]
    places = np.arange(len(rows))
    values = rows["value"].to_numpy() * factor
    ax.hlines(places, rows["low"] * factor, rows["high"] * factor, color=color, linewidth=2.5)
    ax.plot(values, places, "o", color=color, markersize=6)
    for place, value in zip(places, values, strict=True):
        ax.annotate(
            f"{value:.3g}",
            (value, place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )
    ax.set_yticks(places, list(names))
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.margins(x=0.15)


def _origin(rows, device, dtype):
    scales = "/".join(rows["scale"].unique())
    return f"{device}, {dtype}; {scales} scale, {pd.to_datetime(rows['started_at']).max():%Y-%m-%d}"
