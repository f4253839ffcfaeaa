"""Bias-corrects the moving averages of batch normalization before a block is frozen.

After n steps with momentum m, a moving average is `m^n * initial + (1 - m^n) * mean`, the mean weighted towards recent
batches: with m = 0.99, 115 steps leave 31 % of the initial value. What is known can be divided out, as Adam does
(Kingma & Ba 2015, section 3): `(average - m^n * initial) / (1 - m^n)`.
"""

import keras
import numpy as np

from layerwise.backends import backend


class MovingAverages:
    """The batch-normalization layers of some blocks, with what their averages started from.

    Args:
        blocks: `Blocks`, or `()` for none.
    """

    def __init__(self, blocks):
        self._layers = [
            [layer for layer in block.layers if isinstance(layer, keras.layers.BatchNormalization)]
            for block in blocks
        ]
        self._passes = np.zeros(len(self._layers), "int64")  # in training mode
        self._passes_at: dict[int, np.ndarray] = {}  # the end of an epoch of Keras' counting
        self._frozen = np.zeros(len(self._layers), bool)
        self.begin()

    def begin(self):
        """Takes the averages' values now as those that they start from."""
        self._initial = [backend.to_numpy(v) for v in self._averages()]

    def count(self, update, steps):
        """So many training steps were taken with an Update."""
        if len(self._passes) and update.blocks is not None:
            end = None if update.last is None else update.last + 1
            self._passes[update.frozen_below : end] += steps

    def end_epoch(self, epoch):
        """An epoch of Keras' counting is over: weights may be restored to what they are now."""
        self._passes_at[epoch] = self._passes.copy()

    def freeze(self, below, restored=None, frozen=None):
        """Divides the initial values out of the averages of the blocks with a smaller index, once for each.

        Args:
            below: The index.
            restored: The epoch of Keras' counting to whose end the weights, and the averages with them, were restored;
                None: they were not.
            frozen: For each block, whether it is frozen before; None: as it is.

        Returns:
            For each block, whether it was frozen before.
        """
        before = (self._frozen if frozen is None else frozen).copy()
        passes = self._passes_at.get(restored, self._passes)
        initial = iter(self._initial)
        for k, layers in enumerate(self._layers):
            for layer in layers:
                starts = [next(initial) for _ in _averages(layer)]
                left = float(layer.momentum) ** int(passes[k])
                # An average that nothing has moved away from its start has no more to tell.
                if k < below and not before[k] and left < 1.0:
                    for average, start in zip(_averages(layer), starts, strict=True):
                        value = backend.to_numpy(average)
                        average.assign(((value - left * start) / (1.0 - left)).astype(value.dtype))
            self._frozen[k] = before[k] or (k < below and passes[k] > 0)
        return before

    def state(self):
        """`{name: array}` for a checkpoint."""
        state = {"passes": self._passes, "frozen": self._frozen.astype("int64")}
        return state | {f"average_{i}": value for i, value in enumerate(self._initial)}

    def set_state(self, state):
        """Takes over what `state` gave."""
        self._passes, self._frozen = state["passes"].copy(), state["frozen"].astype(bool)
        self._initial = [state[f"average_{i}"] for i in range(len(self._initial))]

    def _averages(self):
        return [v for layers in self._layers for layer in layers for v in _averages(layer)]


def _averages(layer):
    return [layer.moving_mean, layer.moving_variance]
