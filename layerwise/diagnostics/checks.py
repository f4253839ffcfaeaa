"""What is wrong with a probe is said before training starts."""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from layerwise.backends import backend, clocked, internals
from layerwise.blocks.block import as_integer, known_names
from layerwise.steps import Update
from layerwise.training import checks


def check_model(model: Any) -> None:
    """Raises where no step of the model can be measured: it is no compiled and built model."""
    if not isinstance(model, keras.Model):
        raise TypeError(f"A Step takes a keras.Model, got {type(model).__name__}: {model!r}.")
    if not getattr(model, "compiled", False) or model.optimizer is None:
        raise ValueError(
            "The model is not compiled with an optimizer, so that nothing says what a step does. Call "
            "model.compile(optimizer=..., loss=...) first."
        )
    if internals.overrides(model, "train_step"):
        raise ValueError(
            f"{type(model).__name__} has its own train_step, so that what its step does is not known. Use a model with "
            "Keras' own."
        )
    checks.check_model(model)
    clocked.check_apply(model.optimizer, backend.BEFORE_APPLY)


def check_session(session: Any, update: Update) -> None:
    """Raises ValueError where the losses of an Update go through heads or sub-models that no running fit has."""
    if session is None:
        raise ValueError(
            f"The losses of {update!r} go through auxiliary heads or frozen blocks, which only the fit of a schedule has. "
            "Measure them by a layerwise.Probe in that fit, or give an Update with the model's own loss: "
            "Update(blocks=(...))."
        )


def vectors(given: Any, weights: Sequence[np.ndarray]) -> list:
    """One vector (or None) a block, of the size of its weights.

    Raises:
        ValueError: Another number of vectors, or another size.
    """
    found = [None if v is None else np.asarray(v, "float64").ravel() for v in given]
    sizes, wanted = [None if v is None else v.size for v in found], [w.size for w in weights]
    if len(sizes) != len(wanted) or any(
        s not in (None, w) for s, w in zip(sizes, wanted, strict=True)
    ):
        raise ValueError(
            f"Vectors are one flat array (or None) for each moving block, of sizes {wanted}, got sizes {sizes}."
        )
    return found


def at_least(name: str, value: Any, least: int) -> None:
    """Raises ValueError where an argument is no int of at least so much."""
    number = as_integer(value)
    if number is None or number < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}.")


def index(block: Any, names: Sequence[str]) -> int:
    """The position of a moving block, given by name or position."""
    if isinstance(block, str):
        if block not in names:
            raise ValueError(f"No block named {block!r} moves.{known_names(block, list(names))}")
        return names.index(block)
    number = as_integer(block)
    if number is None or not 0 <= number < len(names):
        raise ValueError(
            f"A moving block is given by its name or its position from 0 to {len(names) - 1}, got {block!r}."
        )
    return number


# --- what a Probe is given


def quantities(wanted: Any, known: dict) -> dict:
    """`{name: function}` of names and functions.

    Raises:
        TypeError: Neither name nor function.
        ValueError: No such name.
    """
    found: dict = {}
    if isinstance(wanted, str) or callable(wanted) or not isinstance(wanted, Iterable):
        wanted = (wanted,)
    for quantity in tuple(wanted):
        if isinstance(quantity, str):
            if quantity not in known:
                raise ValueError(
                    f"No quantity is named {quantity!r}.{known_names(quantity, list(known))}"
                )
            name, quantity = quantity, known[quantity]
        elif callable(quantity):
            name = _name_of(quantity)
        else:
            raise TypeError(
                f"A quantity is a name or a function of a Step that returns a frame, got {quantity!r}."
            )
        if found.get(name, quantity) is not quantity:
            raise ValueError(
                f"Two quantities are named {name!r}, so that their rows could not be told apart. Give one Probe each, or a "
                "function of your own with another name."
            )
        found[name] = quantity
    if not found:
        raise ValueError(
            f"quantities must hold at least one of {', '.join(map(repr, known))}, got {wanted!r}."
        )
    return found


def _name_of(quantity):
    while isinstance(quantity, functools.partial):
        quantity = quantity.func
    return getattr(quantity, "__name__", type(quantity).__name__)


def check_found(name: str, found: Any, keys: Callable) -> pd.DataFrame:
    """What a quantity gave, if it is a frame of numbers.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(found, pd.DataFrame):
        raise TypeError(
            f"A quantity is a function of a Step that returns a pandas frame; {name!r} returned {type(found).__name__}."
        )
    measures = [column for column in found.columns if column not in keys(found)]
    wrong = [c for c in measures if not pd.api.types.is_numeric_dtype(found[c]) and len(found)]
    if wrong:
        raise TypeError(
            f"The columns of a quantity are numbers, but for `block` and `other`; {name!r} returned others in {wrong}."
        )
    return found


def check_once(probe: Any, probes: Sequence[Any]) -> None:
    """Raises ValueError where the same Probe is twice among the callbacks of a fit."""
    if sum(one is probe for one in probes) > 1:
        raise ValueError(
            "The same Probe is twice in callbacks, and would count every batch twice. Remove one, or make another Probe."
        )


def cadence(every: Any) -> Any:
    """A function `step -> bool`: whether a step is due.

    Raises:
        ValueError: `every` is no positive int, list of steps or callable.
    """
    number = as_integer(every)
    if number is not None and number > 0:
        return lambda step: step % number == 0
    if callable(every):
        return every
    if isinstance(every, (list, tuple, set, range, np.ndarray)) and len(every):
        steps = [as_integer(step) for step in every]
        if all(step is not None and step >= 0 for step in steps):
            return frozenset(steps).__contains__
    raise ValueError(
        f"every must be a positive int, a list of steps (0: before the first), or a callable step -> bool, got {every!r}."
    )


def probe_data(data: Any) -> tuple | None:
    """The batch of a Probe as a tuple, or None for the batch just trained."""
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or not 1 <= len(data) <= 3:
        raise ValueError(
            f"data must be (x, y) or (x, y, sample_weight), or None for the batch just trained, got {type(data).__name__}."
        )
    return tuple(data)


def check_executions(model: keras.Model) -> None:
    """Raises ValueError where no single batch is the one just trained."""
    if model.steps_per_execution > 1:
        raise ValueError(
            f"The model was compiled with steps_per_execution={model.steps_per_execution}, so that several batches are "
            "trained on between two looks of a callback. Give the Probe its batch: data=(x, y)."
        )


def check_single_steps(model: keras.Model) -> None:
    """Raises ValueError where nobody sees the weights before a single step, which `reversals` compares with."""
    if model.steps_per_execution > 1:
        raise ValueError(
            f"The model was compiled with steps_per_execution={model.steps_per_execution}, so that no callback sees the "
            "weights before each step, with which the quantity 'reversals' compares. Leave it out, or compile with "
            "steps_per_execution=1."
        )


def session_of(model: keras.Model) -> Any:
    """The session of a schedule that trains the model now, or None."""
    checkpoint = internals.attached(model)
    return None if checkpoint is None else checkpoint.session
