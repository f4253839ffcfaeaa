"""Reversals: which entries of the weights go back where they came from."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity
from layerwise.diagnostics.step import Step


@quantity("share", by=("block",))
def reversals(step: Step, before: Mapping[int, np.ndarray] | None = None) -> pd.DataFrame:
    """Counts the entries whose displacement has the opposite sign of the training step before.

    `share` of a block = the share of entries with u * (w - w_before) < 0 among those that both steps move: w_before are the
    weights before the last training step. A share of 1 is a block that goes to and fro. NaN where the last step did not
    move the block.

    A Probe measures it only where each step is trained by itself (`steps_per_execution=1`).

    Cost: no passes; a copy of the weights.

    Source: the sign test of Rprop, Riedmiller and Braun, A direct adaptive method for faster backpropagation learning
    (1993), section III.

    Args:
        step: The Step.
        before: `{id(variable): value}` before the last training step, which only a `Probe` knows; None: nothing is known.

    Returns:
        One row a block: `block, share`.

    Example: the net w * v * x at w = 1, v = 2 moves w by 0.5 and v by 0.25 (see `example`); the last step brought w up from
    0.5 and v down from 3.

    >>> import layerwise, numpy as np
    >>> step = layerwise.diagnostics.example()
    >>> w, v = step.model.trainable_variables
    >>> layerwise.diagnostics.reversals(step, {id(w): np.array([[0.5]]), id(v): np.array([[3.0]])})
      block  share
    0     w    0.0
    1     v    1.0
    """
    rows = []
    for block, u, w in zip(step.blocks, step.displacement, step.weights, strict=True):
        share = float("nan")
        if before is not None and all(id(v) in before for v in block.variables):
            last = w - np.concatenate([np.ravel(before[id(v)]) for v in block.variables])
            both = (last != 0) & (u != 0)
            share = float(np.mean((last * u < 0)[both])) if both.any() else share
        rows.append({"block": block.name, "share": share})
    return pd.DataFrame(rows)
