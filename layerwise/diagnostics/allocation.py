"""Loss change allocation: which block's move brought which part of the change."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity
from layerwise.diagnostics.step import Step


@quantity("allocation", by=("block",))
def allocation(step: Step, tolerance: float = 1e-3, most: int = 32) -> pd.DataFrame:
    """Divides the joint change of the loss among the blocks, by the path integral of the gradient along the step.

    `allocation` of block l = the integral over s from 0 to 1 of g_l(w + s u)' u_l, by Simpson's rule on 2, 4, 8, ...
    intervals until the parts add up to the joint change D_all within `tolerance`, relative to its size (or within
    rounding). Each entry of a weight has a part of its own: `allocate` gives them.

    Cost: one forward pass and two backward passes, and as many again at the first doubling, twice as many at each next one.
    Up to eight copies of the weights are held, whatever the number of intervals.

    Args:
        step: The Step.
        tolerance: How far the sum of the parts may be from the joint change, relative to it.
        most: The largest number of intervals; with it the sum may still be further off: `frame.attrs` has the `error`.

    Source: Lan, Liu, Zhou and Yosinski, LCA: Loss change allocation for neural network training (arXiv 1909.01440),
    equations 2 and 3; Simpson's rule as in its section 3.

    Returns:
        One row a block: `block, allocation`. `frame.attrs["error"]`: |sum of the parts - joint change|.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): with w = 1 + s/2 and v = 2 + s/4 the loss is a polynomial of
    degree 4 in s, which Simpson's rule integrates exactly; the parts add up to -0.859375.

    >>> import layerwise
    >>> found = layerwise.diagnostics.allocation(layerwise.diagnostics.example())
    >>> found.round(6)
      block  allocation
    0     w   -0.679688
    1     v   -0.179688
    >>> round(float(found["allocation"].sum()), 6)
    -0.859375
    """
    found, error = allocate(step, tolerance, most)
    rows = [
        {"block": name, "allocation": float(np.sum(entries))}
        for name, entries in zip(step.names, found, strict=True)
    ]
    allocated = pd.DataFrame(rows)
    allocated.attrs["error"] = error
    return allocated


def allocate(
    step: Step,
    tolerance: float = 1e-3,
    most: int = 32,
    along: Sequence[np.ndarray] | None = None,
) -> tuple[list[np.ndarray], float]:
    """The part of each entry of the weights in the joint change, one array a block, and how far their sum is off.

    Args:
        step: The Step, whose batch and weights the loss is of.
        tolerance: As for `allocation`.
        most: As for `allocation`.
        along: One array a block: the move whose change of the loss is divided, for example what the step on a small batch
            does to the loss on all examples; None: the Step's own displacement.
    """
    move = step.displacement if along is None else along
    joint = (
        step.change(range(len(step.blocks))) if along is None else step.loss_at(move) - step.loss
    )
    close = max(tolerance * abs(joint), 8 * np.finfo("float64").eps * abs(step.loss))

    def gradient(s):
        return step.gradient_at([s * u for u in move])[1]

    # Sums of gradients: at the two ends, at the points of the last round between them, at all earlier ones. None is kept.
    ends = _sum(step.gradient, gradient(1.0))
    earlier, newest, intervals = None, gradient(0.5), 2
    while True:
        found = []
        for k, u in enumerate(move):
            inside = 4 * newest[k] + (0.0 if earlier is None else 2 * earlier[k])
            found.append(u * (ends[k] + inside) / (3 * intervals))
        error = abs(sum(float(np.sum(entries)) for entries in found) - joint)
        if not error > close or intervals >= most:  # also where it is NaN
            return found, error
        earlier = newest if earlier is None else _sum(earlier, newest)
        intervals *= 2
        newest = gradient(1 / intervals)
        for place in range(3, intervals, 2):
            newest = _sum(newest, gradient(place / intervals))


def _sum(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]
