"""Small models that the experiments train, each with four blocks."""

from collections.abc import Sequence

import keras
from keras import layers


def mlp(shape: Sequence[int], n_classes: int, width: int = 128) -> keras.Sequential:
    """Three ReLU layers and a linear one; logits.

    Example:
    >>> import layerwise
    >>> from experiments.harness.models import mlp
    >>> len(layerwise.partition(mlp((8, 8, 1), 10)))
    4
    """
    hidden = [layers.Dense(width, "relu", kernel_initializer="he_normal") for _ in range(3)]
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), *hidden, layers.Dense(n_classes)]
    )


def convnet(
    shape: Sequence[int], n_classes: int, widths: Sequence[int] = (16, 32, 32)
) -> keras.Sequential:
    """Three blocks of convolution, batch normalization and ReLU, and a linear layer on their
    average; logits.

    Example:
    >>> import layerwise
    >>> from experiments.harness.models import convnet
    >>> len(layerwise.partition(convnet((8, 8, 1), 10)))
    4
    """
    model = keras.Sequential([keras.Input(shape)])
    for number, width in enumerate(widths):
        convolution = layers.Conv2D(
            width,
            3,
            strides=2 if number else 1,
            padding="same",
            use_bias=False,
            kernel_initializer="he_normal",
            data_format="channels_last",
        )
        model.add(convolution)
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.GlobalAveragePooling2D(data_format="channels_last"))
    model.add(layers.Dense(n_classes))
    return model
