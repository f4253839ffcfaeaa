"""executions: a user's `fit` with `steps_per_execution`, blocks that alternate at every step, over stock `fit` with it."""

import functools
import time
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.cost.part import Part
from experiments.cost.settings import Settings
from experiments.harness import markdown, models
from experiments.harness.data import load
from experiments.harness.networks import compiled
from experiments.harness.timing import summary

BATCH = 64
EXECUTIONS = 4  # an epoch
TOGETHER = (1, 14)  # steps an execution
EPOCHS = 8
SCHEDULES = {
    "simultaneous": layerwise.Simultaneous,
    "a block a step": layerwise.BlockCoordinate,
    "a sweep a step": functools.partial(layerwise.BlockCoordinate, sweep_each_batch=True),
}


def measure(settings: Settings) -> list[dict]:
    """Rows of the digits MLP: seconds of a batch of stock `fit`, and those of each schedule over it; none on torch, where
    Keras refuses several steps an execution.
    """
    if keras.backend.backend() == "torch":
        return []
    _, data, classes = load("digits")
    size = EXECUTIONS * max(TOGETHER) * BATCH
    x, y = (np.resize(array, (size, *array.shape[1:])) for array in data.train)
    rows = []
    for together in TOGETHER:
        model = compiled(models.mlp(x.shape[1:], classes))
        model.steps_per_execution = together
        rows += [
            {"network": "digits mlp", "every": together, **row}
            for row in _of(model, x, y, settings)
        ]
    return rows


def _of(model, x, y, settings):
    ways = {
        "stock": lambda: [],
        **{name: lambda make=make: [make()] for name, make in SCHEDULES.items()},
    }
    for schedules in ways.values():
        _seconds(model, x, y, schedules())  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3 * settings.repetitions):
        for name, schedules in ways.items():
            seconds[name].append(_seconds(model, x, y, schedules()))
    stock = np.array(seconds["stock"])
    yield {"variant": "stock", "quantity": "batch", **summary(stock), "unit": "s"}
    for name in SCHEDULES:
        over = summary(np.array(seconds[name]) / stock)
        yield {"variant": name, "quantity": "batch over stock fit's", **over, "unit": "ratio"}


def _seconds(model, x, y, schedules: Sequence[keras.callbacks.Callback]):
    """Seconds of a batch in a `fit`: the median of its epochs after the first."""
    marks: list[float] = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: marks.append(time.perf_counter())
    )
    model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=EPOCHS,
        shuffle=False,
        verbose=0,
        callbacks=[*schedules, clock],
    )
    return float(np.median(np.diff(marks))) * BATCH / len(x)


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Each schedule over stock `fit`, by steps an execution."""
    for _, row in rows[rows["quantity"] == "batch over stock fit's"].iterrows():
        what = f"fit of {row['network']}, {row['variant']}, over stock fit"
        yield f"{what}, steps_per_execution={row['every']:g}", markdown.median(row)


PART = Part("executions", measure, {}, answer)
