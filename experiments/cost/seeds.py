"""seeds: several runs as one batch of runs (`jax.vmap`), over one run after the other, in hand-written loops on JAX.

A comparison carries out its runs one by one. Where a device has room beside one of them, several could go as one, each with
weights, optimizer state and batches of its own.
"""

import functools
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

from experiments.cost.by_hand import compiled, jax_epoch
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import figures, markdown, models
from experiments.harness.data import load
from experiments.harness.timing import summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COUNTS = {"cpu": (1, 4, 16), "gpu": (1, 4, 16, 64)}
BATCH_SIZE = 64


def measure(settings: Settings) -> list[dict]:
    """Rows of each network: seconds of an epoch for each of some runs at once, and runs an hour over one by one."""
    if keras.backend.backend() != "jax":
        return []
    _, digits, classes = load("digits")
    shape, counts = digits.train[0].shape[1:], COUNTS[settings.device]
    rows = []
    for network, build in {"digits mlp": models.mlp, "digits convnet": models.convnet}.items():
        ways = {n: _epoch(functools.partial(build, shape, classes), digits, n) for n in counts}
        seconds = [{n: way() / n for n, way in ways.items()} for _ in range(settings.repetitions)]
        for n in counts:
            own = np.array([each[n] for each in seconds])
            one = np.array([each[1] for each in seconds])
            for quantity, values, unit in (
                ("an epoch of a run", own, "s"),
                ("runs an hour over one by one", one / own, "ratio"),
            ):
                row = {"network": network, "variant": f"{n} at once", "quantity": quantity}
                rows.append({**row, **summary(values), "unit": unit})
    return rows


def _epoch(build, data, n):
    """A call that takes the seconds of an epoch of `n` runs at once; everything is compiled."""
    import jax
    import jax.numpy as jnp

    model = compiled(build)
    model.optimizer.build(model.trainable_variables)
    start, _, epoch = jax_epoch(model, *data.source.batch(slice(None)))
    batches = [next(data.source.epochs(seed, BATCH_SIZE)) for seed in range(n)]
    rows = jnp.asarray(np.stack(batches))
    state = jax.tree.map(lambda value: jnp.stack([value] * n), start())
    at_once = jax.jit(jax.vmap(epoch), donate_argnums=0)

    def timed():
        nonlocal state
        begun = time.perf_counter()
        state, losses = at_once(state, rows)
        np.asarray(losses)
        return time.perf_counter() - begun

    timed()
    return timed


def figure(table: pd.DataFrame) -> "Figure | None":
    """How many times as many runs an hour, by how many go at once."""
    here = table[table["quantity"].eq("runs an hour over one by one")]
    if here.empty:
        return None
    networks = list(here["network"].unique())
    drawn, axes = figures.subplots(1, len(networks), 2.8, 1.6)
    for ax, network in zip(axes[0], networks, strict=True):
        rows = here[here["network"].eq(network)]
        figures.dots(ax, rows["variant"], rows, figures.colors()["jax"], "ratio")
        ax.axvline(1, **figures.LIMIT)
        ax.set(title=network, xlim=(0, None))
    figures.label_edges(axes, "runs an hour / one by one", "")
    drawn.suptitle("Several runs as one batch of runs, hand-written on JAX (median, quartiles)")
    return drawn


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Runs an hour at once over one by one."""
    for _, row in _ratios(rows).iterrows():
        yield f"{row['quantity']}, {row['variant']}, {row['network']}", markdown.median(row)


def short(rows: pd.DataFrame) -> Iterator[str]:
    """A sentence for each network: how many times as many runs an hour, by how many go at once."""
    for (network, device), found in _ratios(rows).groupby(["network", "device"], sort=False):
        ratios = markdown.listed(found["value"], found["variant"])
        yield (
            f"Runs as one batch of runs ({network}, hand-written on JAX, {device}): {ratios} times as many an hour as one "
            "by one."
        )


def _ratios(rows):
    """The rows of several at once over one by one."""
    return rows[rows["unit"].eq("ratio") & rows["variant"].ne("1 at once")]


PART = Part("seeds", measure, {"seeds": figure}, answer, short)
