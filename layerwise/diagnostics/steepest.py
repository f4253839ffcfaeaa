"""Steepest: whether the gradient is the best direction for a step of some length."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step

ROUNDING = 1e-14  # relative; losses that are closer cannot be told apart


@quantity("cosine", "gain", by=("radius",))
def steepest(
    step: Step,
    radii: Sequence[float] | None = None,
    tolerance: float = 1e-3,
    iterations: int = 20,
) -> pd.DataFrame:
    """Compares the negative gradient with the best displacement in a ball around the weights.

    The gradient is the steepest direction in the limit of radius 0: it holds all other weights constant. In a ball of
    radius r the best displacement d minimizes L(w + d) over |d| <= r, and takes into account how weights depend on one
    another. `cosine` = -g' d / (|g| |d|); `gain` = (L(w + d) - L(w)) / (L(w - r g/|g|) - L(w)): how many times more the
    best displacement brings than the gradient of the same length (negative where the gradient's step raises the loss).

    d is found by spectral projected gradients from the gradient's own step, over the blocks that move: a local minimum,
    which is the global one where the loss is convex.

    Cost: for each radius at most `iterations` backward passes and about three more. The search holds about ten vectors of
    the size of the weights.

    Args:
        step: The Step.
        radii: The radii; None: a tenth of the displacement's length, and its length.
        tolerance: Ends the search where the projected gradient is shorter than this part of the gradient.
        iterations: The most steps of the search for a radius.

    Source: Birgin, Martinez and Raydan, Nonmonotone spectral projected gradient methods on convex sets (2000); the problem
    is the trust-region subproblem of the loss itself, Nocedal and Wright (2006), equation 4.3.

    Returns:
        One row a radius: `radius, cosine, gain`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`) in a ball of radius sqrt(0.3125): the gradient's step goes to
    (1.5, 2.25) and changes the loss by (1.5 * 2.25 - 3)^2 - 1 = -0.859375; the ball also holds points with w v = 3, where
    the loss is 0, so that the gain is 1 / 0.859375 = 1.163636.

    >>> import layerwise
    >>> step = layerwise.diagnostics.example()
    >>> found = layerwise.diagnostics.steepest(step, radii=[0.3125**0.5], tolerance=1e-9)
    >>> round(found["gain"].item(), 6)
    1.163636
    """
    start = np.concatenate(step.gradient)
    length = float(np.linalg.norm(start))
    if radii is None:
        moved = float(np.linalg.norm(np.concatenate(step.displacement)))
        radii = (0.1 * moved, moved)
    rows, ends = [], np.cumsum([w.size for w in step.weights])[:-1]

    def at(d):
        loss, gradient = step.gradient_at(np.split(d, ends))
        return loss, np.concatenate(gradient)

    for radius in np.atleast_1d(radii):
        if not (length > 0 and np.isfinite(length) and radius > 0):
            rows.append({"radius": float(radius), "cosine": np.nan, "gain": np.nan})
            continue
        steep = -radius / length * start
        best, loss, along = _least(at, steep, radius, tolerance * length, iterations)
        cosine = ratio(-start @ best, length * np.linalg.norm(best))
        rows.append(
            {
                "radius": float(radius),
                "cosine": float(np.clip(cosine, -1.0, 1.0)),
                "gain": ratio(loss - step.loss, along - step.loss),
            }
        )
    return pd.DataFrame(rows)


def _least(at, start, radius, tolerance, iterations):
    """Spectral projected gradients: `(best point, its loss, the loss at the start)`."""

    def project(d):
        size = np.linalg.norm(d)
        return d if size <= radius else d * (radius / size)

    point = start
    loss, gradient = along, _ = at(start)
    if not np.isfinite(loss):
        return point, loss, along
    scale, recent, best = radius / np.linalg.norm(gradient), [loss], (loss, point)
    for _ in range(iterations):
        direction = project(point - scale * gradient) - point
        if np.linalg.norm(project(point - gradient) - point) <= tolerance:
            if recent[-1] <= best[0] + ROUNDING * abs(best[0]):
                best = recent[-1], point  # no worse than the lowest loss, and nearer to the minimum
            break
        slope, length = gradient @ direction, 1.0
        while True:
            new = point + length * direction
            new_loss, new_gradient = at(new)
            if new_loss <= max(recent[-8:]) + 1e-4 * length * slope or length < 1e-8:
                break
            length /= 2
        moved, turned = new - point, new_gradient - gradient
        curvature = moved @ turned
        scale = float(np.clip((moved @ moved) / curvature, 1e-10, 1e10)) if curvature > 0 else 1e10
        point, gradient = new, new_gradient
        recent.append(new_loss)
        best = min(best, (new_loss, new), key=lambda pair: pair[0])
    return best[1], best[0], along
