"""Auxiliary heads on masked features: padding counts neither in averages nor in losses, and Keras warns of nothing."""

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import layerwise
from layerwise.backends import internals
from layerwise.blocks import partition
from layerwise.steps.heads import build_heads
from tests.helpers import values

TOKENS = np.array([[3, 1, 0, 0, 0, 0], [2, 5, 7, 1, 0, 0], [4, 4, 8, 6, 2, 1]], "int32")
POSITIONS = TOKENS > 0


def language_model(pooled):
    """An embedding that masks zeros, a layer, and an output for each position or for the whole."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True, name="embedding")(inputs)
    x = layers.Dense(5, activation="tanh", name="middle")(x)
    x = layers.GlobalAveragePooling1D()(x) if pooled else x
    return keras.Model(inputs, layers.Dense(3, name="last")(x))


def through_the_head(model, head):
    """The head after the embedding, the embeddings of TOKENS, and what the head makes of them."""
    blocks = partition(model)
    built = build_heads(model, blocks, head, seed=0)[0]
    features = blocks[0](None, [TOKENS])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return built, keras.ops.convert_to_numpy(features), built(features)


def dense_layers(model, features):
    """The dense layers of a head by hand, with a ReLU after all but the last."""
    *hidden, last = zip(*[iter(values(model.weights))] * 2, strict=True)
    for kernel, bias in hidden:
        features = np.maximum(features @ kernel + bias, 0)
    return features @ last[0] + last[1]


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_leaves_padding_out_of_its_average(head):
    built, features, outputs = through_the_head(language_model(pooled=True), head)
    mean = np.stack([row[real].mean(axis=0) for row, real in zip(features, POSITIONS, strict=True)])
    expected = dense_layers(built, mean)
    # float32: the orders of summation differ
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), expected, rtol=1e-5, atol=1e-6)
    assert internals.mask(outputs) is None


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_for_each_position_hands_the_mask_on(head):
    built, features, outputs = through_the_head(language_model(pooled=False), head)
    expected = dense_layers(built, features)
    # float32: the orders of summation differ
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), expected, rtol=1e-5, atol=1e-6)
    mask = keras.ops.convert_to_numpy(internals.mask(outputs))
    np.testing.assert_array_equal(mask, POSITIONS)


class Classifier(keras.Model):
    """As chapter 7 of Deep Learning with Python ends a Functional model: by a subclassed one."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3, activation="softmax")

    def call(self, inputs):
        return self.dense(inputs)


def softmax(features):
    return layers.Dense(3, activation="softmax")(features)


def ending_in(last):
    inputs = keras.Input((4,))
    return keras.Model(inputs, last(layers.Dense(5, activation="relu")(inputs)))


def test_an_output_layer_made_of_others_needs_a_head_of_the_users():
    model = ending_in(Classifier())
    with pytest.raises(ValueError, match=r"ends in Classifier.*Pass head=a callable"):
        build_heads(model, partition(model), "linear", seed=0)
    own = build_heads(model, partition(model), softmax, seed=0)
    assert own[0].output_shape == (None, 3)


def test_the_activation_of_a_wrapped_output_layer_is_the_heads():
    inputs = keras.Input((6, 4))
    last = layers.TimeDistributed(layers.Dense(3, activation="softmax"))
    model = keras.Model(inputs, last(layers.Dense(5, activation="relu")(inputs)))
    head = build_heads(model, partition(model), "linear", seed=0)[0]
    found = keras.ops.convert_to_numpy(head(np.ones((2, 6, 5), "float32")))
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, rtol=1e-6)


def test_a_layer_is_no_head_as_all_heads_would_share_it():
    model = ending_in(layers.Dense(3))
    with pytest.raises(
        ValueError, match=r"head must be 'linear', 'mlp' or a function.*the layer Dense"
    ):
        build_heads(model, partition(model), layers.Dense(3), seed=0)


class Grown(layers.Layer):
    """A layer that finds out its weights when it is called, and says nothing of shapes."""

    def __init__(self):
        super().__init__()
        self.dense = layers.EinsumDense("ab,bc->ac", output_shape=3)

    def call(self, inputs):
        return self.dense(inputs)


def test_the_last_block_is_built_before_any_step_is_traced():
    model = ending_in(Grown())
    model.compile("sgd", "mse")
    schedule = layerwise.GreedyLayerwise(head=softmax)
    x, y = np.ones((8, 4), "float32"), np.ones((8, 3), "float32")
    history = model.fit(x, y, epochs=2, verbose=0, callbacks=[schedule]).history
    assert np.isfinite(history["loss"]).all()
