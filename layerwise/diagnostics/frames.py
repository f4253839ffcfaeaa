"""What the frames of all quantities have in common."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

ALL = "all"


def quantity(*measures: str, by: Sequence[str] = ()) -> Callable[[Callable], Callable[..., Any]]:
    """Makes a function of a `Step` that returns a frame a quantity, which says what its frame holds.

    The frame has the columns `by` and then `measures`. Its `attrs` say by which columns the rows differ (`by`) and what
    measuring took (`passes`, a dict of forward, backward and hessian_vector passes); what the Step has computed before is
    not computed again.

    Args:
        measures: The columns with what is measured, in their order; none: those that the function gives.
        by: The columns before them, that say what a row is about: "block", "other", "multiple" or "radius".
    """

    def decorate(function):
        @functools.wraps(function)
        def measured(step, *arguments, **named):
            if not hasattr(step, "passes"):
                raise TypeError(
                    f"{function.__name__} takes a layerwise.diagnostics.Step, got {type(step).__name__}. Make one: "
                    "Step(model, x, y)."
                )
            before = copy.copy(step.passes)
            found = function(step, *arguments, **named)
            if measures:
                found = found.reindex(columns=[*by, *measures])
            # A dict and a list, which a frame can be saved with.
            passes = dataclasses.asdict(step.passes - before)
            found.attrs |= {"by": list(by), "passes": passes}
            return found

        vars(measured).update(by=tuple(by), measures=measures)
        return measured

    return decorate


def ratio(numerator: Any, denominator: Any) -> float:
    """The ratio, NaN where the denominator is zero: there is no such thing then."""
    return float(numerator) / float(denominator) if denominator else float("nan")
