"""Which run is which: a hash of all that determines a run's result, so that runs can be found again."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from layerwise.comparison import settings, tpe
from layerwise.comparison.configs import as_text, config_of, with_functions
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.seeds import seeds_of
from layerwise.comparison.settings import Setting
from layerwise.diagnostics import QUANTITIES


def run_id(
    grid: Grid, cell: Cell, setting: Setting, seed: int, phase: str, environment: Mapping[str, str]
) -> str:
    """The hash of all that determines a run's result."""
    baseline = dataclasses.replace(cell, schedule=grid.baseline)
    callbacks = [] if grid.callbacks is None else grid.callbacks()
    identity = {
        "experiment": grid.experiment,
        **dataclasses.asdict(cell),
        "setting": settings.key_of(setting),
        "batch_size": grid.batch_size,
        "epochs": grid.epochs,
        "budget": grid.budget,
        # What the baseline spends is the budget of all.
        "baseline": "" if grid.budget == "epochs" else grid.config("schedule", baseline),
        "seed": int(seed),
        "phase": phase,
        **environment,
        "loss": as_text(config_of(grid.loss)),
        "metric": as_text(config_of(grid.metric)),
        "class_weight": as_text(
            {int(label): float(weight) for label, weight in (grid.class_weight or {}).items()}
        ),
        "callbacks": [f"{type(one).__name__} {with_functions(vars(one))}" for one in callbacks],
        "data": grid.datasets[cell.dataset].fingerprint,
        "model_config": grid.config("model", cell, setting),
        "optimizer_config": grid.config("optimizer", cell, setting),
        "schedule_config": grid.config("schedule", cell, setting),
    }
    if grid.tuner != "grid":
        identity["tuner"] = [grid.tuner, grid.n_settings(cell)]
    if grid.probes:
        identity["probes"] = [_probe(factory()) for factory in grid.probes]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]


def _probe(probe):
    data = None if probe.data is None else [str(np.asarray(a).shape) for a in probe.data]
    # The package's quantities by their names and what they were given, and of data the shapes: results that are kept are
    # known so.
    quantities = [_quantity(name, quantity) for name, quantity in probe.quantities.items()]
    return with_functions([quantities, probe.every, probe.by, data])


# What experiments/interplay was measured with, whose results know it by its name alone.
_BY_NAME = with_functions([(), {"multiples": (0.0, 1.0)}])


def _quantity(name, quantity):
    function, given = quantity, []
    while isinstance(function, functools.partial):
        given.append((function.args, function.keywords))
        function = function.func
    if function not in QUANTITIES.values():
        return [name, quantity]
    given = [one for one in given if any(one)]
    kept = name == "smoothness" and [with_functions(one) for one in given] == [_BY_NAME]
    return name if kept or not given else [name, given]


def holds(grid: Grid, row: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether a row of `runs` is of a run that may become part of a comparison."""
    cell, phase = Cell.of(row), row["phase"]
    if cell not in grid.cells() or row["seed"] not in seeds_of(grid, phase):
        return False
    values, setting = grid.values(cell), settings.setting_of(row)
    may = settings.may_become if grid.tuner == "grid" else tpe.contains
    if not may(values, setting):
        return False
    return row["run_id"] == run_id(grid, cell, setting, row["seed"], phase, environment)
