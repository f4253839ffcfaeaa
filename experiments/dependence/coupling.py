"""Coupling: by how much a step that is right for each weight alone is too long when all weights take it together."""

import numpy as np
import pandas as pd

from layerwise.diagnostics import Step, quantity

SAMPLES = 8


@quantity("within_layers", "between_layers", "all_weights")
def coupling(step: Step, samples: int = SAMPLES, seed: int = 0) -> pd.DataFrame:
    """Compares the curvature along the step with that of its parts, moved one at a time.

    With the displacement u, its part u_l in layer l and its entry u_w for a single weight w:

    - `within_layers` = sum over layers of u_l' H u_l, over the sum over weights of u_w^2 H_ww;
    - `between_layers` = u' H u over the sum over layers of u_l' H u_l;
    - `all_weights` = u' H u over the sum over weights of u_w^2 H_ww, the product of both.

    1: the parts do not feel one another. 10: if each weight alone took the step that is best for it, all together would go
    ten times too far. No multiple of u changes them.

    Cost: as many Hessian-vector products as there are layers and samples. The sum over weights is Hutchinson's estimate
    from `samples` vectors of random signs.

    Returns:
        One row.

    Example: the net w * v * x at w = 1, v = 2 (`layerwise.diagnostics.example`) has the Hessian [[8, 2], [2, 2]] and takes
    the step (0.5, 0.25): u' H u = 2.625, and 2.125 without the two's product.

    >>> import layerwise
    >>> from experiments.dependence.coupling import coupling
    >>> found = coupling(layerwise.diagnostics.example(), samples=256)
    >>> round(found["between_layers"].item(), 6)
    1.235294
    >>> abs(found["within_layers"].item() - 1) < 0.05  # estimated: its layers have one weight each
    True
    """
    matrix = step.curvature_of_moves()
    own, whole = float(np.trace(matrix)), float(matrix.sum())
    rng, single = np.random.default_rng(seed), []
    for _ in range(samples):
        flipped = [rng.choice((-1.0, 1.0), size=u.size) * u for u in step.displacement]
        products = step.hessian_vector(flipped)
        single.append(sum(float(v @ p) for v, p in zip(flipped, products, strict=True)))
    alone = float(np.mean(single))
    row = {
        "within_layers": own / alone,
        "between_layers": whole / own,
        "all_weights": whole / alone,
    }
    return pd.DataFrame([row])
