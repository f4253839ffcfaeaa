"""Where a layer graph can be cut, and which graphs are not entered."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from layerwise.backends import internals
from layerwise.blocks import partition
from tests.blocks.models import (
    VECTORS,
    arrays,
    check_composition,
    check_variables,
    names,
    on_one_backend,
    randomize,
)

pytestmark = on_one_backend


def test_history_is_the_call_that_made_a_tensor():
    shared, inputs = layers.Dense(4), keras.Input((4,))
    first = shared(inputs)
    second = shared(first)
    for tensor, taken in ((first, inputs), (second, first)):
        operation, node = internals.history(tensor)
        assert operation is shared and node.operation is shared
        assert [id(x) for x in node.input_tensors] == [id(taken)]
        assert [id(x) for x in node.outputs] == [id(tensor)]


def test_a_nested_model_in_training_mode_for_good_is_one_operation():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dropout(0.5)], name="in")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="head")(inner(inputs, training=True)))
    blocks = partition(model)
    assert names(blocks) == ["in", "head"]
    assert np.count_nonzero(arrays(blocks[0](None, [VECTORS]))[0] == 0) > 0


def test_a_graph_that_is_not_followed_is_not_cut():
    class Own(keras.Model):
        def call(self, x, training=None):
            return super().call(x, training=training) * 2

    inputs = keras.Input((4,))
    own = Own(inputs, layers.Dense(3, name="b")(layers.Dense(3, name="a")(inputs)), name="own")
    with pytest.raises(ValueError, match="no layer graph"):
        partition(own)
    outer = keras.Input((4,))
    model = keras.Model(outer, layers.Dense(2, name="head")(own(outer)))
    blocks = partition(model)
    assert names(blocks) == ["own", "head"]
    check_composition(model, blocks, VECTORS)


STAGES = ("dense", "norm", "relu", "residual", "concatenate", "branches", "skip_input", "frozen")


def stage(kind, number, x, skip):
    """One stage and the name of the block that it opens, None if it opens none."""
    name = f"stage{number}_{kind}"

    def dense(letter="", units=3):
        return layers.Dense(units, activation="tanh", name=name + letter)

    if kind == "dense":
        return dense()(x), name
    if kind == "norm":
        return layers.LayerNormalization(name=name)(x), None
    if kind == "relu":
        return layers.ReLU(name=name)(x), None
    if kind == "frozen":
        layer = dense()
        layer.trainable = False
        return layer(x), None
    if kind == "residual":
        y = dense("_b", x.shape[-1])(layers.LayerNormalization()(dense("_a")(x)))
        return layers.Add()([x, y]), name + "_a"
    if kind == "concatenate":
        return layers.Concatenate()([x, dense()(x)]), name
    if kind == "branches":
        outputs = [dense("_a")(x), dense("_c")(dense("_b")(x)), layers.ReLU()(x)]
        return keras.ops.concatenate(outputs, axis=-1), name + "_a"
    return layers.Concatenate(name=name)([x, layers.Rescaling(2.0)(skip)]), None


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    kinds=st.lists(st.sampled_from(STAGES), min_size=1, max_size=7),
    nesting=st.lists(st.integers(0, 2), min_size=8, max_size=8),
)
def test_any_chain_of_stages_is_found(kinds, nesting):
    keras.utils.clear_session(free_memory=False)
    inputs, skip = keras.Input((4,)), keras.Input((2,))
    x, expected = layers.Dense(4, name="start")(inputs), ["start"]
    for number, (kind, depth) in enumerate(zip(kinds, nesting, strict=False)):
        outer = (x, skip)
        inner = outer if depth == 0 else (keras.Input(x.shape[1:]), keras.Input((2,)))
        x, opened = stage(kind, number, *inner)
        for level in range(depth):
            model = keras.Model(list(inner), x, name=f"nested_{number}_{level}")
            last = level == depth - 1
            inner = outer if last else (keras.Input(outer[0].shape[1:]), keras.Input((2,)))
            x = model(list(inner))
        expected += [opened] if opened else []
    model = keras.Model([inputs, skip], x)
    randomize(model)
    blocks = partition(model)
    assert names(blocks) == expected
    check_variables(model, blocks)
    check_composition(model, blocks, [VECTORS, VECTORS[:, :2]])
    by_layer = partition(model, "layer")
    check_variables(model, by_layer)
    assert len(by_layer) == sum(
        len(v.shape) >= 2 and v.name == "kernel" for v in model.trainable_variables
    )
    for count in range(1, len(blocks) + 1):
        merged = partition(model, count)
        check_variables(model, merged)
        assert len(merged) == count
