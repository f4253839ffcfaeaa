"""A zoo of small models, each with inputs and the names of its blocks, and what tests ask of blocks."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from keras import layers

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 8, 8, 3)).astype("float32")
VECTORS = RNG.normal(size=(5, 4)).astype("float32")
TOKENS = RNG.integers(1, 9, (3, 6)) * (np.arange(6) < [[6], [4], [2]])

# What blocks a model has does not depend on the backend; that they compose to it does.
on_one_backend = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="is the same on every backend"
)


def names(blocks):
    return [block.name for block in blocks]


def layer_names(blocks):
    return [[layer.name for layer in block.layers] for block in blocks]


def arrays(structure):
    return [keras.ops.convert_to_numpy(tensor) for tensor in keras.tree.flatten(structure)]


def compose(blocks, x, training=False):
    features = None
    for block in blocks:
        features = block(features, keras.tree.flatten(x), training=training)
    return features


def check_variables(model, blocks):
    """Every trainable variable in exactly one block, in the model's order."""
    order = {id(variable): i for i, variable in enumerate(model.trainable_variables)}
    found = [[order[id(variable)] for variable in block.variables] for block in blocks]
    assert sorted(itertools.chain(*found)) == list(range(len(order)))
    assert all(numbers == sorted(numbers) and numbers for numbers in found)
    for block in blocks:
        assert block.parameters == sum(np.prod(v.shape, dtype=int) for v in block.variables)


def check_composition(model, blocks, x, expected=None):
    """The sub-models one after another give what the model gives, bit for bit and in its form."""
    assert blocks.has_models
    expected = model(x, training=False) if expected is None else expected
    with warnings.catch_warnings():
        if len(blocks) > 1:
            warnings.simplefilter("error")
        got = compose(blocks, x)
    keras.tree.assert_same_structure(expected, got)
    for one, other in zip(arrays(expected), arrays(got), strict=True):
        assert one.dtype == other.dtype and np.ptp(one.astype("float32")) > 0
        np.testing.assert_array_equal(one, other)


def randomize(model, seed=0):
    """Weights, moving averages included, that make every layer matter."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.name or "gamma" in weight.name else -0.5
        weight.assign(rng.uniform(low, low + 1, weight.shape))


def plain():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.BatchNormalization(name="input_norm"),
            layers.Dense(6, name="first"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Dropout(0.5, name="dropout"),
            layers.Dense(5, name="second"),
            layers.LayerNormalization(name="last_norm"),
            layers.Dense(3, name="head"),
            layers.Softmax(name="softmax"),
        ]
    )
    return model, VECTORS, ["first", "second", "head"]


def residual():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    for i in range(2):
        y = layers.Conv2D(4, 3, padding="same", name=f"branch{i}_a")(x)
        y = layers.BatchNormalization()(y)
        y = layers.Conv2D(4, 3, padding="same", name=f"branch{i}_b")(layers.ReLU()(y))
        x = keras.ops.relu(x + y)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(3, name="head")(x))
    return model, IMAGES, ["stem", "branch0_a", "branch1_a", "head"]


def nested():
    inner = keras.Sequential(
        [layers.Dense(5, name="in_a"), layers.Dense(4, name="in_b")], name="inner"
    )
    middle_inputs = keras.Input((4,))
    middle_output = layers.Dense(4, name="mid")(inner(inputs=middle_inputs))  # as KerasHub does
    middle = keras.Model(middle_inputs, middle_output, name="middle")
    inputs = keras.Input((4,))
    x = middle(layers.Dense(4, name="first")(inputs), training=False)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    return model, VECTORS, ["first", "in_a", "in_b", "mid", "head"]


def siamese():
    """A nested model called twice is one composite operation."""
    tower = keras.Sequential([keras.Input((4,)), layers.Dense(5), layers.Dense(4)], name="tower")
    left, right = keras.Input((4,)), keras.Input((4,))
    x = layers.Subtract()([tower(left), tower(right)])
    model = keras.Model([left, right], layers.Dense(2, name="head")(x))
    return model, [VECTORS, VECTORS[::-1]], ["tower", "head"]


def same_names():
    """Two nested models whose layers have the same names; the second tower stays in one block."""

    def tower(name):
        inputs = keras.Input((4,), name="x")
        x = layers.Dense(5, name="a")(inputs)
        y = layers.Dense(5, name="b")(x)
        y = layers.BatchNormalization(name="norm")(
            y, training=False
        )  # fit passes True all the same
        return keras.Model(inputs, layers.Add(name="add")([x, y]), name=name)

    left, right = keras.Input((4,), name="left"), keras.Input((4,), name="right")
    x = tower("one")(layers.Dense(4, name="start")(left))
    y = layers.Concatenate(name="add")([tower("three")(right), tower("two")(right)])
    model = keras.Model([left, right], layers.Dense(2, name="head")(layers.Concatenate()([x, y])))
    return model, [VECTORS, VECTORS[::-1]], ["start", "one/a", "b", "three/a", "head"]


def masked():
    """A mask from the integer input reaches layers and outputs on the far side of every cut."""
    inputs = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(9, 4, mask_zero=True, name="embedding")(inputs)
    x = layers.Dense(4, name="dense")(x)
    x = layers.LSTM(4, return_sequences=True, name="lstm")(x)
    x = Wrapped(layers.GRU(4, return_sequences=True), name="wrapped")(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    expected = ["embedding", "dense", "lstm", "wrapped", "attention", "head"]
    return model, TOKENS, expected


class Wrapped(keras.Layer):
    """Calls another layer, which sees the mask only if the tensor carries it."""

    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.layer = layer
        self.supports_masking = True

    def build(self, shape):
        self.layer.build(shape)

    def compute_output_shape(self, shape):
        return self.layer.compute_output_shape(shape)

    def call(self, x):
        return self.layer(x)

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        return cls(keras.saving.deserialize_keras_object(config.pop("layer")), **config)


def masked_nested():
    """A masked tensor that enters a nested model in another dtype."""
    inner_inputs = keras.Input((None, 4), dtype="float32")
    x = layers.LSTM(4, return_sequences=True, name="one", dtype="float32")(inner_inputs)
    inner = keras.Model(inner_inputs, layers.LSTM(3, name="two", dtype="float32")(x), name="inner")
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True, name="embedding", dtype="bfloat16")(inputs)
    x = layers.Dense(4, name="dense", dtype="mixed_bfloat16")(x)
    return keras.Model(inputs, inner(x)), TOKENS, ["embedding", "dense", "one", "two"]


def tied():
    inputs = keras.Input((6,), dtype="int32")
    embedding = layers.ReversibleEmbedding(9, 4, name="embedding")
    x = layers.Dense(4, activation="tanh", name="dense")(embedding(inputs))
    model = keras.Model(inputs, layers.ReLU()(embedding(x, reverse=True)))
    return model, TOKENS, ["embedding", "dense"]


def shared():
    """A layer used again later: its variables are the first block's."""
    inputs = keras.Input((4,))
    twice = layers.Dense(4, activation="tanh", name="twice")
    x = layers.Dense(4, name="between")(twice(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="head")(twice(x)))
    return model, VECTORS, ["twice", "between", "head"]


def several_inputs():
    """Inputs, functions of inputs and what is frozen cross a cut freely."""
    inputs = {name: keras.Input((4,), name=name) for name in ("b", "a", "unused")}
    scaled = layers.Rescaling(0.5)(inputs["a"])
    x = layers.Dense(4, name="one")(inputs["b"])
    x = layers.Dense(4, name="two")(layers.Add()([x, scaled]))
    fixed = layers.Dense(4, name="fixed")
    fixed.trainable = False
    x = layers.Dense(3, name="head")(layers.Concatenate()([x, fixed(scaled), inputs["b"]]))
    data = {"b": VECTORS, "a": VECTORS[::-1], "unused": VECTORS}
    return keras.Model(inputs, x), data, ["one", "two", "head"]


def several_outputs():
    """From the first output on nothing can be cut; the last block returns the model's structure."""
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="one")(inputs)
    trunk = layers.Dense(4, name="two")(x)
    y = layers.Dense(4, name="three")(trunk)
    outputs = {"trunk": trunk, "heads": [layers.Dense(2)(y), layers.Dense(1)(y)]}
    return keras.Model(inputs, outputs), VECTORS, ["one", "two", "three"]


def dead_ends():
    """A nested model of whose outputs one is not used."""
    inner_inputs = {"x": keras.Input((4,), name="x")}
    x = layers.Dense(4, name="kept")(inner_inputs["x"])
    inner_outputs = {"a_unused": layers.Dense(3, name="dead")(x), "b_used": x}
    inner = keras.Model(inner_inputs, inner_outputs, name="inner")
    inputs = keras.Input((4,))
    x = inner({"x": layers.Dense(4, name="first")(inputs)})["b_used"]
    return keras.Model(inputs, layers.Dense(2, name="head")(x)), VECTORS, ["first", "kept", "head"]


def half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    x = inputs = keras.Input((4,))
    for i in range(3):
        x = layers.BatchNormalization()(layers.Dense(4, activation="tanh", name=f"dense_{i}")(x))
    inner = keras.Input((4,), dtype="float32")
    x = keras.Model(inner, layers.Dense(4, name="inside")(inner) + inner * 1.1, name="inner")(x)
    outputs = layers.Dense(2, name="head", dtype="float32")(x)
    expected = ["dense_0", "dense_1", "dense_2", "inside", "head"]
    return keras.Model(inputs, outputs), VECTORS, expected


def integers():
    """Integers that enter a nested model whose input is a float."""
    inner_inputs = keras.Input((6,), dtype="float32")
    x = layers.Dense(4, name="inside")(keras.ops.sin(inner_inputs / 3))
    inputs = keras.Input((6,), dtype="int32")
    x = keras.Model(inner_inputs, x, name="inner")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="head")(x)), TOKENS, ["inside", "head"]


def composite():
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4, name="embedding")(inputs)
    for i in range(2):
        y = layers.MultiHeadAttention(2, 2, name=f"attention_{i}")(x, x)
        x = layers.LayerNormalization()(layers.Add()([x, y]))
        x = Wrapped(layers.Dense(4, name="inside"), name=f"wrapped_{i}")(x)
    outputs = layers.Dense(1, name="head")(layers.Flatten()(x))
    expected = ["embedding", "attention_0", "wrapped_0", "attention_1", "wrapped_1", "head"]
    return keras.Model(inputs, outputs), TOKENS, expected


def chance():
    """What is drawn by chance is drawn once: it crosses no cut."""
    inputs = keras.Input((4,))
    noisy = layers.GaussianNoise(1.0)(inputs)
    x = layers.Dense(4, name="one")(noisy)
    x = layers.Add()([layers.Dense(4, name="two")(x), noisy])
    return keras.Model(inputs, layers.Dense(2, name="head")(x)), VECTORS, ["one", "head"]


ZOO = [
    plain,
    residual,
    nested,
    siamese,
    same_names,
    masked,
    masked_nested,
    tied,
    shared,
    several_inputs,
    several_outputs,
    dead_ends,
    half_precision,
    integers,
    composite,
    chance,
]
