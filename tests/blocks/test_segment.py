"""Sub-models: one after another they give what the model gives, and share its layers."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

from layerwise.blocks import partition
from tests.blocks.models import (
    TOKENS,
    ZOO,
    Wrapped,
    arrays,
    check_composition,
    check_variables,
    compose,
    half_precision,
    integers,
    masked,
    names,
    nested,
    on_one_backend,
    plain,
    randomize,
    residual,
    same_names,
    several_inputs,
)


# Keras warns of what some of these models do with a mask, as their users would see.
@pytest.mark.filterwarnings("ignore:Layer 'inner':UserWarning")
@pytest.mark.parametrize("make", ZOO)
def test_blocks_compose_to_the_model(make):
    model, x, expected = make()
    randomize(model)
    blocks = partition(model)
    assert names(blocks) == expected
    check_variables(model, blocks)
    check_composition(model, blocks, x)


@on_one_backend
@pytest.mark.parametrize("make", [plain, residual, masked, nested])
def test_the_model_stays_as_it_was(make, tmp_path):
    model, x, _ = make()
    before, calls = model.to_json(), [len(layer._inbound_nodes) for layer in model.layers]
    blocks = partition(model)
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls  # nothing is built yet
    expected = arrays(model(x))
    compose(blocks, x)
    assert model.to_json() == before
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", {"Wrapped": Wrapped})
    for one, other in zip(expected, arrays(loaded(x)), strict=True):
        np.testing.assert_array_equal(one, other)


@on_one_backend
def test_sub_models_are_built_once_and_share_the_layers():
    model, _, _ = residual()
    blocks = partition(model)
    for block in blocks:
        assert block.model is block.model
        assert [id(v) for v in block.model.trainable_variables] == [id(v) for v in block.variables]
        held = {id(layer) for layer in block.model.layers}
        assert {id(layer) for layer in block.layers} <= held
    assert partition(model, 1)[0].model is model


@pytest.mark.parametrize("pooled", [False, True])
def test_sub_models_return_the_mask_the_model_returns(pooled):
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    x = layers.Dense(6)(layers.Dense(4)(x))
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(x) if pooled else x)
    model.compile(loss="mse")

    def loss(outputs):
        targets = np.arange(np.prod(outputs.shape)).reshape(outputs.shape).astype("float32")
        return arrays(model.compute_loss(x=TOKENS, y=targets, y_pred=outputs))[0]

    stock = loss(model(TOKENS))
    assert loss(compose(partition(model), TOKENS)) == stock
    unmasked = loss(keras.ops.convert_to_tensor(arrays(model(TOKENS))[0]))
    assert (unmasked == stock) == pooled


@pytest.mark.parametrize("make", [residual, several_inputs, masked, nested, same_names])
def test_training_mode_is_handed_on(make):
    results = []
    for composed in (False, True):
        keras.utils.clear_session(free_memory=False)
        model, x, _ = make()
        randomize(model)
        y = compose(partition(model), x, training=True) if composed else model(x, training=True)
        results.append(arrays(y) + arrays(model.weights))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@on_one_backend
@pytest.mark.parametrize("make", [residual, half_precision, integers])
def test_cut_tensors_keep_their_shape_and_dtype(make):
    blocks = partition(make()[0])
    for before, after in itertools.pairwise(blocks):
        left, right = before.model.output, after.model.inputs[0]
        assert (left.shape, left.dtype) == (right.shape, right.dtype)


def test_dropout_follows_training():
    model, x, _ = plain()
    blocks = partition(model)
    assert np.count_nonzero(arrays(blocks[0](None, [x], training=True))[0] == 0) > np.count_nonzero(
        arrays(blocks[0](None, [x], training=False))[0] == 0
    )


@on_one_backend
def test_model_inputs_are_those_a_block_needs():
    model, _, _ = several_inputs()
    assert [x.name for x in model.inputs] == ["a", "b", "unused"]
    assert [block.model_inputs for block in partition(model)] == [(0, 1), (0, 1), ()]
    assert [block.model_inputs for block in partition(residual()[0])] == [(0,), (), (), ()]
    assert partition(model, 1)[0].model_inputs == (0, 1, 2)
