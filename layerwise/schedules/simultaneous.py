"""Simultaneous: every block, every step."""

import keras

from layerwise.training import Schedule
from layerwise.updates import Update


@keras.saving.register_keras_serializable("layerwise")
class Simultaneous(Schedule):
    """Stock `fit`: every trainable variable moves at every step, by the model's own train function, bit for bit.

    It takes any model that `fit` takes, and is the baseline that other schedules are compared with.

    Example:
    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> schedule = layerwise.Simultaneous()
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[schedule], verbose=0)
    >>> schedule.visits[["blocks", "steps", "updates"]].values.tolist()
    [[('all',), 4, 4]]
    """

    def __init__(self):
        super().__init__(blocks=None)

    def updates(self, epoch, step):
        return (Update(blocks=None, visit=0),)
