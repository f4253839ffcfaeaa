"""What partition takes, and what it refuses."""

import keras
import pytest
from keras import layers

from layerwise.blocks import partition
from tests.blocks.models import (
    VECTORS,
    ZOO,
    check_composition,
    check_variables,
    layer_names,
    names,
    on_one_backend,
    plain,
    randomize,
)

pytestmark = [
    on_one_backend,
    # Keras warns of what some of these models do with a mask, as their users would see.
    pytest.mark.filterwarnings("ignore:Layer 'inner':UserWarning"),
]


@pytest.mark.parametrize("make", ZOO)
def test_coarser_and_finer_blocks_hold_every_variable_and_compose(make):
    model, x, finest = make()
    randomize(model)
    outputs = model(x, training=False)
    for by in (1, 2, "layer"):
        blocks = partition(model, by)
        check_variables(model, blocks)
        if by != "layer":
            assert len(blocks) == by
        # The finest blocks between cut points compose in test_segment.
        if blocks.has_models and names(blocks) != finest:
            check_composition(model, blocks, x, outputs)


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


def subclassed():
    model = Subclassed()
    model(VECTORS)
    return model


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


@pytest.mark.parametrize(
    ("make", "by", "said"),
    [
        (plain, "layers", "blocks is 'auto', 'layer'"),
        (plain, None, "blocks is 'auto', 'layer'"),
        (plain, 0, "blocks is the number"),
        (plain, ["first"], "blocks as a list"),
        (plain, 4, "use blocks=3 or fewer, blocks='layer'"),
        (subclassed, "auto", "use blocks='layer', .* or blocks=1"),
    ],
)
def test_messages_name_the_argument_that_the_user_wrote(make, by, said):
    """A schedule hands its own argument `blocks` to partition."""
    model = make() if make is subclassed else make()[0]
    with pytest.raises((TypeError, ValueError), match=said) as caught:
        partition(model, by, argument="blocks")
    assert "by is" not in str(caught.value) and "by=" not in str(caught.value)


def test_a_block_without_a_sub_model_names_no_argument():
    """Whoever asks for the sub-model may have given the partition under another name."""
    with pytest.raises(ValueError, match="Functional or Sequential") as caught:
        _ = partition(subclassed(), "layer")[0].model
    assert "by=" not in str(caught.value)


def test_models_that_cannot_be_partitioned():
    with pytest.raises(TypeError, match="Dense"):
        partition(layers.Dense(3))
    with pytest.raises(ValueError, match=r"add keras\.Input"):
        partition(keras.Sequential([layers.Dense(3)]))
    model = plain()[0]
    model.trainable = False
    with pytest.raises(ValueError, match="no trainable variables"):
        partition(model)


def test_blocks_of_the_same_model_pass_through():
    model = plain()[0]
    blocks = partition(model, 2)
    assert partition(model, blocks) is blocks
    with pytest.raises(ValueError, match="another model"):
        partition(plain()[0], blocks)
