"""Configs that are the same in every process: without the numbers that Keras puts into names."""

import functools
import hashlib
import inspect
import json
import re
from typing import Any

import keras

from layerwise.backends.lazy import without_tensorflow


def config_of(value: Any) -> dict[str, Any]:
    """The config of a Keras object, with names that Keras made up (dense_3, adam_1) counted from
    the object's start; of a function its name, a hash of its code, and what it was given.

    Example:
    >>> import keras
    >>> from layerwise.comparison.configs import config_of
    >>> first, second = keras.layers.Dense(3), keras.layers.Dense(3)
    >>> first.name == second.name, config_of(first) == config_of(second)
    (False, True)
    """
    if inspect.isfunction(value) and not value.__module__.startswith("keras."):
        held = inspect.getclosurevars(value).nonlocals
        return _of_function(value, sorted(held.items()))
    if isinstance(value, type):
        return {"class": f"{value.__module__}.{value.__qualname__}"}
    try:
        with without_tensorflow():
            config = keras.saving.serialize_keras_object(value)
    except NotImplementedError:  # a subclassed model without a config
        shapes = [tuple(variable.shape) for variable in value.variables]
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", "shapes": shapes}
    names: dict[str, str] = {}
    _collect(config, names)
    return _renamed(config, names)


def _of_function(function, held):
    """A function's name, a hash of its code, and what it was given: defaults, and what it `held`."""
    given = _readable([function.__defaults__, function.__kwdefaults__, held])
    return {"function": function.__qualname__, "code": _digest(function.__code__), "given": given}


def _digest(code):
    """A hash of what a function does, of the functions in it, too."""
    parts = [_digest(one) if inspect.iscode(one) else repr(one) for one in code.co_consts]
    text = f"{code.co_code.hex()}{code.co_names}{parts}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def as_text(config: object) -> str:
    """A config as one line of text."""
    return json.dumps(config, sort_keys=True, default=_readable)


def with_functions(value: object) -> str:
    """As `as_text`, but functions are told apart by their code and what they were given, partials by their arguments.
    Of what a function holds, numbers, strings, tuples and functions count: other things may change as runs go by.
    """
    return json.dumps(value, sort_keys=True, default=_told)


def _told(value):
    if isinstance(value, functools.partial):
        return {"partial": value.func, "arguments": value.args, "keywords": value.keywords}
    function = inspect.unwrap(value) if inspect.isfunction(value) else value
    if not inspect.isfunction(function) or (function.__module__ or "").startswith("keras."):
        return _readable(value)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return _of_function(function, [(name, _lasting(cell)) for name, cell in cells])


def _lasting(cell):
    try:
        value = cell.cell_contents
    except ValueError:  # not set yet
        return None
    plain = (bool, int, float, str, bytes, tuple, type(None))
    return _readable(value) if isinstance(value, plain) or callable(value) else type(value).__name__


def _collect(config, names):
    """Collects made-up names, and what they become."""
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and isinstance(inner.get("name"), str):
            stem = re.sub(r"_\d+$", "", inner["name"])
            if stem.replace("_", "") == str(config.get("class_name")).lower():
                names.setdefault(inner["name"], f"{stem}:{len(names)}")
        for value in config.values():
            _collect(value, names)
    elif isinstance(config, (list, tuple)):
        for value in config:
            _collect(value, names)


def _renamed(config, names):
    if isinstance(config, dict):
        return {key: _renamed(value, names) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        return [_renamed(value, names) for value in config]
    return names.get(config, config) if isinstance(config, str) else config


def _readable(value):
    """What JSON does not know, as text without addresses in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
