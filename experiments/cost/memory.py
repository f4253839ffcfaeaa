"""memory: optimizer state and peak memory by state, each in a process of its own; activations saved on torch.

Two peaks are taken. That of the steps after the first one is what training holds: nothing is compiled any more. That of a
whole fit, in which every block has its turn, is what a machine must have: it includes what compilers take.
"""

import ctypes
import gc
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.cost.settings import settings as settings_of
from experiments.harness import figures, markdown
from experiments.harness.devices import device_peak, require, reset_device_peak
from experiments.harness.networks import Network
from experiments.harness.timing import Planned, Training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VARIANTS = ("simultaneous", "keep", "reset", "drop")


def measure(settings: Settings) -> list[dict]:
    """Rows of every network: bytes by state, and on torch the bytes saved for the backward pass by block."""
    rows = []
    for network, variant in itertools.product(settings.memory, VARIANTS):
        for peak in PEAKS:
            rows += _in_a_process(settings, network, variant, peak)
    if keras.backend.backend() == "torch":
        for network in settings.networks:
            rows += saved_activations(network)
    return rows


def of_steps(network: Network, variant: str) -> list[dict]:
    """Rows of this process: bytes of optimizer slots held after the first step, and peaks of the steps after it.

    The block that moves is the largest.
    """
    before = _resident("VmRSS")
    training = Training(network, steps=3)
    blocks = layerwise.partition(training.model, network.blocks)
    sizes = [4 * block.parameters for block in blocks]
    schedule = layerwise.Simultaneous()
    if variant != "simultaneous":
        schedule = Planned([int(np.argmax(sizes))], network.blocks, variant)
    held = _AfterFirstStep(schedule)
    training.epochs(schedule, callbacks=[held])
    found = [
        ("optimizer state", held.optimizer_state),
        ("peak resident memory", held.resident - before),
    ]
    if held.device is not None:
        found.append(("peak device memory", held.device))
    found += [
        ("largest block", max(sizes)),
        ("weights", sum(sizes)),
    ]
    return _rows(network, variant, len(blocks), found)


def of_whole_fit(network: Network, variant: str) -> list[dict]:
    """One row of this process: the peak of a fit in which each block moves in turn, compilation and all else included."""
    before = _resident("VmRSS")
    training = Training(network)
    schedule = layerwise.Simultaneous()
    if variant != "simultaneous":
        schedule = Planned(["cyclic"], network.blocks, variant)
        schedule.build(training.model)  # where the state is dropped, slots are never allocated
    _forget_peaks()
    training.epochs(schedule)
    found = [("peak resident memory of a whole fit", _resident("VmHWM") - before)]
    return _rows(network, variant, training.n_blocks, found)


PEAKS = {"steps": of_steps, "fit": of_whole_fit}


def _rows(network, variant, n_blocks, found):
    return [
        {"network": network.name, "n_blocks": n_blocks, "variant": variant}
        | {"quantity": quantity, "value": value, "unit": "bytes"}
        for quantity, value in found
    ]


def saved_activations(network: Network) -> list[dict]:
    """Rows of one network on torch: bytes that autograd keeps for the backward pass of each block's step."""
    import torch

    training = Training(network, steps=1)
    model, n = training.model, training.n_blocks
    weights = {v.value.untyped_storage().data_ptr() for v in model.variables}
    kept, rows = {}, []

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    x, y = training.batch()
    for block in ("simultaneous", *range(n)):
        schedule = None if block == "simultaneous" else Planned([block], network.blocks)
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            callbacks = [schedule] if schedule else []
            model.fit(x, y, batch_size=len(x), verbose=0, shuffle=False, callbacks=callbacks)
        rows.append((block, schedule.blocks[block].name if schedule else "", sum(kept.values())))
    return [
        {"network": network.name, "n_blocks": n, "block": block, "block_name": name}
        | {"quantity": "saved activations", "value": value, "unit": "bytes"}
        for block, name, value in rows
    ]


def figure(table: pd.DataFrame) -> "Figure":
    """Optimizer state after the first step, and the peak of the process in the steps after it."""
    import seaborn as sns

    quantities = [
        ("optimizer state", "MiB of optimizer state held"),
        ("peak resident memory", "MiB added to the process, peak after the first step"),
        ("peak resident memory of a whole fit", "MiB added, peak of a whole fit"),
        ("peak device memory", "MiB, peak on the device"),
    ]
    states = table[table["variant"].notna()]
    kinds = [(q, text) for q, text in quantities if states["quantity"].eq(q).any()]
    networks = states["network"].unique()
    drawn, axes = figures.subplots(len(networks), len(kinds), 4, 1.7)
    for row, network in enumerate(networks):
        here = states[states["network"] == network]
        largest = 2 * here[here["quantity"] == "largest block"]["value"].max() / 2**20
        for ax, (quantity, text) in zip(axes[row], kinds, strict=True):
            sns.barplot(
                here[here["quantity"] == quantity].assign(MiB=lambda f: f["value"] / 2**20),
                y="variant",
                x="MiB",
                hue="backend",
                hue_order=figures.backends_of(table),
                palette=figures.colors(),
                ax=ax,
                legend=row == 0 and quantity == kinds[0][0],
            )
            if quantity == "optimizer state":
                ax.axvline(largest, **figures.LIMIT)
            ax.set(xlabel=text, ylabel="", title=network)
    if axes[0, 0].get_legend():
        handles, names = axes[0, 0].get_legend_handles_labels()
        axes[0, 0].get_legend().remove()
        drawn.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    drawn.suptitle(
        "Memory with Adam while the largest block moves, by what becomes of the state (dashed: twice that block's bytes)"
    )
    return drawn


def activations_figure(table: pd.DataFrame) -> "Figure | None":
    """Bytes that torch keeps for the backward pass of each block's step."""
    table = table[table["quantity"] == "saved activations"]
    if table.empty:
        return None
    networks, color = table["network"].unique(), figures.colors()["torch"]
    drawn, axes = figures.subplots(1, len(networks), 2.8, 2.4)
    for ax, network in zip(axes[0], networks, strict=True):
        here = table[table["network"] == network]
        blocks = here[here["block"].str.isdigit()]
        ax.plot(blocks["block"].astype(int), blocks["value"] / 2**20, "o-", color=color)
        everything = here[here["block"] == "simultaneous"]["value"].iloc[0]
        ax.axhline(everything / 2**20, **figures.LIMIT)
        ax.set(
            xlabel="block that moves (0 is at the input)",
            ylabel="MiB",
            title=network,
            ylim=(0, None),
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
    drawn.suptitle("torch: activations saved for the backward pass; dashed: when all blocks move")
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Optimizer state over the weights of the largest block, with and without what resting blocks hold."""
    states = rows[
        rows["quantity"].isin(["optimizer state", "largest block"])
        & rows["variant"].isin(["simultaneous", "drop"])
    ]
    for (network, variant), group in states.groupby(["network", "variant"], sort=False):
        held = group.set_index("quantity")["value"]
        ratio = held["optimizer state"] / held["largest block"]
        yield f"optimizer state / largest block, {network}, {variant}", f"{ratio:.3g}"


def short(rows: pd.DataFrame) -> Iterator[str]:
    """A sentence for each network: peaks of memory with and without what resting blocks hold, over all layers at once; on a
    GPU those of its own memory.
    """
    on_gpu = rows["quantity"].eq("peak device memory").any()
    quantity = "peak device memory" if on_gpu else "peak resident memory"
    taken = (
        "takes {} times as much of the GPU's memory" if on_gpu else "adds {} times as much memory"
    )
    for network, here in rows[rows["quantity"].eq(quantity)].groupby("network", sort=False):
        added = here.pivot_table("value", "backend", "variant", sort=False)
        if not {"simultaneous", "keep", "drop"} <= set(added):
            continue
        ratios = {way: added[way] / added["simultaneous"] for way in ("keep", "drop")}
        kept, dropped = (markdown.listed(ratio, ratio.index) for ratio in ratios.values())
        yield (
            f"While the largest block moves ({network}, Adam), training {taken.format(kept)} as while all "
            f'move, and {dropped} where `state="drop"` gives back what the optimizer keeps of the others.'
        )


class _AfterFirstStep(keras.callbacks.Callback):
    """Bytes of optimizer state, and peaks of the steps after the first one. At the end of fit all state is back."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.optimizer_state = self.schedule.optimizer_state_bytes()
            _forget_peaks()
        self.resident, self.device = _resident("VmHWM"), device_peak()


def _forget_peaks():
    """What was freed goes back to the system, and peaks begin at what is held now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # malloc_trim(3)
    reset_device_peak()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins at VmRSS: proc(5)


def _resident(name):
    """Bytes; not from `getrusage`, which counts what the parent process held when it started this one."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s*(\d+) kB", status)[1]) * 1024


def _in_a_process(settings, network, variant, peak):
    command = [sys.executable, "-m", "experiments.cost.memory"]
    dtype = keras.config.dtype_policy().name
    command += [settings.scale, settings.device, dtype, network.name, variant, peak]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


PART = Part("memory", measure, {"memory": figure, "activations": activations_figure}, answer, short)

if __name__ == "__main__":
    _scale, _device, _dtype, _name, _variant, _peak = sys.argv[1:]
    require(_device)
    keras.config.set_dtype_policy(_dtype)
    _networks = {network.name: network for network in settings_of(_scale, _device).memory}
    print(json.dumps(PEAKS[_peak](_networks[_name], _variant)))
