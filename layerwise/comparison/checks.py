"""What is wrong with the arguments of a comparison is said before anything is trained."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from layerwise.blocks.block import known_names
from layerwise.comparison.arrays import Arrays, is_one_hot
from layerwise.comparison.budget import BUDGETS
from layerwise.comparison.data import Data
from layerwise.comparison.seeds import FIRST_TUNING_SEED
from layerwise.comparison.settings import check_search
from layerwise.comparison.tpe import check_installed
from layerwise.diagnostics import Probe
from layerwise.schedules import Schedule

_MADE = {
    "models": (keras.Model, "a keras.Model"),
    "schedules": (Schedule, "a layerwise.Schedule"),
    "optimizers": (keras.optimizers.Optimizer, "a keras optimizer for a learning rate"),
}


def check_grid(grid: Any) -> None:
    """Raises ValueError or TypeError for arguments that make no comparison."""
    for name in ("tuning_seeds", "seeds", "epochs", "batch_size"):
        value = getattr(grid, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an int of at least 1, got {value!r}.")
    if grid.seeds > FIRST_TUNING_SEED:
        raise ValueError(f"seeds must be at most {FIRST_TUNING_SEED}, got {grid.seeds}.")
    number = isinstance(grid.target, (int, float)) and not isinstance(grid.target, bool)
    first = grid.first_seed
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise ValueError(f"first_seed must be an int of at least 0, got {first!r}.")
    if grid.target is not None and not (number and math.isfinite(grid.target)):
        raise ValueError(f"target must be a validation score, or None, got {grid.target!r}.")
    if grid.budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, got {grid.budget!r}.")
    for name in ("datasets", "models", "schedules", "optimizers"):
        _check_names(name, getattr(grid, name))
    for name, data in grid.datasets.items():
        _check_data(name, data, grid.batch_size)
    if isinstance(grid.regularizers, str):
        raise TypeError(
            f"regularizers must be a tuple of names, got the str {grid.regularizers!r}. Write ({grid.regularizers!r},)."
        )
    if not grid.regularizers or len(set(grid.regularizers)) != len(grid.regularizers):
        raise ValueError(f"regularizers must be different names, got {grid.regularizers!r}.")
    for optimizer, rates in grid.learning_rates.items():
        if not rates or len(set(rates)) != len(rates) or not all(rate > 0 for rate in rates):
            raise ValueError(
                f"learning_rates must be different positive numbers, got {rates!r} for "
                f"{optimizer!r}."
            )
    check_search(grid.search)
    _check_tuner(grid.tuner, grid.n_trials)
    _check_class_weight(grid.class_weight)
    _check_callbacks(grid.callbacks)
    _check_probes(grid.probes)


def check_searched(grid: Any) -> None:
    """Raises ValueError where no schedule, or no optimizer, of a grid has an argument that is to be tuned."""
    for name in grid.search:
        owner, _, argument = name.partition(".")
        if owner == "model":
            continue  # which is called with it, and says so itself
        known = {one for cell in grid.cells() for one in grid.arguments(owner, cell)}
        if argument not in known:
            raise ValueError(
                f"search tunes {name!r}, and no {owner} has an argument {argument!r}."
                f"{known_names(argument, sorted(known))}"
            )


def check_target(target: float, name: str) -> None:
    """Raises ValueError where a target cannot be a value of an accuracy."""
    if "accuracy" in name and not 0 < target <= 1:
        raise ValueError(
            f"target must be a validation score in the units of {name!r}, between 0 and 1, got {target!r}."
        )


def check_weighted(name: str, targets: np.ndarray) -> None:
    """Raises ValueError where targets have no classes that `class_weight` could weigh: labels, one-hot rows or one unit."""
    one = targets.size == len(targets) and np.array_equal(targets, np.round(targets))
    if not (one or is_one_hot(targets)):
        raise ValueError(
            f"class_weight weighs examples by their class, and the targets of {name!r}, of shape {targets.shape}, are "
            "neither a label for each example nor one-hot rows: give sample weights, Data(train=(x, y, weights), ...)."
        )


def check_made(kind: str, name: str, made: Any) -> Any:
    """What the user's callable made, if it is what it should be.

    Raises:
        TypeError: It is not.
    """
    wanted, words = _MADE[kind]
    if not isinstance(made, wanted):
        raise TypeError(f"{kind}[{name!r}] must return {words}, it returned {type(made).__name__}.")
    return made


def check_unshared(name: str, first: keras.Model, second: keras.Model) -> None:
    """Raises ValueError where two models that a callable made share weights that are trained."""
    known = {id(variable) for variable in first.trainable_variables}
    shared = [v.path for v in second.trainable_variables if id(v) in known]
    if shared:
        more = f" and {len(shared) - 3} more" if len(shared) > 3 else ""
        raise ValueError(
            f"models[{name!r}] returned two models that share weights that are trained, {', '.join(shared[:3])}{more}: a "
            "run would start where another one ended. Make all layers inside the function, or set trainable = False on "
            "those that are made outside it."
        )


def _check_names(name, value):
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"{name} must be a dict {{name: entry}} with at least one entry, got {value!r}."
        )
    for key, entry in value.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"{name} must have names that are strings, got {key!r}.")
        if name != "datasets" and not callable(entry):
            raise TypeError(
                f"{name}[{key!r}] must be a callable that makes a new one for each cell, got "
                f"{type(entry).__name__}. Write lambda: ... around it."
            )


def _check_data(name, data, batch_size):
    if not isinstance(data, Data):
        raise TypeError(
            "data must be layerwise.Data(train=(x, y), validation=(x, y), test=(x, y)) or a dict "
            f"of them, got {type(data).__name__} for {name!r}."
        )
    if isinstance(data.source, Arrays) and data.sizes["train"] < batch_size:
        raise ValueError(
            f"batch_size must be at most the {data.sizes['train']} training examples of {name!r}, "
            f"got {batch_size}."
        )


def _check_tuner(tuner, n_trials):
    if tuner not in ("grid", "optuna"):
        raise ValueError(f"tuner must be 'grid' or 'optuna', got {tuner!r}.")
    if n_trials is not None and tuner == "grid":
        raise ValueError(
            f"n_trials={n_trials!r} is for tuner='optuna': a grid has as many settings as it has values."
        )
    wrong = isinstance(n_trials, bool) or not isinstance(n_trials, int) or n_trials < 1
    if n_trials is not None and wrong:
        raise ValueError(f"n_trials must be an int of at least 1, or None, got {n_trials!r}.")
    if tuner == "optuna":
        check_installed()


def _check_class_weight(weights):
    if weights is None:
        return
    if not isinstance(weights, Mapping) or not all(
        isinstance(label, numbers.Integral) and weight >= 0 for label, weight in weights.items()
    ):
        raise ValueError(
            f"class_weight must be {{label: weight of at least 0}}, as for fit, got {weights!r}."
        )


def _check_callbacks(factory):
    if factory is None:
        return
    if not callable(factory):
        raise TypeError(
            f"callbacks must be a callable () -> list of Keras callbacks, so that each run has new ones, got {factory!r}."
        )
    made = factory()
    if not isinstance(made, (list, tuple)) or not all(
        isinstance(one, keras.callbacks.Callback) for one in made
    ):
        raise TypeError(f"callbacks must return a list of Keras callbacks, it returned {made!r}.")
    if any(isinstance(one, Probe) for one in made):
        raise ValueError(
            "callbacks must return no Probe, whose time would count as training: give probes=(lambda: Probe(...),)."
        )
    if any(isinstance(one, Schedule) for one in made):
        raise ValueError("callbacks must return no schedule: those go into schedules={name: ...}.")


def _check_probes(factories):
    if isinstance(factories, Probe) or not isinstance(factories, (tuple, list)):
        raise TypeError(
            f"probes must be a tuple of callables () -> layerwise.Probe, got {factories!r}. Write probes=(lambda: "
            "layerwise.Probe(...),)."
        )
    for factory in factories:
        made = factory() if callable(factory) else factory
        if isinstance(factory, Probe) or not isinstance(made, Probe):
            raise TypeError(
                f"probes must hold callables () -> layerwise.Probe, so that each run has a new one, got {factory!r}. Write "
                "lambda: layerwise.Probe(...)."
            )
