"""Small nets of every kind that a Step must get right, each with one batch."""

import keras
import numpy as np
from keras import layers

import layerwise
from tests.helpers import CLASSES, compiled, convnet, images, mlp, normalized_mlp, vectors


def images_8():
    """Return a net with convolution, batch normalization, a skip connection and dropout."""
    return compiled(convnet()), *images(12)


def transformer(dropout=0.1):
    """Return a net with an embedding, masked attention, layer normalization and dropout."""
    tokens = keras.Input((7,), dtype="int32")
    value = layers.Embedding(11, 8, mask_zero=True, name="embed")(tokens)
    attended = layers.MultiHeadAttention(2, 4, dropout=dropout, name="attention")(value, value)
    value = layers.LayerNormalization(name="first")(layers.Add()([value, attended]))
    hidden = layers.Dense(12, activation="gelu", name="hidden")(value)
    hidden = layers.Dense(8, name="back")(layers.Dropout(dropout)(hidden))
    value = layers.LayerNormalization(name="second")(layers.Add()([value, hidden]))
    value = layers.GlobalAveragePooling1D()(value)
    return keras.Model(tokens, layers.Dense(CLASSES, name="classify")(value))


def words():
    """Return the transformer and tokens, some of them padding."""
    rng = np.random.default_rng(0)
    x = rng.integers(1, 11, (10, 7)).astype("int32")
    x[:3, 5:] = 0
    return compiled(transformer()), x, rng.integers(0, CLASSES, 10).astype("int32")


def nested():
    """Return a net with a model inside a model, regularizers, group normalization and noise."""
    inner = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(6, activation="tanh", kernel_regularizer="l2", name="inside"),
            layers.GroupNormalization(2),
            layers.GaussianNoise(0.1),
        ],
        name="inner",
    )
    inputs = keras.Input((6,))
    value = layers.Dense(8, activation="silu", name="outside")(inputs)
    outputs = layers.Dense(CLASSES, kernel_regularizer=keras.regularizers.L2(0.1), name="end")(
        inner(value)
    )
    return compiled(keras.Model(inputs, outputs)), *vectors(10)


def recurrent():
    """Return a net with a bidirectional recurrent layer."""
    model = keras.Sequential(
        [
            keras.Input((5, 3)),
            layers.Bidirectional(layers.GRU(4), name="around"),
            layers.Dense(CLASSES, name="end"),
        ]
    )
    rng = np.random.default_rng(0)
    return (
        compiled(model),
        rng.normal(size=(8, 5, 3)).astype("float32"),
        rng.integers(0, CLASSES, 8).astype("int32"),
    )


def mixed():
    """Return a net of mixed precision, with normalization and dropout."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = normalized_mlp(depth=2, dropout=0.2)
    keras.config.set_dtype_policy("float32")
    return compiled(model), *vectors(16)


class Custom(layers.Layer):
    """A layer without a config, that multiplies by a weight of its own."""

    def __init__(self, width, scale):
        super().__init__()
        self.width, self.scale = width, scale

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.width), name="kernel")

    def call(self, x):
        return keras.ops.tanh(x @ self.kernel) * self.scale


class Subclassed(keras.Model):
    """A model without a layer graph and without a config."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Custom(5, 1.5), layers.Dense(CLASSES, name="second")
        self.dropout = layers.Dropout(0.3)

    def call(self, x, training=None):
        return self.second(self.dropout(self.first(x), training=training))


def subclassed():
    """Return a built subclassed model."""
    model, (x, y) = Subclassed(), vectors(10)
    model(x)
    return compiled(model), x, y


def two_outputs():
    """Return a net with two outputs and two losses."""
    inputs = keras.Input((6,))
    value = layers.Dense(5, activation="tanh", name="trunk")(inputs)
    outputs = {"a": layers.Dense(1, name="a")(value), "b": layers.Dense(2, name="b")(value)}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss={"a": "mse", "b": "mae"}, loss_weights={"a": 2.0, "b": 0.5})
    x, _ = vectors(9)
    return model, x, {"a": x[:, :1] * 2, "b": x[:, 1:3] + 1}


def dense():
    """Return four dense layers with dropout nowhere."""
    return compiled(mlp()), *vectors(16)


def small_convolution():
    """Return a net small enough for its whole Hessian, with convolution, batch normalization and dropout."""
    model = keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            layers.Conv2D(2, 3, name="conv"),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.Dropout(0.3, seed=1),
            layers.Flatten(),
            layers.Dense(CLASSES, name="end"),
        ]
    )
    x, y = images(9)
    return compiled(model), x[:, :5, :5], y


def small_attention():
    """Return a net small enough for its whole Hessian, with attention, layer normalization and dropout."""
    tokens = keras.Input((4,), dtype="int32")
    value = layers.Embedding(5, 4, name="embed")(tokens)
    value = layers.Add()([value, layers.MultiHeadAttention(2, 2, name="attention")(value, value)])
    value = layers.Dropout(0.3, seed=1)(layers.LayerNormalization()(value))
    value = layers.GlobalAveragePooling1D()(layers.Dense(3, "gelu", name="hidden")(value))
    model = keras.Model(tokens, layers.Dense(CLASSES, name="end")(value))
    rng = np.random.default_rng(0)
    return compiled(model), rng.integers(0, 5, (6, 4)), rng.integers(0, CLASSES, 6)


ALL = [dense, images_8, words, nested, recurrent, mixed, subclassed, two_outputs]


def step_of(make, **arguments):
    """Return a model, its batch, and the Step of them."""
    model, x, y = make()
    if make is subclassed:
        arguments.setdefault("blocks", "layer")
    return model, x, y, layerwise.diagnostics.Step(model, x, y, **arguments)
