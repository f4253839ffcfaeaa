"""Smoothness: how much loss and gradient change along the step."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("loss", "gradient_distance", "effective_smoothness", by=("multiple",))
def smoothness(step: Step, multiples: Sequence[float] = (0.5, 1.0, 2.0)) -> pd.DataFrame:
    """Follows the loss and its gradient along the step, on the same batch and with the same masks.

    `loss` = L(w + t u); `gradient_distance` = |g(w + t u) - g(w)|; `effective_smoothness` = gradient_distance / |t u|,
    whose largest value over t is the smoothness constant that the step sees. Differences of the gradients of two training
    steps would mix in the change of the batch.

    Cost: one backward pass a multiple.

    Args:
        step: The Step.
        multiples: The multiples t.

    Source: Santurkar et al., How does batch normalization help optimization? (arXiv 1805.11604), figure 4.

    Returns:
        One row a multiple: `multiple, loss, gradient_distance, effective_smoothness`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`) moves to (1.5, 2.25), where the gradient is
    2 * 0.375 * (2.25, 1.5) = (1.6875, 1.125), at a distance of sqrt(5.6875^2 + 3.125^2) from (-4, -2).

    >>> import layerwise
    >>> layerwise.diagnostics.smoothness(layerwise.diagnostics.example(), multiples=[1.0]).round(6)
       multiple      loss  gradient_distance  effective_smoothness
    0       1.0  0.140625           6.489475             11.608725
    """
    length = float(np.linalg.norm(np.concatenate(step.displacement)))
    start, rows = np.concatenate(step.gradient), []
    for multiple in np.atleast_1d(multiples):
        loss, gradients = step.gradient_at([multiple * u for u in step.displacement])
        distance = float(np.linalg.norm(np.concatenate(gradients) - start))
        rows.append(
            {
                "multiple": float(multiple),
                "loss": loss,
                "gradient_distance": distance,
                "effective_smoothness": ratio(distance, abs(multiple) * length),
            }
        )
    return pd.DataFrame(rows)
