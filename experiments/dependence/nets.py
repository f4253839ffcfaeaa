"""Three nets of equal parameters: dense, locally connected, convolutional. Each has three layers with weights."""

import bisect
import functools
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import layers, ops

SIDE = 3  # of the patch that a unit sees
MOST = 257  # no net is so wide
CHANNELS = (16, 32)  # of the convolutional net, which says how many parameters all three have


class LocallyConnected(layers.Layer):
    """Each unit sees a patch of the image, as in a convolution, but each place has weights of its own.

    Images have the shape (height, width, channels), the patch `SIDE` by `SIDE` pixels; beyond the border are zeros. Keras 3
    has no such layer.

    Args:
        filters: Units at each place.
        strides: Pixels from one place to the next.

    Example: 4 x 4 places with 3 x 3 weights and a bias each.

    >>> from experiments.dependence.nets import LocallyConnected
    >>> layer = LocallyConnected(1, strides=2)
    >>> layer.build((None, 8, 8, 1))
    >>> layer.count_params() == 16 * (9 + 1)
    True
    """

    def __init__(self, filters: int, strides: int = 1, **named):
        super().__init__(**named)
        self.filters, self.strides = filters, strides

    def build(self, shape):
        _, height, width, channels = shape
        self.places = -(-height // self.strides), -(-width // self.strides)
        seen = SIDE * SIDE * channels
        start = keras.initializers.RandomNormal(
            stddev=(2 / seen) ** 0.5
        )  # He's, of what a unit sees
        self.kernel = self.add_weight((*self.places, seen, self.filters), start, name="kernel")
        self.bias = self.add_weight((*self.places, self.filters), "zeros", name="bias")

    def call(self, images):
        rows, columns = self.places
        around = [[0, 0], [SIDE // 2, SIDE // 2], [SIDE // 2, SIDE // 2], [0, 0]]
        padded, step = ops.pad(images, around), self.strides
        patches = [
            padded[:, i : i + step * rows : step, j : j + step * columns : step]
            for i in range(SIDE)
            for j in range(SIDE)
        ]
        seen = ops.concatenate([p[:, :rows, :columns] for p in patches], axis=-1)
        return ops.einsum("bhwp,hwpf->bhwf", seen, self.kernel) + self.bias

    def get_config(self):
        return {**super().get_config(), "filters": self.filters, "strides": self.strides}


def convolutional(shape: Sequence[int], n_classes: int, width: int = CHANNELS[1]) -> keras.Model:
    """Two convolutions of 3 x 3 pixels and a dense layer; logits. `width`: channels of the second one."""

    def layer(filters, strides):
        options = {"padding": "same", "data_format": "channels_last"}
        return layers.Conv2D(filters, SIDE, strides, kernel_initializer="he_normal", **options)

    return _over_places(shape, n_classes, layer, (CHANNELS[0], width))


def local(shape: Sequence[int], n_classes: int, width: int) -> keras.Model:
    """The convolutional net without shared weights, and with fewer channels for it."""
    return _over_places(shape, n_classes, LocallyConnected, (max(1, width // 4), width))


def dense(shape: Sequence[int], n_classes: int, width: int) -> keras.Model:
    """Two dense layers of `width` units and a third for the classes; logits."""
    hidden = [layers.Dense(width, "relu", kernel_initializer="he_normal") for _ in range(2)]
    return keras.Sequential(
        [keras.Input(shape), layers.Flatten(), *hidden, layers.Dense(n_classes)]
    )


NETS: dict[str, Callable[..., keras.Model]] = {
    "dense": dense,
    "local": local,
    "convolutional": convolutional,
}


def equal(shape: Sequence[int], n_classes: int) -> dict[str, Callable[[], keras.Model]]:
    """`{name: () -> model}`: the nets, of widths that bring them next to the convolutional net's number of parameters.

    Example:
    >>> from experiments.dependence import nets
    >>> {name: build().count_params() for name, build in nets.equal((8, 8, 1), 10).items()}
    {'dense': 10015, 'local': 9834, 'convolutional': 9930}
    """
    wanted = convolutional(shape, n_classes).count_params()
    found: dict[str, Callable[[], keras.Model]] = {}
    for name, build in NETS.items():

        def size(width, build=build):
            return build(shape, n_classes, width=width).count_params()

        above = bisect.bisect_left(range(MOST), wanted, lo=2, key=size)
        width = above if size(above) - wanted < wanted - size(above - 1) else above - 1
        found[name] = functools.partial(build, tuple(shape), n_classes, width=width)
    return found


def _over_places(shape, n_classes, layer, widths):
    """Two layers over the places of an image, and a dense one. Small images keep their size in the first."""
    strides = (1 if np.min(shape[:2]) < 16 else 2, 2)
    model = keras.Sequential([keras.Input(shape)])
    for filters, stride in zip(widths, strides, strict=True):
        model.add(layer(filters, stride))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(n_classes))
    return model
