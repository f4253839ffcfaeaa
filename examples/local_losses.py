"""Decoupled greedy learning: on each batch every block descends the loss of its own head, cut off from its neighbours.

Belilovsky et al., Decoupled greedy learning of CNNs (2020), the synchronous form.
"""

import keras

import layerwise


@keras.saving.register_keras_serializable("examples")
class LocalLosses(layerwise.Schedule):
    """All blocks move at every step; block k feels `L(head_k(f_k(features)), y)` alone, the last one the model's own."""

    def __init__(self, blocks="auto", head="linear", seed=0):
        super().__init__(blocks=blocks, head=head, seed=seed)

    def updates(self, epoch, step):
        last = len(self.blocks) - 1
        losses = [layerwise.Loss(after=k, cut=k) for k in range(last)]
        losses.append(layerwise.Loss(cut=last))
        return (layerwise.Update(tuple(range(last + 1)), losses=tuple(losses)),)
