"""Settings: what is tuned, by which values, and how a grid of them grows until the best lies inside."""

import itertools
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

OWNERS = ("schedule", "optimizer", "model")
EXTENSIONS = 3  # a side
SPREAD = 3.0  # the ratio of a value to the next where the grid as given has none
Setting = dict[str, Any]


def check_search(search: Mapping[str, Any]) -> None:
    """Raises where what is to be tuned is no `{name: values}`.

    Raises:
        ValueError: For a name that is not "learning_rate" or `owner.argument`, or values that are not different ones.
    """
    for name, values in search.items():
        owner, _, argument = name.partition(".")
        if name == "optimizer.learning_rate":
            raise ValueError(
                "search tunes the optimizer's learning rate as 'learning_rate', not as 'optimizer.learning_rate'."
            )
        if name != "learning_rate" and not (owner in OWNERS and argument):
            raise ValueError(
                f"search tunes 'learning_rate', or an argument of the schedule, the optimizer or the model, such as "
                f"'schedule.every'; got {name!r}."
            )
        if isinstance(values, str) or not isinstance(values, (tuple, list)) or not values:
            raise ValueError(f"search[{name!r}] must be a tuple of values, got {values!r}.")
        texts = [as_text(value) for value in values]
        if len(set(texts)) < len(texts):
            raise ValueError(f"search[{name!r}] must hold different values, got {values!r}.")


def as_text(value: Any) -> str:
    """A value of a setting as the frames hold it: JSON.

    Raises:
        ValueError: It is none that JSON knows.
    """
    try:
        return json.dumps(value)
    except TypeError as error:
        raise ValueError(
            f"search takes numbers, strings, booleans and None, which frames can hold, got {value!r}."
        ) from error


def columns_of(setting: Setting) -> dict[str, Any]:
    """A setting as columns of `runs`."""
    return {
        name: float(value) if name == "learning_rate" else as_text(value)
        for name, value in setting.items()
    }


def setting_of(row: Mapping[str, Any] | pd.Series) -> Setting:
    """The setting that a row of `runs` was trained with."""
    setting: Setting = {"learning_rate": float(row["learning_rate"])}
    for name in knobs_of(row.keys()):
        if isinstance(row[name], str):
            setting[name] = json.loads(row[name])
    return setting


def settings_of(runs: pd.DataFrame) -> list[Setting]:
    """The setting of every row of `runs`."""
    columns = ["learning_rate", *knobs_of(runs.columns)]
    return [setting_of(row) for row in runs[columns].to_dict("records")]


def knobs_of(columns: Iterable[str]) -> list[str]:
    """The columns, beside the learning rate, that hold what was tuned."""
    return [name for name in columns if str(name).partition(".")[0] in OWNERS and "." in str(name)]


def key_of(setting: Setting) -> str:
    """A setting as one text: equal for equal settings."""
    return json.dumps(setting, sort_keys=True)


def without_rate(setting: Setting) -> str:
    """What is tuned beside the learning rate, as one text: equal where the same programs serve."""
    return key_of({name: value for name, value in setting.items() if name != "learning_rate"})


def in_words(setting: Setting) -> str:
    """A setting for a message.

    Example:
    >>> from layerwise.comparison.settings import in_words
    >>> in_words({"learning_rate": 0.003, "schedule.every": 10})
    'learning rate 0.003, schedule.every 10'
    """
    words = {"learning_rate": "learning rate"}
    return ", ".join(
        f"{words.get(name, name)} {value:g}"
        if isinstance(value, float)
        else f"{words.get(name, name)} {value}"
        for name, value in setting.items()
    )


def denser(rates: tuple[float, ...], count: int) -> tuple[float, ...]:
    """As many learning rates over the same range: for a schedule with fewer arguments to tune, so that all have the same
    number of trials.

    Example:
    >>> from layerwise.comparison.settings import denser
    >>> denser((0.01, 0.1), 3), denser((0.1,), 3)
    ((0.01, 0.0316, 0.1), (0.0333, 0.1, 0.3))
    """
    if count <= len(rates):
        return rates
    if len(rates) == 1:
        spread = [rates[0] * SPREAD ** (k - count // 2) for k in range(count)]
    else:
        spread = list(np.geomspace(min(rates), max(rates), count))
    return tuple(float(f"{rate:.3g}") for rate in spread)


def product(values: Mapping[str, tuple]) -> list[Setting]:
    """Every combination."""
    return [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]


def at_edge(tried: Iterable[Any], value: Any) -> int:
    """-1 or 1 where a value is the smallest or largest of the numbers that were tried; 0 inside, or where there is only
    one, or some are no numbers or negative. Zero is an end by nature, such as no dropout at all, and no edge.

    Example:
    >>> from layerwise.comparison.settings import at_edge
    >>> at_edge((0.1, 0.4), 0.1), at_edge((0.0, 0.1, 0.4), 0.0), at_edge((0.0, 0.1, 0.4), 0.4)
    (-1, 0, 1)
    """
    numbers = set(tried)
    if len(numbers) < 2 or not numeric(numbers) or min(numbers) < 0 or value == 0:
        return 0
    return -1 if value == min(numbers) else 1 if value == max(numbers) else 0


def beyond(base: tuple, tried: Iterable[Any], side: int) -> Any:
    """The next value on one side of those tried, in the ratio of the outermost two of the grid as it was given, or three
    times the larger where the other is zero; `None` after `EXTENSIONS` of them, or where whole numbers end.

    Example:
    >>> from layerwise.comparison.settings import beyond
    >>> beyond((0.01, 0.03), (0.01, 0.03), 1), beyond((1, 10), (1, 10), -1), beyond((1, 10), (1, 10), 1)
    (0.09, None, 100)
    >>> beyond((0.0, 0.1), (0.0, 0.1), 1)
    0.3
    """
    ordered = sorted(base) if side < 0 else sorted(base, reverse=True)
    ratio = ordered[0] / ordered[1] if ordered[1] else SPREAD
    outside = {value for value in tried if side * value > side * ordered[0]}
    if len(outside) >= EXTENSIONS:
        return None
    edge = max([ordered[0], *outside], key=lambda value: side * value)
    value = edge * ratio
    if all(isinstance(number, int) for number in base):
        value = round(value)
        return value if value >= 1 and value != edge else None
    return float(f"{value:.3g}")


def reachable(base: Mapping[str, tuple], name: str) -> set[str]:
    """All values, as texts, that a grid may come to hold for one argument."""
    values = list(base[name])
    for side in (-1, 1):
        if at_edge(values, max(values) if side > 0 else min(values)) if numeric(values) else 0:
            while (value := beyond(base[name], values, side)) is not None:
                values.append(value)
    return {as_text(value) for value in values}


def may_become(base: Mapping[str, tuple], setting: Setting) -> bool:
    """Whether a grid may come to hold a setting."""
    return set(setting) == set(base) and all(
        as_text(value) in reachable(base, name) for name, value in setting.items()
    )


def extensions(
    base: Mapping[str, tuple], tried: list[Setting], chosen: Iterable[Setting]
) -> list[Setting]:
    """The settings to try next so that each chosen one has been compared with its neighbours: of every argument the next
    value to either side, all else as chosen; at the ends of a grid one step beyond.

    Args:
        base: The grid as it was given.
        tried: What was tried so far.
        chosen: The best of them: for cost, for score.
    """
    wanted = {}
    for setting in chosen:
        for name, values in base.items():
            for side in (-1, 1):
                value = _beside(values, {one[name] for one in tried}, setting[name], side)
                if value is not None:
                    more = {**setting, name: value}
                    wanted[key_of(more)] = more
    known = {key_of(setting) for setting in tried}
    return [setting for key, setting in wanted.items() if key not in known]


def _beside(base, tried, value, side):
    """The next value on one side; `None` where there is none, or values have no order."""
    if len(base) < 2 or not numeric(tried):
        return None
    further = [one for one in tried if side * one > side * value]
    if further:
        return min(further, key=lambda one: side * one)
    return beyond(base, tried, side) if at_edge(tried, value) == side else None


def made(factory: Callable[[], Any], setting: Setting, owner: str) -> Any:
    """What a factory makes, with the arguments that a setting gives its owner."""
    thing = factory()
    given = arguments_of(setting, owner)
    return type(thing).from_config(thing.get_config() | given) if given else thing


def arguments_of(setting: Setting, owner: str) -> dict[str, Any]:
    """The arguments that a setting gives the schedule, the optimizer or the model."""
    prefix = f"{owner}."
    return {
        name.removeprefix(prefix): value
        for name, value in setting.items()
        if name.startswith(prefix)
    }


def numeric(values: Iterable[Any]) -> bool:
    """Whether all values are numbers."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
