"""Sharpness: how much the loss rises at most in a small ball around the weights, to first order."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity
from layerwise.diagnostics.step import Step


@quantity("sharpness", "adaptive_sharpness", by=("radius",))
def sharpness(step: Step, radii: Sequence[float] = (0.05,)) -> pd.DataFrame:
    """Measures how much the loss rises along the gradient, plainly and relative to the weights' own sizes.

    `sharpness` = L(w + r g / |g|) - L(w), which sharpness-aware minimization descends. `adaptive_sharpness` =
    L(w + r w^2 g / |w g|) - L(w), entry by entry: it does not change when a layer is scaled up and the next one down by the
    same factor, which the plain one does.

    Cost: two forward passes a radius.

    Args:
        step: The Step.
        radii: The radii r; that of the adaptive one is relative: 0.05 is customary for the plain one, 0.5 for the other.

    Source: Foret et al., Sharpness-aware minimization (arXiv 2010.01412), equation 2; Kwon et al., ASAM (arXiv 2102.11600),
    equation 8; Dinh et al. (arXiv 1703.04933) for why the plain one depends on scale.

    Returns:
        One row a radius: `radius, sharpness, adaptive_sharpness`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`): g = (-4, -2), so that the plain ball of radius sqrt(5) goes
    to (1 - 2, 2 - 1) = (-1, 1), where the loss is (-1 - 3)^2 = 16.

    >>> import layerwise
    >>> found = layerwise.diagnostics.sharpness(layerwise.diagnostics.example(), radii=[5**0.5])
    >>> round(found["sharpness"].item(), 6)
    15.0
    """
    gradient, weights = np.concatenate(step.gradient), np.concatenate(step.weights)
    ends = np.cumsum([w.size for w in step.weights])[:-1]
    plain, adaptive = _unit(gradient, gradient), _unit(weights**2 * gradient, weights * gradient)
    rows = []
    for radius in np.atleast_1d(radii):
        losses = [step.loss_at(np.split(radius * d, ends)) - step.loss for d in (plain, adaptive)]
        rows.append(
            {"radius": float(radius), "sharpness": losses[0], "adaptive_sharpness": losses[1]}
        )
    return pd.DataFrame(rows)


def _unit(direction, measured):
    length = np.linalg.norm(measured)
    return direction / length if length else direction
