"""Auxiliary heads: what turns the features after a block into the model's kind of output.

A head is a small model of its own. It takes the output width, activation and dtype from the model's output layer, so that
the model's loss and metrics apply to it as they are.
"""

import random

import keras
from keras import layers

from layerwise.backends import double, internals
from layerwise.blocks.graph import has_graph
from layerwise.blocks.segment import with_masks

_POOLING = {
    1: layers.GlobalAveragePooling1D,
    2: layers.GlobalAveragePooling2D,
    3: layers.GlobalAveragePooling3D,
}


def build_heads(model, blocks, head, seed):
    """Builds one head after each block but the last.

    "linear" averages the features over space or time and maps them to the model's output with one dense layer. "mlp" puts
    a ReLU layer as wide as the features before it. Where the model has an output for each position (a sequence or a
    map), the head works position by position, without averaging.

    Args:
        model: A Functional or Sequential model with one output.
        blocks: Its `Blocks`.
        head: "linear", "mlp", or a callable that takes the features after a block (a symbolic tensor of shape
            `(batch, ...)`) and returns the output (a symbolic tensor of the model's output shape).
        seed: Decides the initial weights. No global random state is used or changed.

    Returns:
        `{k: keras.Model}`: the head after block k.

    Raises:
        ValueError: If `head` is unknown, or a head of that kind does not fit the features or the output.

    Example:
    >>> import keras, layerwise
    >>> from layerwise.steps.heads import build_heads
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(6, "relu"), keras.layers.Dense(3, "softmax")])
    >>> heads = build_heads(model, layerwise.partition(model), "linear", seed=0)
    >>> heads[0].output_shape
    (None, 3)
    """
    if not callable(head) and head not in ("linear", "mlp"):
        raise ValueError(
            f"head must be 'linear', 'mlp' or a callable block_output -> tensor, got {head!r}."
        )
    if isinstance(head, layers.Layer):
        raise ValueError(
            f"head must be 'linear', 'mlp' or a function that makes new layers for each head, got the layer "
            f"{type(head).__name__}, whose weights all heads would share. Pass lambda features: "
            f"keras.layers.{type(head).__name__}(...)(features)."
        )
    output = list(getattr(model, "outputs", None) or ())
    if len(output) != 1:
        raise ValueError(
            f"Auxiliary heads stand in for the model's one output; this model has {len(output)}. Train a model with one "
            "output, or use BlockCoordinate."
        )
    heads = {}
    blocks[-1].model  # noqa: B018 built now, as the others are: while a step is traced, JAX's variables have no values
    for block in blocks[:-1]:
        features = block.model.output
        inputs = keras.Input(batch_shape=features.shape, dtype=features.dtype, name="features")
        state = random.getstate()
        random.seed(
            f"{seed} {block.index}"
        )  # Keras draws the seeds of initializers and dropout here
        try:
            outputs = (
                head(inputs) if callable(head) else _head(inputs, model, output[0], head, block)
            )
        finally:
            random.setstate(state)
        if not isinstance(outputs, keras.KerasTensor):
            raise ValueError(
                f"head must return a Keras tensor, got {outputs!r} after block {block.name!r}. Pass head=a callable "
                "block_output -> tensor."
            )
        if tuple(outputs.shape) != tuple(output[0].shape):
            raise ValueError(
                f"The head after block {block.name!r} must give the shape of the model's output, "
                f"{tuple(output[0].shape)}; it gives {tuple(outputs.shape)} from features {tuple(features.shape)}. Pass "
                "head=a callable block_output -> tensor that does."
            )
        heads[block.index] = with_masks(
            keras.Model(inputs, outputs, name=f"head_after_{block.name}")
        )
    return heads


def _head(features, model, output, kind, block):
    dtype, activations = _output_layer(model, output)
    axis = 1 if _channels_first(block) and len(features.shape) > 3 else -1
    positions = tuple(features.shape[1:-1])
    if len(output.shape) == 2 and positions:
        if len(positions) not in _POOLING:
            raise ValueError(
                f"No built-in head for features of shape {tuple(features.shape)} after block {block.name!r}. Pass head=a "
                "callable block_output -> tensor."
            )
        if len(positions) == 1:
            features = _POOLING[1](dtype=dtype)(features)
        else:
            form = "channels_first" if axis == 1 else "channels_last"
            features = _POOLING[len(positions)](dtype=dtype, data_format=form)(features)
    if kind == "mlp":
        features = layers.Dense(features.shape[-1], activation="relu", dtype=dtype)(features)
    outputs = layers.Dense(output.shape[-1], dtype=dtype)(features)
    for activation in activations:
        outputs = activation(outputs)
    return outputs


def _output_layer(model, output):
    """The dtype policy of the model's output layer, and the activations that end the model, in order."""
    activations = []
    while True:
        operation, node = internals.history(output)
        if has_graph(operation) and len(operation.outputs) == 1:
            output = operation.outputs[0]
            continue
        while isinstance(operation, layers.Wrapper):
            operation = operation.layer
        dtype = getattr(operation, "dtype_policy", None)
        activation = getattr(operation, "activation", None)
        weightless = not getattr(operation, "weights", ())
        if isinstance(
            operation, (layers.Activation, layers.Softmax, layers.ReLU, layers.LeakyReLU)
        ):
            clone = type(operation).from_config(operation.get_config() | {"name": None})
            activations.insert(0, clone)
        elif (
            not isinstance(operation, keras.layers.Layer)
            and weightless
            and _is_activation(operation)
        ):
            activations.insert(0, operation)
        elif isinstance(operation, (layers.Reshape, layers.Flatten, layers.Dropout)):
            pass
        else:
            own = not type(operation).__module__.startswith("keras.")
            composite = isinstance(operation, layers.Layer) and double.layers_of(operation)
            if activation is None and own and composite:
                raise ValueError(
                    f"The model ends in {type(operation).__name__}, a layer made of others, whose activation a head "
                    "cannot know. Pass head=a callable block_output -> tensor that ends as the model does, for example "
                    "lambda features: keras.layers.Dense(10, 'softmax')(features)."
                )
            if activation is not None and activation is not keras.activations.linear:
                activations.insert(0, layers.Activation(activation, dtype=dtype))
            return dtype, activations
        output = node.input_tensors[0]


def _is_activation(operation):
    name = type(operation).__name__.lower()
    return name in ("softmax", "sigmoid", "relu", "tanh", "logsoftmax", "softplus", "identity")


def _channels_first(block):
    """Whether the block's images have their channels before their rows and columns."""
    formats = [layer.data_format for layer in block.layers if hasattr(layer, "data_format")]
    return bool(formats) and formats[-1] == "channels_first"
