"""LISA: the first and the last block always move, with a few of those between, drawn anew every `every` steps.

Pan et al., LISA: layerwise importance sampling for memory-efficient large language model fine-tuning (2024).
"""

import keras
import numpy as np

import layerwise


@keras.saving.register_keras_serializable("examples")
class Lisa(layerwise.Schedule):
    """`n_between` of the inner blocks move together for `every` steps; state is dropped with each draw."""

    def __init__(self, n_between=2, every=20, blocks="auto", state="drop", seed=0):
        super().__init__(blocks=blocks, state=state, seed=seed)
        self.n_between, self.every = n_between, every

    def updates(self, epoch, step):
        visit, last = step // self.every, len(self.blocks) - 1
        rng = np.random.default_rng((self.seed, visit))
        between = rng.choice(np.arange(1, last), size=min(self.n_between, last - 1), replace=False)
        blocks = tuple(sorted({0, last, *map(int, between)}))
        return (layerwise.Update(blocks, visit=visit, resident=(0, last)),)
