"""Plane: the loss over the multiples of two blocks' moves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity(by=("block", "other"))
def plane(
    step: Step,
    blocks: Sequence[int | str] | None = None,
    multiples: Sequence[float] = (0.0, 0.5, 1.0, 1.5),
) -> pd.DataFrame:
    """Measures the loss where two blocks move by any multiples of their displacements.

    A measure is called "a, b" and is L(w + a u_i + b u_j); "1, 1" is the joint step. `fresh` is how far block j would move
    if its gradient were computed after block i has moved, as a multiple of u_j: g_j(w + u_i)' u_j / g_j(w)' u_j, exact for
    plain gradient descent on a block of one weight. The path of a step that moves both at once ends at "1, 1", one that
    moves them in turn at "1, fresh" (`figures.loss_plane` draws them).

    Cost: one forward pass a point, M^2 of M multiples, and one backward pass; where no blocks are given also D
    Hessian-vector products (shared with `pairs`).

    Args:
        step: The Step.
        blocks: The two blocks, by name or position; None: those two whose |u_i' H u_j| is largest.
        multiples: The multiples a, and the multiples b.

    Source: Li et al., Visualizing the loss landscape of neural nets (arXiv 1712.09913), section 3, with moves of training
    in place of random directions.

    Returns:
        One row: `block, other`, and a column for each point.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): at half of w's move and once v's, the loss
    is (1.25 * 2.25 - 3)^2 = 0.1875^2; after w's move v's gradient is 0.

    >>> import layerwise
    >>> found = layerwise.diagnostics.plane(layerwise.diagnostics.example())
    >>> found[["block", "other", "0.5, 1", "1, 1"]]
      block other    0.5, 1      1, 1
    0     w     v  0.035156  0.140625
    >>> abs(round(found["fresh"].item(), 9))
    0.0
    """
    i, j = (step.index(block) for block in (_most(step) if blocks is None else blocks))
    if i == j:
        raise ValueError(f"blocks must be two different blocks, got {blocks!r}.")
    row: dict = {"block": step.names[i], "other": step.names[j]}

    def moved(a, b):
        along = {i: a, j: b}
        return [along[k] * u if k in along else None for k, u in enumerate(step.displacement)]

    for a in multiples:
        for b in multiples:
            row[f"{a:g}, {b:g}"] = step.loss_at(moved(a, b))
    after = step.gradient_at(moved(1.0, 0.0))[1][j] @ step.displacement[j]
    row["fresh"] = ratio(after, step.gradient[j] @ step.displacement[j])
    return pd.DataFrame([row])


def _most(step):
    if len(step.blocks) < 2:
        raise ValueError(f"A plane takes two blocks that move, and only {step.names} do.")
    coupling = np.triu(np.abs(np.nan_to_num(step.curvature_of_moves())), 1)
    i, j = np.unravel_index(np.argmax(coupling), coupling.shape)
    return (int(i), int(j)) if i != j else (0, 1)
