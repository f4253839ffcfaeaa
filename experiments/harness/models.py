"""Small models that the experiments train, each with four blocks."""

from collections.abc import Sequence

import keras
import numpy as np
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
    average; logits. The first convolution keeps the size of images of up to 16 pixels and halves that of larger ones; the
    others halve it.

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
            strides=2 if number or min(shape[:2]) > 16 else 1,
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


def normalized_mlp(shape: Sequence[int], n_classes: int, width: int = 128) -> keras.Sequential:
    """`mlp` with batch normalization before each ReLU; logits.

    Example:
    >>> import layerwise
    >>> from experiments.harness.models import normalized_mlp
    >>> len(layerwise.partition(normalized_mlp((8, 8, 1), 10)))
    4
    """
    model = keras.Sequential([keras.Input(shape), layers.Flatten()])
    for _ in range(3):
        model.add(layers.Dense(width, use_bias=False, kernel_initializer="he_normal"))
        model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
    model.add(layers.Dense(n_classes))
    return model


def transformer(
    shape: Sequence[int], n_classes: int, width: int = 32, heads: int = 4
) -> keras.Model:
    """One pre-norm transformer layer over the rows of an image as a sequence; logits.

    Its blocks are the projection of a row, attention, the network, and the linear layer on the average.

    Example:
    >>> import layerwise
    >>> from experiments.harness.models import transformer
    >>> len(layerwise.partition(transformer((8, 8, 1), 10)))
    4
    """
    length = shape[0]
    inputs = keras.Input(shape)
    value = layers.Dense(width)(layers.Reshape((length, -1))(inputs))
    value = Positions()(value)
    inside = layers.LayerNormalization()(value)
    inside = layers.MultiHeadAttention(heads, width // heads)(inside, inside)
    value = layers.Add()([value, inside])
    inside = layers.Dense(4 * width, "gelu")(layers.LayerNormalization()(value))
    value = layers.Add()([value, layers.Dense(width)(inside)])
    value = layers.LayerNormalization()(value)
    value = layers.GlobalAveragePooling1D(data_format="channels_last")(value)
    return keras.Model(inputs, layers.Dense(n_classes)(value))


@keras.saving.register_keras_serializable("layerwise.experiments")
class Positions(layers.Layer):
    """Adds the sinusoids of Vaswani et al. (2017), section 3.5, to a sequence `(batch, length, width)`."""

    def call(self, inputs):
        length, width = inputs.shape[1:]
        frequencies = 10000.0 ** (-np.arange(0, width, 2) / width)
        angles = np.arange(length)[:, None] * frequencies
        waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
        return inputs + keras.ops.cast(waves, inputs.dtype)
