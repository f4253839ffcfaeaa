"""Interaction: whether the blocks' moves cancel, add up or help one another."""

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("joint", "sum_of_parts", "interaction", "additivity", "noise_floor")
def interaction(step: Step) -> pd.DataFrame:
    """Compares the change of the loss when all blocks move with the sum of the changes when each moves alone.

    With D_S = L(w + u_S) - L(w), the change when only the blocks in S move by their displacements u:
    `joint` = D_all; `sum_of_parts` = sum of D_l over the blocks; `interaction` = joint - sum_of_parts, which is the sum of
    u_i' H u_j over i < j plus terms of third order; `additivity` = joint / sum_of_parts. Where the sum is negative:
    additivity 1 means that the blocks' moves add up, below 1 that they partly cancel, below 0 that the joint step
    overshoots though each part alone would help, above 1 that they help one another. `noise_floor` is the rounding of the
    losses that enter, in float64: an interaction of its size means nothing.

    Cost: D + 1 forward passes for D blocks.

    Source: the second-order expansion of the loss in blocks; the separation into single and joint changes is that of
    pairwise interactions in the design of experiments.

    Returns:
        One row: `joint, sum_of_parts, interaction, additivity, noise_floor`.

    Example: the net w * v * x with x = 1, target 3, w = 1 and v = 2, at learning rate 0.125: w moves by 0.5, v by 0.25.

    >>> import layerwise
    >>> step = layerwise.diagnostics.example()
    >>> row = layerwise.diagnostics.interaction(step).iloc[0].to_dict()
    >>> row["joint"]  # (1.5 * 2.25 - 3)^2 - (1 * 2 - 3)^2
    -0.859375
    >>> row["sum_of_parts"]  # ((1.5 * 2 - 3)^2 - 1) + ((1 * 2.25 - 3)^2 - 1)
    -1.4375
    >>> row["interaction"], round(row["additivity"], 4)
    (0.578125, 0.5978)
    """
    n = len(step.blocks)
    changes = [step.change([k]) for k in range(n)]
    joint, parts = step.change(range(n)), float(np.sum(changes))
    losses = [abs(step.loss + change) for change in (joint, *changes)] + [n * abs(step.loss)]
    row = {
        "joint": joint,
        "sum_of_parts": parts,
        "interaction": joint - parts,
        "additivity": ratio(joint, parts),
        "noise_floor": float(np.finfo("float64").eps * np.sum(losses)),
    }
    return pd.DataFrame([row])
