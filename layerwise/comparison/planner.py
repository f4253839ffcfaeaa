"""Planner: how long each run of a grid trains."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from layerwise.comparison import settings
from layerwise.comparison.budget import Plan, Prices, flops_of, plan, plan_within, spending
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.seeds import derive
from layerwise.comparison.settings import Setting


class Planner:
    """Plans runs so that every schedule spends what the baseline spends in `epochs`.

    The budget is the baseline's, with the first value of everything that is tuned. Updates are priced on a model that no
    run trains; all schedules of a task share it, so that what they have in common is counted once, and what runs have spent
    is counted on it, too.

    Args:
        grid: The grid.
    """

    def __init__(self, grid: Grid):
        self.grid = grid
        self._prices: dict[Any, Prices] = {}
        self._plans: dict[Any, tuple[Any, Plan | None]] = {}
        self._flops: dict[Any, Callable[[Any], float]] = {}

    def plan(self, cell: Cell, setting: Setting, seed: int = 0) -> Plan:
        """How long a run of a cell trains; the learning rate does not matter, and the seed where orders are random.

        Raises:
            ValueError: The schedule allows no number of epochs.
        """
        key = cell, settings.without_rate(setting)
        if key not in self._plans:
            terms = self._terms(cell, setting)
            found = self._planned(cell, terms, 0)
            self._plans[key] = terms, None if self._is_random(cell, terms, found.epochs) else found
        terms, shared = self._plans[key]
        return shared or self._planned(cell, terms, seed)

    def flops(self, cell: Cell, setting: Setting) -> Callable[[Any], float]:
        """`flops(work)`: what an Update, or a look at gradients, of a cell's schedule takes on a batch of the runs."""
        key = cell, settings.without_rate(setting)
        if key not in self._flops:
            own = self.grid.schedule(cell, setting)
            self._flops[key] = self._priced(cell, setting).flops(own)
        return self._flops[key]

    def _terms(self, cell, setting):
        """`(schedule, price, budget, FLOPs of its Updates)`; the budget is `None` where epochs are given."""
        grid = self.grid
        steps, prices = grid.steps_per_epoch(cell), self._priced(cell, setting)
        own = grid.schedule(cell, setting)
        first, reference = dataclasses.replace(cell, schedule=grid.baseline), grid.reference(cell)
        same = settings.without_rate(setting) == settings.without_rate(reference)
        flops = prices.flops(own)
        if grid.budget == "epochs" or (cell == first and same):
            return own, flops, None, flops
        baseline, theirs = grid.schedule(first, reference), self._priced(first, reference)
        if grid.budget == "flops":
            price, their_price = flops, theirs.flops(baseline)
        else:
            data = grid.datasets[cell.dataset].source, grid.batch_size
            their_price = _nanoseconds(theirs.seconds(baseline, *data))
            price = _nanoseconds(prices.seconds(own, *data))
        budget = plan(baseline, steps, grid.epochs, their_price).flops
        return own, price, float(budget or 0), flops

    def _is_random(self, cell, terms, epochs):
        """Whether what a schedule costs, batch by batch, depends on its seed."""
        own, price, *_ = terms
        steps, spent = self.grid.steps_per_epoch(cell), {}
        for seed in (0, 1):
            own.seed = seed
            spent[seed] = spending(own, epochs, steps, price)
        return not np.array_equal(spent[0], spent[1])

    def _planned(self, cell, terms, seed):
        own, price, budget, flops = terms
        own.seed = derive("schedule", seed)  # as the run has it
        steps = self.grid.steps_per_epoch(cell)
        if budget is None:
            return plan(own, steps, self.grid.epochs, price)
        found = plan_within(own, steps, self.grid.epochs, price, budget)
        if self.grid.budget == "flops":
            return found
        seconds = (found.flops or 0) / 1e9  # its price was in nanoseconds
        return dataclasses.replace(flops_of(own, found, steps, flops), seconds=seconds)

    def _priced(self, cell, setting):
        own = [settings.arguments_of(setting, owner) for owner in ("model", "optimizer")]
        key = (*cell.task, *map(settings.key_of, own))
        if key not in self._prices:
            grid = self.grid
            model = grid.model(cell, setting)
            task = grid.task(cell, model)
            model.compile(optimizer=grid.optimizer(cell, setting), loss=task.loss)
            x, y, _ = grid.datasets[cell.dataset].source.first(grid.batch_size)
            self._prices[key] = Prices(model, (x, y))
        return self._prices[key]


def _nanoseconds(price):
    return lambda work: 1e9 * price(work)
