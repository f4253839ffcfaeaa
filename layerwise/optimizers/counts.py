"""The step counts of an optimizer's variables: like its slots, they outlive a division into blocks, and a `compile`."""

import weakref
from collections.abc import Iterable
from typing import Any

from layerwise.backends import backend

_last: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


class Counts:
    """The step counts of an optimizer's variables when training by blocks last ended.

    Args:
        iterations: What the optimizer had counted then.
        by_variable: `{id(variable): values}`: its own step count, and with Nadam its running product.
    """

    def __init__(self, iterations: int, by_variable: dict[int, list]):
        self.iterations, self.by_variable = iterations, by_variable

    def give(self, blocks: Iterable[tuple]) -> None:
        """Gives each of `(variables, [state])` the values of its variable with most steps, if it has had any."""
        for variables, state in blocks:
            known = [self.by_variable[id(v)] for v in variables if id(v) in self.by_variable]
            values = max(known, key=lambda values: int(values[0]), default=[])
            for variable, value in zip(state, values, strict=False):
                variable.assign(value)


def last_of(rule: Any) -> Counts | None:
    """The `Counts` that were kept last for an optimizer; None: it was not trained by blocks."""
    return _last.get(rule)


def keep(rule: Any, iterations: int, blocks: Iterable[tuple]) -> Counts:
    """Keeps and returns the `Counts` of an optimizer, as long as it lives: those of `(variables, [state])`.

    Variables that are not among these keep theirs.
    """
    before = last_of(rule)
    by_variable = {} if before is None else dict(before.by_variable)
    for variables, state in blocks:
        values = [backend.to_numpy(variable) for variable in state]
        by_variable |= {id(v): values for v in variables}
    _last[rule] = Counts(iterations, by_variable)
    return _last[rule]
