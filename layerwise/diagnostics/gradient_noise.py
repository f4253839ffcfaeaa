"""Gradient noise: how much of the gradient is the batch's, and the dropout masks', own."""

import numpy as np
import pandas as pd

from layerwise.diagnostics import checks
from layerwise.diagnostics.frames import quantity, ratio
from layerwise.diagnostics.step import Step


@quantity("batch_noise", "mask_noise", by=("block",))
def gradient_noise(step: Step, parts: int = 8, masks: int = 4) -> pd.DataFrame:
    """Measures the noise of the gradient from the choice of examples and from the choice of dropout masks.

    `batch_noise` = tr(Sigma) / |G|^2, the simple noise scale: Sigma the covariance of one example's gradient, G the mean
    gradient. From K parts of b examples with the gradients g_k and their mean g: tr(Sigma) is estimated by
    b / (K - 1) times the sum of |g_k - g|^2, and |G|^2 by |g|^2 less the noise that is in it, tr(Sigma) / (K b). Both are
    unbiased. A batch of that many examples has as much noise as signal; where the estimate of |G|^2 is not positive, the
    batch is too small to tell: infinity. `mask_noise` = the trace of the covariance of the gradient over dropout masks, at
    the fixed batch, over the same |G|^2.

    A batch of one example says nothing of either: NaN.

    With batch normalization a part has statistics of its own, and with dropout masks of its own, which is then in
    `batch_noise`. The loss must be a mean over examples; its regularizers have no noise.

    Cost: K backward passes of a part (one of the whole batch in all), and one backward pass a mask where the model has
    random layers.

    Args:
        step: The Step.
        parts: K, at least 2: that many parts of the batch; as many as examples: each example's own gradient.
        masks: Masks, at least 2.

    Source: McCandlish et al., An empirical model of large-batch training (arXiv 1812.06162), equations 2.9 and A.1 to A.4.

    Returns:
        One row a block: `block, batch_noise, mask_noise`.

    Example: one weight w = 0 and two examples with x = 1 and targets 1 and 3: their gradients -2 y are -2 and -6, with mean
    -4 and variance 8 (2 examples, less one). |G|^2 is 16 - 8 / 2 = 12.

    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="w")])
    >>> model.set_weights([np.array([[0.0]])])
    >>> model.compile("sgd", loss="mse")
    >>> step = layerwise.diagnostics.Step(model, np.array([[1.0], [1.0]]), np.array([[1.0], [3.0]]))
    >>> layerwise.diagnostics.gradient_noise(step, parts=2).round(6)
      block  batch_noise  mask_noise
    0     w     0.666667         0.0
    """
    checks.at_least("parts", parts, 2)
    checks.at_least("masks", masks, 2)
    if step.examples < 2:
        nothing = {"batch_noise": float("nan"), "mask_noise": float("nan")}
        return pd.DataFrame([{"block": name, **nothing} for name in step.names])
    parts = min(parts, step.examples)
    each = step.examples // parts
    means, spreads = _spread(step.parts(parts), step.weights)
    over_masks = [0.0] * len(step.blocks)
    if step.is_random:
        zero = [None] * len(step.blocks)
        draws = (step.gradient_at(zero, masks=k)[1] for k in range(masks))
        over_masks = _spread(draws, step.weights)[1]
    rows = []
    for k, name in enumerate(step.names):
        noise = each * spreads[k]
        signal = float(means[k] @ means[k]) - noise / (parts * each)
        rows.append(
            {
                "block": name,
                "batch_noise": _over(noise, signal),
                "mask_noise": _over(over_masks[k], signal),
            }
        )
    return pd.DataFrame(rows)


def _spread(gradients, like):
    """The mean over some gradients, one array a block, and for each block the trace of their covariance.

    By Welford's recurrence: one gradient is held beside the mean, however many there are.
    """
    means, squares, count = [np.zeros_like(w) for w in like], [0.0] * len(like), 0
    for count, gradient in enumerate(gradients, 1):
        for k, g in enumerate(gradient):
            off = g - means[k]
            means[k] += off / count
            squares[k] += float(off @ (g - means[k]))
    return means, [s / (count - 1) for s in squares]


def _over(noise, signal):
    if not noise:
        return 0.0
    return ratio(noise, signal) if signal > 0 or np.isnan(signal) else float("inf")
