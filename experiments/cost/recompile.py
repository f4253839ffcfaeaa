"""What Keras' documentation tells a user to do: `layer.trainable`, and `compile` again, at each switch."""

import keras

import layerwise
from experiments.harness.timing import Training


class Recompiling:
    """Moves one block of a training's model at a time by `trainable` and `compile`.

    Args:
        training: A `Training`.
        blocks: The `Blocks` of its model.
    """

    def __init__(self, training: Training, blocks: layerwise.Blocks):
        self.training, self.blocks = training, blocks
        self.optimizer = type(training.model.optimizer)
        self.config = training.model.optimizer.get_config()

    def switch(self, index: int) -> None:
        """Only block `index` is trainable, and the model is compiled with a new optimizer."""
        model = self.training.model
        for block in self.blocks:
            for layer in block.layers:
                layer.trainable = block.index == index
        self._compile(model)

    def undo(self) -> None:
        """All blocks are trainable again."""
        for block in self.blocks:
            for layer in block.layers:
                layer.trainable = True
        self._compile(self.training.model)

    def _compile(self, model):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=self.optimizer.from_config(self.config), loss=loss)
