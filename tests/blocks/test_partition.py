"""Blocks against the model they come from: same variables, same outputs, the expected names."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from layerwise.blocks import Block, Blocks, partition

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, 8, 8, 3)).astype("float32")
VECTORS = RNG.normal(size=(5, 4)).astype("float32")
TOKENS = RNG.integers(1, 9, (3, 6)) * (np.arange(6) < [[6], [4], [2]])


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


def check_composition(model, blocks, x):
    """The sub-models one after another give what the model gives, bit for bit and in its form."""
    assert blocks.has_models
    expected = model(x, training=False)
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


# --- a zoo of small models: () -> (model, inputs, names of the blocks) ----------------------------


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
    middle_output = layers.Dense(4, name="mid")(inner(middle_inputs))
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


@pytest.mark.parametrize("make", ZOO)
def test_blocks_compose_to_the_model(make):
    model, x, expected = make()
    randomize(model)
    blocks = partition(model)
    assert names(blocks) == expected
    check_variables(model, blocks)
    check_composition(model, blocks, x)


@pytest.mark.parametrize("make", ZOO)
@pytest.mark.parametrize("by", [1, 2, "layer"])
def test_coarser_and_finer_blocks_hold_every_variable_and_compose(make, by):
    model, x, _ = make()
    randomize(model)
    blocks = partition(model, by)
    check_variables(model, blocks)
    if by != "layer":
        assert len(blocks) == by
    if blocks.has_models:
        check_composition(model, blocks, x)


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


@pytest.mark.parametrize("make", [residual, half_precision, integers])
def test_cut_tensors_keep_their_shape_and_dtype(make):
    blocks = partition(make()[0])
    for before, after in itertools.pairwise(blocks):
        left, right = before.model.output, after.model.inputs[0]
        assert (left.shape, left.dtype) == (right.shape, right.dtype)


def test_a_nested_model_in_training_mode_for_good_is_one_operation():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dropout(0.5)], name="in")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2, name="head")(inner(inputs, training=True)))
    blocks = partition(model)
    assert names(blocks) == ["in", "head"]
    assert np.count_nonzero(arrays(blocks[0](None, [VECTORS]))[0] == 0) > 0


def test_dropout_follows_training():
    model, x, _ = plain()
    blocks = partition(model)
    assert np.count_nonzero(arrays(blocks[0](None, [x], training=True))[0] == 0) > np.count_nonzero(
        arrays(blocks[0](None, [x], training=False))[0] == 0
    )


def test_model_inputs_are_those_a_block_needs():
    model, _, _ = several_inputs()
    assert [x.name for x in model.inputs] == ["a", "b", "unused"]
    assert [block.model_inputs for block in partition(model)] == [(0, 1), (0, 1), ()]
    assert [block.model_inputs for block in partition(residual()[0])] == [(0,), (), (), ()]
    assert partition(model, 1)[0].model_inputs == (0, 1, 2)


# --- which layers and variables a block holds -----------------------------------------------------


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


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.stages = [layers.Dense(3, name="a"), layers.BatchNormalization(name="norm")]
        self.inner = keras.Sequential(
            [layers.Dense(3, name="b"), layers.ReLU(name="relu")], name="seq"
        )

    def call(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.inner(x)


def test_a_subclassed_model_is_partitioned_by_layer_by_lists_or_into_one_block():
    model = Subclassed()
    with pytest.raises(ValueError, match=r"keras\.Input"):
        partition(model)
    model(VECTORS)
    for by, expected in [
        ("layer", [["a", "norm"], ["b", "relu"]]),
        ([["seq"], ["a", "norm"]], [["b", "relu"], ["a", "norm"]]),
        ([["seq/b", "a", "norm"]], [["a", "norm", "b", "relu"]]),
        (1, [["a", "norm", "b", "relu"]]),
    ]:
        blocks = partition(model, by)
        assert layer_names(blocks) == expected and not blocks.has_models
        check_variables(model, blocks)
        with pytest.raises(ValueError, match="Functional or Sequential"):
            _ = blocks[0].model
        with pytest.raises(ValueError, match="Functional or Sequential"):
            blocks[0](None, [VECTORS])
    for by in ("auto", 2):
        with pytest.raises(ValueError, match="by='layer'"):
            partition(model, by)


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


def test_layers_attached_outside_the_graph_join_the_last_block():
    model, x, expected = plain()
    model = keras.Model(model.inputs, model.outputs)
    model.extra = layers.Dense(2, name="extra")
    model.extra.build((None, 4))
    blocks = partition(model)
    assert names(blocks) == expected and blocks[-1].layers[-1] is model.extra
    check_variables(model, blocks)
    check_composition(model, blocks, x)


# --- by=n -----------------------------------------------------------------------------------------


def best_largest(sizes, count):
    """The smallest possible largest run, by trying every way to cut."""
    ways = itertools.combinations(range(1, len(sizes)), count - 1)
    return min(
        max(sum(sizes[i:j]) for i, j in itertools.pairwise((0, *cuts, len(sizes)))) for cuts in ways
    )


@pytest.mark.parametrize("widths", [(3, 50, 2, 2, 9, 30, 1), (5, 5, 5, 5, 5, 5), (1, 2, 3, 40)])
def test_an_int_merges_neighbours_evenly(widths):
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(width) for width in widths)])
    finest = [block.parameters for block in partition(model)]
    for count in range(1, len(widths) + 1):
        blocks = partition(model, count)
        assert len(blocks) == count
        check_variables(model, blocks)
        assert max(block.parameters for block in blocks) == best_largest(finest, count)
        check_composition(model, blocks, VECTORS)
    with pytest.raises(ValueError, match=f"{len(widths)} blocks"):
        partition(model, len(widths) + 1)


def test_equal_blocks_are_merged_equally():
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(12))])
    for count in (2, 3, 4, 6):
        assert {len(block.layers) for block in partition(model, count)} == {12 // count}


def test_blocks_below_the_largest_are_nearly_equal_too():
    widths = (4, 4, 4, 4, 100)
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(width) for width in widths)])
    assert [block.parameters for block in partition(model, 3)] == [40, 40, 500]


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "expected", "has_models"),
    [
        ([["first", ".*norm"], ["second", "head"]], "first second", False),
        ([["first", "norm", "input_norm"], ["second", "last_norm", "head"]], "first second", True),
        ([["input_norm", "first", "norm"], ["(second|head|last_.*)"]], "first second", True),
        ([["head"], ["first", "second", ".*norm"]], "head first", False),
        ([[".*"]], "first", True),
    ],
)
def test_lists_of_names_and_regular_expressions(by, expected, has_models):
    model, x, _ = plain()
    blocks = partition(model, by)
    assert " ".join(names(blocks)) == expected
    check_variables(model, blocks)
    assert blocks.has_models == has_models
    assert sum(len(block.layers) for block in blocks) == 9
    if has_models:
        check_composition(model, blocks, x)


def test_lists_may_name_paths_models_and_composite_layers():
    model, x, _ = same_names()
    by = [["start"], ["one/a"], ["one/b", "one/norm"], ["three", "two/.*", "head"]]
    blocks = partition(model, by)
    assert names(blocks) == ["start", "one/a", "b", "three/a"]
    check_composition(model, blocks, x)
    by = [["embedding", "attention_0"], ["layer_norm.*", "wrapped.*", "attention_1", "head"]]
    assert [len(block.variables) for block in partition(composite()[0], by)] == [9, 18]


@pytest.mark.parametrize(
    ("by", "error", "message"),
    [
        ([["first"], ["secnd"]], ValueError, "'secnd'.*Did you mean 'second'"),
        ([["first"], ["(second"]], ValueError, r"\(second"),
        ([[".*"], ["second"]], ValueError, "'second' is in two blocks, 0 and 1"),
        ([["first", ".*norm"], ["second"]], ValueError, "'head' is in no block"),
        ([["first", ".*norm", "second", "head"], ["relu"]], ValueError, "Block 1 .*relu.* no"),
        ([], TypeError, "list of layer names"),
        ([[]], TypeError, "list of layer names"),
        (["first", "second"], TypeError, "list of layer names"),
        ([["first"], [1]], TypeError, "list of layer names"),
        ("layers", ValueError, "'layer'"),
        (0, ValueError, "at least 1, got 0"),
        (-1, ValueError, "at least 1, got -1"),
        (True, TypeError, "got True"),
        (2.0, TypeError, r"got 2\.0"),
        (None, TypeError, "got None"),
    ],
)
def test_bad_partitions_raise_and_say_what_to_do(by, error, message):
    with pytest.raises(error, match=message):
        partition(plain()[0], by)


def test_models_that_cannot_be_partitioned():
    with pytest.raises(TypeError, match="Dense"):
        partition(layers.Dense(3))
    with pytest.raises(ValueError, match=r"add keras\.Input"):
        partition(keras.Sequential([layers.Dense(3)]))
    model = plain()[0]
    model.trainable = False
    with pytest.raises(ValueError, match="no trainable variables"):
        partition(model)


# --- Blocks ---------------------------------------------------------------------------------------


def test_blocks_know_their_names_and_indices():
    model = plain()[0]
    blocks = partition(model)
    assert isinstance(blocks, Blocks) and isinstance(blocks, tuple) and blocks.model is model
    assert all(isinstance(block, Block) for block in blocks)
    assert [block.index for block in blocks] == [0, 1, 2]
    assert [blocks.index(key) for key in ("second", 1, np.int64(1), blocks[1])] == [1, 1, 1, 1]
    with pytest.raises(
        ValueError, match=r"'heads'.*Did you mean 'head'.*'first', 'second', 'head'"
    ):
        blocks.index("heads")
    for bad in (3, -1):
        with pytest.raises(ValueError, match=f"{bad} is out of range.*0 to 2"):
            blocks.index(bad)
    for bad in (True, 1.0, None):
        with pytest.raises(TypeError, match=str(bad)):
            blocks.index(bad)


def test_blocks_print_as_a_table():
    model = plain()[0]
    table = str(partition(model)).splitlines()
    assert len(table) == 5 and len({len(line) for line in table}) == 1
    assert table[0].split() == ["block", "layers", "parameters"]
    assert table[2].split() == ["1", "second", "second,", "last_norm", "45"]
    assert table[4].split() == ["total", "9", "layers", f"{8 + 30 + 12 + 35 + 10 + 18}"]


def test_blocks_of_the_same_model_pass_through():
    model = plain()[0]
    blocks = partition(model, 2)
    assert partition(model, blocks) is blocks
    with pytest.raises(ValueError, match="another model"):
        partition(plain()[0], blocks)


# --- architectures by construction ----------------------------------------------------------------

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


# --- keras.applications and KerasHub --------------------------------------------------------------


def test_resnet_has_one_block_per_residual_block():
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)
    blocks = partition(model)
    stages = [(2, 3), (3, 4), (4, 6), (5, 3)]
    residual_blocks = [f"conv{s}_block{b}" for s, count in stages for b in range(1, count + 1)]
    assert [name.rpartition("_")[0] for name in names(blocks)] == [
        "conv1",
        *(f"{name}_{0 if name.endswith('block1') else 1}" for name in residual_blocks),
        "",
    ]
    check_variables(model, blocks)
    assert len(partition(model, "layer")) == 54


def test_mobilenet_composes():
    model = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), alpha=0.35, classes=10, classifier_activation=None
    )
    blocks = partition(model, 5)
    check_variables(model, blocks)
    x = RNG.normal(size=(1, 32, 32, 3)).astype("float32")
    model(x, training=True)  # moving averages other than the initial ones
    check_composition(model, blocks, x)


APPLICATIONS = sorted(
    name for name in dir(keras.applications) if name[0].isupper() and name[0].isalpha()
)


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application(name):
    size = 75 if name.startswith(("Inception", "Xception")) else 32
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
    )
    blocks = partition(model)
    assert len(blocks) >= 3
    check_variables(model, blocks)
    check_variables(model, partition(model, "layer"))
    x = np.random.default_rng(0).normal(size=(1, size, size, 3)).astype("float32")
    check_composition(model, blocks, x)


HUB = {"vocabulary_size": 9, "num_layers": 3, "hidden_dim": 8, "intermediate_dim": 8}
HEADS = {"num_heads": 2, "max_sequence_length": 6}
TEXT = {"token_ids": TOKENS, "padding_mask": (TOKENS > 0).astype("int32")}
BERT_TEXT = {**TEXT, "segment_ids": (TOKENS > 4).astype("int32")}


def bert(hub):
    return hub.models.BertBackbone(**HUB, **HEADS), BERT_TEXT


def bert_classifier(hub):
    return hub.models.BertTextClassifier(bert(hub)[0], num_classes=3), BERT_TEXT


def bert_masked_lm(hub):
    positions = np.array([[0, 1], [1, 2], [0, 1]])
    return hub.models.BertMaskedLM(bert(hub)[0]), {**BERT_TEXT, "mask_positions": positions}


def gpt2(hub):
    return hub.models.GPT2Backbone(**HUB, **HEADS), TEXT


def gpt2_lm(hub):
    return hub.models.GPT2CausalLM(gpt2(hub)[0]), TEXT


def llama(hub):
    return hub.models.LlamaBackbone(**HUB, num_query_heads=2, num_key_value_heads=1), TEXT


def llama_lm(hub):
    return hub.models.LlamaCausalLM(llama(hub)[0]), TEXT


@pytest.mark.parametrize(
    ("make", "head"),
    [
        (bert, ["pooled_dense"]),
        (bert_classifier, ["pooled_dense", "logits"]),
        (bert_masked_lm, ["mlm_head"]),
        (gpt2, []),
        (gpt2_lm, []),
        (llama, []),
        (llama_lm, []),
    ],
)
def test_keras_hub_has_one_block_per_transformer_layer(make, head):
    hub = pytest.importorskip("keras_hub", exc_type=ImportError)
    model, x = make(hub)
    randomize(model)
    blocks = partition(model)
    embeddings = ["token_embedding"] + ["position_embedding"] * (make not in (llama, llama_lm))
    assert names(blocks) == [*embeddings, *(f"transformer_layer_{i}" for i in range(3)), *head]
    check_variables(model, blocks)
    check_composition(model, blocks, x)
    check_variables(model, partition(model, "layer"))
    assert len(partition(model, "layer")) >= len(blocks) + 3 * 3
