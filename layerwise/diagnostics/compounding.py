"""Compounding: how small relative changes multiply with depth."""

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import ALL, quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("relative_update", "trust_ratio", "compounded", by=("block",))
def compounding(step: Step) -> pd.DataFrame:
    """Measures each block's update relative to its weights, and their product over depth.

    `relative_update` = |u_l| / |w_l|; `trust_ratio` = rate |w_l| / (|g_l| + decay |w_l|), the learning rate that LARS would
    give the block, with the optimizer's present rate and its decoupled weight decay (0 where it has none); `compounded` =
    the product over the blocks of (1 + relative_update), minus 1: deep relative trust bounds the relative change of the
    network's function by it. A block's row is about that block alone; the row "all" has the norms over all blocks and the
    product over all blocks.

    Cost: no passes.

    Source: Bernstein et al., On the distance between two neural networks and the stability of learning (arXiv 2002.03432),
    theorem 1; You et al., Large batch training of convolutional networks (arXiv 1708.03888), equation 6.

    Returns:
        One row a block, and one for "all": `block, relative_update, trust_ratio, compounded`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): updates 0.5 and 0.25, gradients -4 and -2, rate 0.125.
    1.5 * 1.125 - 1 = 0.6875.

    >>> import layerwise
    >>> layerwise.diagnostics.compounding(layerwise.diagnostics.example()).round(6)
      block  relative_update  trust_ratio  compounded
    0     w            0.500      0.03125      0.5000
    1     v            0.125      0.12500      0.1250
    2   all            0.250      0.06250      0.6875
    """
    rows = []
    for k, name in enumerate(step.names):
        rows.append(_row(step, name, [k]))
    rows.append(_row(step, ALL, range(len(step.blocks))))
    rows[-1]["compounded"] = float(
        np.prod([1.0 + row["relative_update"] for row in rows[:-1]]) - 1.0
    )
    return pd.DataFrame(rows)


def _row(step, name, blocks):
    u, w, g = (
        np.linalg.norm(np.concatenate([vectors[k] for k in blocks]))
        for vectors in (step.displacement, step.weights, step.gradient)
    )
    relative = ratio(u, w)
    return {
        "block": name,
        "relative_update": relative,
        "trust_ratio": ratio(step.learning_rate * w, g + step.weight_decay * w),
        "compounded": relative,
    }
