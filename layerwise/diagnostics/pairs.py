"""Pairs: which two blocks work against each other."""

import itertools

import pandas as pd

from layerwise.diagnostics.frames import quantity
from layerwise.diagnostics.step import Step


@quantity(
    "interaction",
    "curvature",
    by=(
        "block",
        "other",
    ),
)
def pairs(step: Step) -> pd.DataFrame:
    """Measures the interaction of every two blocks, by moving them and by the Hessian.

    `interaction` = D_ij - D_i - D_j with D_S = L(w + u_S) - L(w); `curvature` = u_i' H u_j, which the interaction becomes
    for small steps: their difference is of third order in the displacement. Positive: the two moves together do worse than
    the sum of both.

    Cost: D (D - 1) / 2 forward passes beside those of `parts`, and D Hessian-vector products.

    Source: the mixed second difference of the loss; Pearlmutter, Fast exact multiplication by the Hessian (1994).

    Returns:
        One row for each two blocks, i before j: `block, other, interaction, curvature`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): the loss (w v - 3)^2 has the mixed derivative
    2 v w + 2 (w v - 3) = 2, times 0.5 times 0.25.

    >>> import layerwise
    >>> layerwise.diagnostics.pairs(layerwise.diagnostics.example())
      block other  interaction  curvature
    0     w     v     0.578125       0.25
    """
    curvature = step.curvature_of_moves()
    rows = []
    for i, j in itertools.combinations(range(len(step.blocks)), 2):
        apart = step.change([i]) + step.change([j])
        rows.append(
            {
                "block": step.names[i],
                "other": step.names[j],
                "interaction": step.change([i, j]) - apart,
                "curvature": float(curvature[i, j]),
            }
        )
    return pd.DataFrame(rows)
