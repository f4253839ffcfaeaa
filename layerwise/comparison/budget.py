"""Budgets: how long each schedule trains so that it spends what the baseline spends.

A schedule is a function of the position, so what it will do, and what that costs, is known before it trains.
"""

import collections
import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd

from layerwise.comparison.arrays import Arrays
from layerwise.comparison.placement import stays_on_device
from layerwise.comparison.streams import Streams
from layerwise.schedules import Schedule
from layerwise.steps import Update
from layerwise.training.resident import Resident

BUDGETS = ("flops", "epochs", "seconds")
MOST = 100  # times the baseline's epochs
TIMED_STEPS = 30


@dataclasses.dataclass(frozen=True)
class Plan:
    """How long a run trains.

    Args:
        epochs: Epochs; the last one may be cut short.
        steps: Batches in all.
        flops: What they cost by the counts of the backend; `None` where that is not known.
        seconds: What they take by measured Updates, where seconds are the budget.
    """

    epochs: int
    steps: int
    flops: int | None = None
    seconds: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], batch_size: int, steps_per_epoch: int) -> "Plan":
        """The plan of a run that finished, from its row of `runs`.

        Of a run that a callback ended before its last epoch the row does not say how many batches were planned: as many of
        the last epoch as would spend the FLOPs that were, if batches cost alike.
        """
        flops, seconds = (
            None if pd.isna(row[f"planned_{unit}"]) else row[f"planned_{unit}"]
            for unit in ("flops", "seconds")
        )
        epochs, steps = int(row["epochs"]), int(row["examples"]) // batch_size
        before = (epochs - 1) * steps_per_epoch
        if 0 < steps <= before:
            planned = round(steps * flops / row["flops"]) if flops else epochs * steps_per_epoch
            steps = min(max(planned, before + 1), epochs * steps_per_epoch)
        return cls(epochs, steps, None if flops is None else int(flops), seconds)


def plan(
    schedule: Schedule, steps_per_epoch: int, epochs: int, price: Callable[[Any], float]
) -> Plan:
    """So many epochs, and what they cost."""
    total = spending(schedule, epochs, steps_per_epoch, price)[-1]
    return Plan(epochs, epochs * steps_per_epoch, int(total))


def plan_within(
    schedule: Schedule,
    steps_per_epoch: int,
    epochs: int,
    price: Callable[[Any], float],
    budget: float,
) -> Plan:
    """As many epochs, and batches of a last one, as spend a budget, to the nearest batch.

    Where a schedule allows only some numbers of epochs (a greedy one whose stages are fixed), the largest that does not
    exceed the budget, else the smallest.

    Args:
        schedule: A schedule that has met its model (`build`).
        steps_per_epoch: Batches of a whole epoch.
        epochs: Where the search begins.
        price: What an Update or a Look costs.
        budget: What may be spent.

    Raises:
        ValueError: The schedule allows no number of epochs.
    """
    tried: dict[int, Any] = {}

    def spent(count):
        if count not in tried:
            try:
                tried[count] = spending(schedule, count, steps_per_epoch, price)
            except ValueError as error:
                tried[count] = error
        return tried[count]

    def enough(count):
        found = spent(count)
        return not isinstance(found, ValueError) and found[-1] >= budget

    count = epochs
    while not enough(count) and count < MOST * epochs:
        found = spent(count)
        jump = 0 if isinstance(found, ValueError) else int(count * budget / found[-1])
        count = min(max(count + 1, jump), MOST * epochs)
    if not enough(count):
        below = (n for n in range(epochs, 0, -1) if not isinstance(spent(n), ValueError))
        whole = next(below, None)
        if whole is None:
            raise spent(epochs)
        return Plan(whole, whole * steps_per_epoch, int(spent(whole)[-1]))
    while count > 1 and enough(count - 1):
        count -= 1
    costs, before = spent(count), (count - 1) * steps_per_epoch
    steps = before + int(np.argmin(np.abs(costs[before:] - budget))) + 1
    fewer = spent(count - 1) if count > 1 else ValueError()
    if not isinstance(fewer, ValueError) and budget - fewer[-1] <= abs(costs[steps - 1] - budget):
        return Plan(count - 1, before, int(fewer[-1]))
    return Plan(count, steps, int(costs[steps - 1]))


def flops_of(
    schedule: Schedule, made: Plan, steps_per_epoch: int, price: Callable[[Any], float]
) -> Plan:
    """A plan made in another currency, with its FLOPs."""
    costs = spending(schedule, made.epochs, steps_per_epoch, price)
    return dataclasses.replace(made, flops=int(costs[made.steps - 1]))


class Prices:
    """What the Updates and Looks of schedules cost on one compiled model.

    Args:
        model: A compiled model that no run trains.
        batch: `(x, y)` of the runs' batch size.
    """

    def __init__(self, model: keras.Model, batch: tuple[Any, Any]):
        self.model, self.batch = model, batch
        self._seconds: dict[Any, float] = {}

    def flops(self, schedule: Schedule) -> Callable[[Any], float]:
        """`price(work)` in floating-point operations, as the backend counts them."""
        schedule.build(self.model)
        return lambda work: schedule.flops(work, *self.batch)

    def seconds(
        self, schedule: Schedule, source: Arrays | Streams, batch_size: int
    ) -> Callable[[Any], float]:
        """`price(work)` in measured seconds of an Update in `fit`, which takes its data as the runs do.

        Raises:
            ValueError: The schedule looks at gradients before it decides, which is not timed.
        """
        if schedule.can_look:
            raise ValueError(
                f"budget='seconds' cannot foresee {schedule!r}, which looks before it decides: use budget='flops'."
            )
        schedule.build(self.model)

        def price(update):
            if update not in self._seconds:
                self._seconds[update] = _timed(self.model, schedule, update, source, batch_size)
            return self._seconds[update]

        return price


class _Repeat(Schedule):
    """One Update over and over: what is timed."""

    def __init__(self, blocks, head, update):
        super().__init__(blocks=blocks, head=head)
        self.update = update

    @property
    def divides(self):
        return self.update.blocks is not None

    def updates(self, epoch: int, step: int) -> tuple[Update, ...]:
        return (self.update,)


def _timed(model, schedule, update, source, batch_size):
    """Seconds of one Update: of the second of two epochs, as the first one compiles."""
    marks = []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: marks.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: marks.append(time.perf_counter()),
    )
    feed, steps, callbacks = source.training(0, batch_size), TIMED_STEPS, []
    if stays_on_device(model, source):
        resident = Resident(source.batch(slice(0, batch_size)), TIMED_STEPS)
        resident.epochs = iter([np.tile(np.arange(batch_size), (TIMED_STEPS, 1))] * 2)
        feed, steps, callbacks = resident.feed(model), 1, [resident]
    callbacks += [_Repeat(schedule.by, schedule.head, update), clock]
    model.fit(feed, steps_per_epoch=steps, epochs=2, callbacks=callbacks, shuffle=False, verbose=0)
    return (marks[3] - marks[2]) / TIMED_STEPS


def spending(
    schedule: Schedule, epochs: int, steps_per_epoch: int, price: Callable[[Any], float]
) -> np.ndarray:
    """What was spent after each batch of so many epochs."""
    schedule.prepare(epochs)
    prices: dict[Any, float] = {}
    rng = np.random.default_rng(0)
    costs = np.empty(epochs * steps_per_epoch)
    for step in range(len(costs)):
        epoch = step // steps_per_epoch
        work = collections.Counter[Any](schedule.looks(epoch, step))
        if work:
            # What it will see is not known: as if every block were as likely.
            measured = {look.quantity: rng.random(len(schedule.blocks)) for look in work}
            schedule.see(epoch, step, measured)
        work.update(schedule.updates(epoch, step))
        for item in work:
            if item not in prices:
                prices[item] = price(item)
        costs[step] = sum(count * prices[item] for item, count in work.items())
    return costs.cumsum()
