"""FreezeOut: every block's learning rate falls to zero on a cosine, the first block's first; then the block rests.

Brock et al., FreezeOut: accelerate training by progressively freezing layers (2017), cubic and unscaled.
"""

import keras
import numpy as np

import layerwise


@keras.saving.register_keras_serializable("examples")
class FreezeOut(layerwise.Schedule):
    """Block i of n stops at the share `(first + (1 - first) * (i + 1) / n) ** 3` of `steps`."""

    def __init__(self, steps, first=0.8, blocks="auto"):
        super().__init__(blocks=blocks)
        self.steps, self.first = steps, first

    def _ends(self):
        n = len(self.blocks)
        shares = [(self.first + (1 - self.first) * (i + 1) / n) ** 3 for i in range(n)]
        return [share * self.steps for share in shares]

    def factors(self, epoch, step):
        return {
            i: (1 + np.cos(np.pi * min(1, step / end))) / 2 for i, end in enumerate(self._ends())
        }

    def updates(self, epoch, step):
        moving = [i for i, end in enumerate(self._ends()) if step < end]
        moving = tuple(moving) or (len(self.blocks) - 1,)
        return (layerwise.Update(moving, visit=len(self.blocks) - len(moving)),)
