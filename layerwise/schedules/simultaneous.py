"""Simultaneous: every block, every step."""

from collections.abc import Mapping
from typing import Any

import keras

from layerwise.schedules.base import Schedule
from layerwise.steps import Update


@keras.saving.register_keras_serializable("layerwise")
class Simultaneous(Schedule):
    """Stock `fit`: every trainable variable moves at every step, by the model's own train function, bit for bit.

    It takes any model that `fit` takes, and is the baseline that other schedules are compared with. With `rates`, each
    block has a learning rate of its own: the optimizer's, times the block's factor.

    Args:
        rates: `None`, or `{block name or index: factor}`; a factor is a number, or a callable `(epoch, step) -> number`.
            With all factors the number 1, weights and history are those of stock `fit`, bit for bit. (A callable that
            returns 1 gives them to rounding: TensorFlow may multiply in another order.)
        blocks: With `rates`: what the factors are for, as `layerwise.partition(by=...)` takes it. "layer": every layer.

    Raises:
        ValueError: For a block that there is not, or a factor that is no number of at least 0.

    Example: the first layer learns at a tenth of the rate.

    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> schedule = layerwise.Simultaneous(rates={"a": 0.1})
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[schedule], verbose=0)
    >>> schedule.visits[["blocks", "steps", "updates"]].values.tolist()
    [[('a', 'b'), 4, 4]]
    """

    def __init__(self, rates: Mapping[str | int, Any] | None = None, blocks: Any = "auto"):
        super().__init__(blocks=blocks, rates=rates)
        if rates is None and blocks != "auto":
            raise ValueError(
                f"blocks={blocks!r} says what learning-rate factors are for: give rates={{block: factor}} with it."
            )
        if blocks is None:
            raise ValueError(
                "blocks must be 'auto', an int, 'layer' or a list of lists of layer names, got None."
            )

    @property
    def divides(self) -> bool:
        """Whether the model is divided into blocks: only where they have rates of their own."""
        return self.rates is not None

    def updates(self, epoch: int, step: int) -> tuple[Update, ...]:
        if not self.divides:
            return (Update(blocks=None, visit=0),)
        return (Update(blocks=tuple(range(len(self.blocks))), visit=0),)
