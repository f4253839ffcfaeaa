"""Planner: how long each run of a grid trains."""

import dataclasses
from collections.abc import Callable
from typing import Any

from layerwise.comparison import settings
from layerwise.comparison.budget import Plan, Prices, flops_of, plan, plan_within
from layerwise.comparison.grid import Cell, Grid
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
        self._plans: dict[Any, Plan] = {}
        self._flops: dict[Any, Callable[[Any], float]] = {}

    def plan(self, cell: Cell, setting: Setting) -> Plan:
        """How long the runs of a cell train; the learning rate does not matter.

        Raises:
            ValueError: The schedule allows no number of epochs.
        """
        key = cell, settings.without_rate(setting)
        if key not in self._plans:
            self._plans[key] = self._planned(cell, setting)
        return self._plans[key]

    def flops(self, cell: Cell, setting: Setting) -> Callable[[Any], float]:
        """`flops(work)`: what an Update, or a look at gradients, of a cell's schedule takes on a batch of the runs."""
        key = cell, settings.without_rate(setting)
        if key not in self._flops:
            own = self.grid.schedule(cell, setting)
            self._flops[key] = self._priced(cell, setting).flops(own)
        return self._flops[key]

    def _planned(self, cell, setting):
        grid = self.grid
        steps, prices = grid.steps_per_epoch(cell), self._priced(cell, setting)
        own = grid.schedule(cell, setting)
        first, reference = dataclasses.replace(cell, schedule=grid.baseline), grid.reference(cell)
        same = settings.without_rate(setting) == settings.without_rate(reference)
        is_reference = cell == first and same
        if grid.budget == "epochs" or is_reference:
            return plan(own, steps, grid.epochs, prices.flops(own))
        baseline, theirs = grid.schedule(first, reference), self._priced(first, reference)
        if grid.budget == "flops":
            budget = plan(baseline, steps, grid.epochs, theirs.flops(baseline)).flops
            return plan_within(own, steps, grid.epochs, prices.flops(own), float(budget or 0))
        data = grid.datasets[cell.dataset].source, grid.batch_size
        price = _nanoseconds(theirs.seconds(baseline, *data))
        budget = plan(baseline, steps, grid.epochs, price).flops
        price = _nanoseconds(prices.seconds(own, *data))
        found = plan_within(own, steps, grid.epochs, price, float(budget or 0))
        return flops_of(own, found, steps, prices.flops(own))

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
