"""Gauss-Seidel: how stale a block's gradient is when the blocks before it have moved."""

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("cosine", "relative_change", "sign_changes", by=("block",))
def gauss_seidel(step: Step) -> pd.DataFrame:
    """Compares each block's gradient with the one that it has after the blocks before it have moved.

    With g_l the gradient of block l at w and g'_l that at w + u_1 + ... + u_(l-1), on the same batch and masks: `cosine` =
    g_l' g'_l / (|g_l| |g'_l|); `relative_change` = |g'_l - g_l| / |g_l|; `sign_changes`: the share of its entries whose
    sign turned, rounding aside. To first order g'_l - g_l is the sum of H_lj u_j over j < l. The first
    block's gradient is never stale.

    Cost: D - 1 backward passes for D blocks.

    Source: Santurkar et al., How does batch normalization help optimization? (arXiv 1805.11604), definition 2.1 of
    internal covariate shift, here for the optimizer's own moves.

    Returns:
        One row a block, input side first: `block, cosine, relative_change, sign_changes`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): the gradient of v is 2 (w v - 3) w = -2; when w has moved to
    1.5, it is 2 (1.5 * 2 - 3) 1.5 = 0.

    >>> import layerwise
    >>> layerwise.diagnostics.gauss_seidel(layerwise.diagnostics.example())
      block  cosine  relative_change  sign_changes
    0     w     1.0              0.0           0.0
    1     v     NaN              1.0           0.0
    """
    rows = []
    for k, (name, old) in enumerate(zip(step.names, step.gradient, strict=True)):
        new = old
        if k:
            moved = [u if j < k else None for j, u in enumerate(step.displacement)]
            new = step.gradient_at(moved)[1][k]
        # An entry that is zero but for rounding, as that of the bias of attention's keys, has no sign.
        smaller = np.minimum(np.abs(old), np.abs(new))
        rounding = 1e3 * np.finfo("float64").eps * np.max(np.abs(old), initial=0.0)
        length, new_length = np.linalg.norm(old), np.linalg.norm(new)
        rows.append(
            {
                "block": name,
                "cosine": min(1.0, max(-1.0, c))
                if (c := ratio(old @ new, length * new_length)) == c
                else c,
                "relative_change": ratio(np.linalg.norm(new - old), length),
                "sign_changes": float(np.mean((old * new < 0) & (smaller > rounding)))
                if np.isfinite(new_length)
                else np.nan,
            }
        )
    return pd.DataFrame(rows)
