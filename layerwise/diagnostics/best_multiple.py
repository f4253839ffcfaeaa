"""Best multiple: whether the step is too long, and through which curvature."""

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("multiple", "slope", "own_curvature", "cross_curvature")
def best_multiple(step: Step) -> pd.DataFrame:
    """Finds the multiple of the step that the quadratic model of the loss likes best.

    `slope` = g' u; `multiple` = -g' u / u' H u. Below 1 the step overshoots the model's minimum, below 1/2 the loss rises;
    negative where the loss curves downwards along the step (no minimum). u' H u is split into `own_curvature`, the sum of
    u_i' H u_i (what each block does to itself), and `cross_curvature`, the sum of u_i' H u_j over i != j (what the blocks
    do to one another).

    Cost: D Hessian-vector products for D blocks (shared with `pairs`).

    Source: the exact line search of a quadratic model, Nocedal and Wright, Numerical Optimization (2006), equation 3.55.

    Returns:
        One row: `multiple, slope, own_curvature, cross_curvature`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): the slope is -4 * 0.5 - 2 * 0.25 = -2.5, the Hessian
    [[8, 2], [2, 2]], so that u' H u = 8 * 0.25 + 2 * 0.0625 + 2 * 2 * 0.125 = 2.625.

    >>> import layerwise
    >>> layerwise.diagnostics.best_multiple(layerwise.diagnostics.example())
       multiple  slope  own_curvature  cross_curvature
    0  0.952381   -2.5          2.125              0.5
    """
    curvature = step.curvature_of_moves()
    slope = sum(float(g @ u) for g, u in zip(step.gradient, step.displacement, strict=True))
    own, whole = float(np.trace(curvature)), float(curvature.sum())
    row = {
        "multiple": ratio(-slope, whole),
        "slope": slope,
        "own_curvature": own,
        "cross_curvature": whole - own,
    }
    return pd.DataFrame([row])
