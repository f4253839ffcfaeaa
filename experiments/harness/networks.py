"""The networks whose steps are measured: blocks of equal width, and two that are not so regular."""

import dataclasses
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers


@dataclasses.dataclass(frozen=True)
class Network:
    """A network, its batches, and how many of them make one measured epoch.

    Attributes:
        name: What the frames and figures call it.
        build: `() -> uncompiled keras.Model` that gives one vector of logits for each example.
        batch_size: Examples in a batch.
        steps: Least number of timed steps in an epoch; it is rounded up to whole sweeps over the blocks.
        blocks: What `layerwise.partition(by=...)` takes.
    """

    name: str
    build: Callable[[], keras.Model]
    batch_size: int
    steps: int
    blocks: object = "auto"

    def batches(self, model: keras.Model, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """`steps` batches of Gaussian inputs and integer labels, as two arrays."""
        random = np.random.default_rng(0)
        rows = steps * self.batch_size
        x = random.standard_normal((rows, *model.input_shape[1:]), dtype="float32")
        return x, random.integers(0, model.output_shape[-1], rows).astype("int32")


def compiled(model: keras.Model) -> keras.Model:
    """Compiles with small steps of Adam: weights must stay finite, or arithmetic on denormals is timed."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(1e-5), loss=loss)
    return model


def dense(
    depth: int, width: int, inputs: int | None = None, classes: int | None = None
) -> keras.Model:
    """`depth` dense layers of `width` units, each a block, the last one of them the output unless there are `classes`.

    Example:
    >>> import layerwise
    >>> from experiments.harness.networks import dense
    >>> len(layerwise.partition(dense(depth=3, width=4)))
    3
    """
    model = keras.Sequential([keras.Input((inputs or width,))])
    for number in range(depth):
        activation = None if number == depth - 1 and not classes else "relu"
        model.add(
            layers.Dense(width, activation, kernel_initializer="he_normal", name=f"dense{number}")
        )
    if classes:
        model.add(layers.Dense(classes, name="classes"))
    return model


def convnet(
    widths: Sequence[int] = (64, 64, 128, 128, 256, 256), image: tuple[int, int, int] = (32, 32, 3)
) -> keras.Model:
    """3x3 convolutions with batch normalization, halved in size after every second; each a block.

    The last one gives the logits, averaged over the image, so that there are as many blocks as widths.

    Example:
    >>> import layerwise
    >>> from experiments.harness.networks import convnet
    >>> len(layerwise.partition(convnet()))
    6
    """
    value = inputs = keras.Input(image)
    for number, width in enumerate(widths):
        value = layers.Conv2D(
            width, 3, padding="same", data_format="channels_last", name=f"convolution{number}"
        )(value)
        if number < len(widths) - 1:
            value = layers.ReLU()(layers.BatchNormalization()(value))
            if number % 2:
                value = layers.MaxPooling2D(data_format="channels_last")(value)
    return keras.Model(inputs, layers.GlobalAveragePooling2D(data_format="channels_last")(value))


def transformer(depth: int = 6, width: int = 512, heads: int = 8, length: int = 64) -> keras.Model:
    """`depth` pre-norm layers of attention and a two-layer network, over a sequence of vectors.

    Depth, width and heads are by default those of the encoder in Vaswani et al. (2017), table 3. It can be cut inside
    a layer too, between attention and network: `partition(by=depth)` gives a block per layer.

    Example:
    >>> import layerwise
    >>> from experiments.harness.networks import transformer
    >>> model = transformer(depth=2, width=8, heads=2, length=4)
    >>> [block.name for block in layerwise.partition(model, by=2)]
    ['attention0', 'attention1']
    """
    value = inputs = keras.Input((length, width))
    for number in range(depth):
        inside = layers.LayerNormalization()(value)
        inside = layers.MultiHeadAttention(heads, width // heads, name=f"attention{number}")(
            inside, inside
        )
        value = layers.Add()([value, inside])
        inside = layers.LayerNormalization()(value)
        inside = layers.Dense(4 * width, "gelu", name=f"up{number}")(inside)
        value = layers.Add()([value, layers.Dense(width, name=f"down{number}")(inside)])
    return keras.Model(inputs, layers.GlobalAveragePooling1D(data_format="channels_last")(value))


def resnet50() -> keras.Model:
    """ResNet50 for 10 classes of 64x64 images: the optimizer state of a real network."""
    arguments = {"weights": None, "classes": 10, "input_shape": (64, 64, 3)}
    return keras.applications.ResNet50(**arguments, classifier_activation=None)
