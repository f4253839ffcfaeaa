"""Linearization: how wrong the straight line is, over the length of the step and over depth."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import ALL, quantity, ratio
from layerwise.diagnostics.step import Step


@quantity(
    "predicted",
    "actual",
    "miss",
    by=(
        "block",
        "multiple",
    ),
)
def linearization(step: Step, multiples: Sequence[float] = (0.5, 1.0, 2.0)) -> pd.DataFrame:
    """Compares predicted and actual change of the loss for sets of blocks and multiples of the step.

    `predicted` = t g_S' u_S; `actual` = L(w + t u_S) - L(w); `miss` = actual / predicted - 1, to second order
    t (u_S' H u_S / 2) / (g_S' u_S). The sets: each block alone, the first k blocks, the last k blocks, all.

    Cost: one forward pass for each set and multiple; there are 3 D - 3 sets of D blocks, for D of at least 3.

    Args:
        step: The Step.
        multiples: The multiples t.

    Source: Taylor's theorem; the gain ratio of Martens and Grosse (arXiv 1503.05671, section 6.5) over t.

    Returns:
        One row a set and multiple: `block` (a name, "first 2", "last 3" or "all"), `multiple, predicted, actual, miss`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`), where both together are predicted -2.5.

    >>> import layerwise
    >>> found = layerwise.diagnostics.linearization(layerwise.diagnostics.example(), multiples=[1.0])
    >>> found
      block  multiple  predicted    actual     miss
    0     w       1.0       -2.0 -1.000000 -0.50000
    1     v       1.0       -0.5 -0.437500 -0.12500
    2   all       1.0       -2.5 -0.859375 -0.65625
    """
    slopes = [float(g @ u) for g, u in zip(step.gradient, step.displacement, strict=True)]
    rows = []
    for name, blocks in sets(step.names):
        for multiple in np.atleast_1d(multiples):
            predicted = multiple * sum(slopes[k] for k in blocks)
            actual = step.change(blocks, multiple)
            rows.append(
                {
                    "block": name,
                    "multiple": float(multiple),
                    "predicted": predicted,
                    "actual": actual,
                    "miss": ratio(actual, predicted) - 1.0,
                }
            )
    return pd.DataFrame(rows)


def sets(names: Sequence[str]) -> list[tuple[str, list[int]]]:
    """Each block alone, the first k, the last k, and all, with their names."""
    n = len(names)
    single = [(name, [k]) for k, name in enumerate(names)]
    first = [(f"first {k}", list(range(k))) for k in range(2, n)]
    last = [(f"last {k}", list(range(n - k, n))) for k in range(2, n)]
    return single + first + last + ([(ALL, list(range(n)))] if n > 1 else [])
