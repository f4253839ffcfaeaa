"""Parts: what each block's move does alone, and what the straight line says that it does."""

import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("change", "predicted", "miss", by=("block",))
def parts(step: Step) -> pd.DataFrame:
    """Moves each block alone and compares with the gradient's prediction.

    `change` = L(w + u_l) - L(w); `predicted` = g_l' u_l; `miss` = change / predicted - 1, how far the straight line is off:
    to second order (u_l' H u_l / 2) / (g_l' u_l). The displacement u is the optimizer's own, decoupled weight decay
    included, which the loss does not contain: the prediction for such a move is still the gradient times the move.

    Cost: D forward passes for D blocks (shared with `interaction`).

    Source: Taylor's theorem; as a diagnostic of training, the "gain ratio" of Martens and Grosse (arXiv 1503.05671,
    section 6.5) for each block.

    Returns:
        One row a block: `block, change, predicted, miss`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`), where w moves by 0.5 and the gradient is -4.

    >>> import layerwise
    >>> layerwise.diagnostics.parts(layerwise.diagnostics.example())
      block  change  predicted   miss
    0     w -1.0000       -2.0 -0.500
    1     v -0.4375       -0.5 -0.125
    """
    rows = []
    for k, name in enumerate(step.names):
        change = step.change([k])
        predicted = float(step.gradient[k] @ step.displacement[k])
        miss = ratio(change, predicted) - 1.0
        rows.append({"block": name, "change": change, "predicted": predicted, "miss": miss})
    return pd.DataFrame(rows)
