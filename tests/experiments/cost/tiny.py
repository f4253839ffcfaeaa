"""Networks and settings so small that every part is measured in seconds."""

import functools

import numpy as np
import pandas as pd

from experiments.cost.part import load
from experiments.cost.settings import Settings
from experiments.harness import figures, rows
from experiments.harness.networks import Network, dense

SMALL = Network("dense", functools.partial(dense, 3, 64), batch_size=256, steps=3)
TWO = Network("dense", functools.partial(dense, 2, 64), batch_size=256, steps=2)
SETTINGS = Settings(
    scale="quick",
    device="cpu",
    networks=(SMALL,),
    repetitions=1,
    many=functools.partial(dense, width=4),
    counts=(2, 3),
    shared_counts=(3,),
    max_programs=2,
    memory=(),
    greedy=TWO,
    stage_epochs=1,
    baseline=TWO,
    visits=(1, 2),
)


def of_backends(found, *backends):
    """Return rows as a run leaves them, once for each backend."""
    identity = {"device": "a processor", "dtype": "float32"}
    origin = {"scale": "quick", "started_at": "2026-01-01T00:00:00+00:00"}
    return [{"backend": name, **identity, **row, **origin} for name in backends for row in found]


def shown(name, found, folder):
    """Draw a part's figures from a file with its rows; return their names and its lines of the answer."""
    rows.add(folder, name, of_backends(found, "jax", "torch"))
    table, part = rows.read(folder, name), load(name)
    assert part.name == name
    paths = [
        path
        for figure, draw in part.figures.items()
        for path in figures.draw(folder, figure, table, draw)
    ]
    assert all(path.stat().st_size > 10_000 for path in paths)
    return {path.stem for path in paths}, dict(part.answer(table[table["backend"] == "jax"]))


def weights(model):
    """Return copies of a model's weights."""
    return [np.array(w) for w in model.get_weights()]


def moved(before, after):
    """Return which arrays have changed."""
    return [bool((a != b).any()) for a, b in zip(before, after, strict=True)]


def values(frame: pd.DataFrame, quantity, index="variant"):
    """Return the values of a quantity by another column."""
    return frame[frame["quantity"] == quantity].set_index(index)["value"]
