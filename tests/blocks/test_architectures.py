"""Models of keras.applications and KerasHub."""

from contextlib import nullcontext

import keras
import numpy as np
import pytest
from keras import StatelessScope

from layerwise.blocks import partition
from tests.blocks.models import (
    RNG,
    TOKENS,
    check_composition,
    check_variables,
    names,
    on_one_backend,
    randomize,
)

pytestmark = on_one_backend


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


NUMBERS = RNG.normal(size=10_007).astype("float32")


@pytest.fixture
def cheap_weights(monkeypatch):
    """Initial weights that repeat a few random numbers: to draw hundreds of millions takes most of a large model's time."""

    def repeated(self, shape, dtype=None, **ignored):
        scale = np.sqrt(max(1, np.prod(shape[:-1])))
        return keras.ops.convert_to_tensor(np.resize(NUMBERS / scale, shape), dtype)

    for initializer in (keras.initializers.VarianceScaling, keras.initializers.TruncatedNormal):
        monkeypatch.setattr(initializer, "__call__", repeated)


# They repeat the layers of a smaller one of their family more often, or wider: that one's composition is checked.
REPEATED = {
    *(f"ConvNeXt{size}" for size in ("Small", "Base", "Large", "XLarge")),
    *(f"DenseNet{depth}" for depth in (169, 201)),
    *(f"EfficientNetB{size}" for size in range(1, 8)),
    *(f"EfficientNetV2{size}" for size in ("B1", "B2", "B3", "M", "L")),
    *(f"ResNet{depth}{version}" for depth in (101, 152) for version in ("", "V2")),
    "NASNetLarge",
    "VGG19",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_application(name, cheap_weights):
    size = 75 if name.startswith(("Inception", "Xception")) else 32
    # Blocks need no values of weights, which take most of the time of a model of a hundred million.
    scope = StatelessScope(initialize_variables=False) if name in REPEATED else nullcontext()
    with scope:
        model = getattr(keras.applications, name)(
            weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None
        )
    blocks = partition(model)
    assert len(blocks) >= 3
    check_variables(model, blocks)
    check_variables(model, partition(model, "layer"))
    assert blocks.has_models
    if name in REPEATED:
        return
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
