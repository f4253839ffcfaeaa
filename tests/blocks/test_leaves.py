"""Which layers and variables a block holds."""

import keras
import pytest
from keras import layers

from layerwise.blocks import partition
from tests.blocks.models import (
    check_composition,
    check_variables,
    composite,
    layer_names,
    names,
    nested,
    on_one_backend,
    plain,
    shared,
    tied,
)

pytestmark = on_one_backend


def test_layers_without_a_matrix_join_the_block_before_leading_ones_the_first():
    assert layer_names(partition(plain()[0])) == [
        ["input_norm", "first", "norm", "relu", "dropout"],
        ["second", "last_norm"],
        ["head", "softmax"],
    ]


def test_without_any_matrix_there_is_one_block():
    norms = [layers.BatchNormalization(name="a"), layers.BatchNormalization(name="b")]
    blocks = partition(keras.Sequential([keras.Input((4,)), *norms]))
    assert names(blocks) == ["a"] and layer_names(blocks) == [["a", "b"]]


def test_only_variables_trainable_now_count():
    model, x, _ = plain()
    model.get_layer("first").trainable = False
    blocks = partition(model)
    assert names(blocks) == ["second", "head"]
    assert layer_names(blocks)[0][:2] == ["input_norm", "first"]
    check_variables(model, blocks)
    check_composition(model, blocks, x)
    model.get_layer("second").trainable = False
    model.get_layer("head").trainable = False
    assert names(partition(model)) == ["input_norm"]


def test_shared_layers_are_in_the_first_block_that_uses_them():
    blocks = partition(shared()[0])
    assert layer_names(blocks) == [["twice"], ["between"], ["head"]]
    assert {id(v) for v in blocks[0].variables} < {
        id(v) for v in blocks[1].model.trainable_variables
    }
    assert layer_names(partition(tied()[0]))[0] == ["embedding"]


def test_leaves_of_composite_layers():
    blocks = partition(composite()[0], "layer")
    assert names(blocks) == [
        "embedding",
        *(f"attention_0/{name}" for name in ("query", "key", "value", "attention_output")),
        "wrapped_0/inside",
        *(f"attention_1/{name}" for name in ("query", "key", "value", "attention_output")),
        "wrapped_1/inside",
        "head",
    ]
    assert not blocks.has_models
    assert names(partition(nested()[0], "layer")) == nested()[2]
    assert partition(nested()[0], "layer").has_models


class OwnVariable(keras.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1], 1), name="own", initializer="ones")
        self.dense = layers.Dense(3, name="inside")
        self.dense.build(shape)

    def call(self, x):
        return self.dense(x) + x @ self.scale


def test_variables_held_by_a_composite_layer_itself():
    model = keras.Sequential([keras.Input((4,)), OwnVariable(name="outer")])
    assert layer_names(partition(model)) == [["outer", "inside"]]
    blocks = partition(model, "layer")
    assert names(blocks) == ["outer", "inside"]
    assert [v.name for v in blocks[0].variables] == ["own"]


# Keras warns that the model is called with a tensor in place of a list of one.
@pytest.mark.filterwarnings("ignore:The structure of `inputs`:UserWarning")
@pytest.mark.filterwarnings("ignore:Exception encountered when calling Functional:UserWarning")
def test_layers_attached_outside_the_graph_join_the_last_block():
    model, x, expected = plain()
    model = keras.Model(model.inputs, model.outputs)
    model.extra = layers.Dense(2, name="extra")
    model.extra.build((None, 4))
    blocks = partition(model)
    assert names(blocks) == expected and blocks[-1].layers[-1] is model.extra
    check_variables(model, blocks)
    check_composition(model, blocks, x)
