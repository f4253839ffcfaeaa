"""Prints all quantities of some nets as JSON: a process for each backend, so that a test can compare them."""

import json

import keras
import numpy as np
from keras import layers

from layerwise.diagnostics import QUANTITIES, Step, reversals


def convolutional():
    """Return a net with convolution, batch normalization and pooling, and one batch."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(3, 3, name="conv"),
            layers.BatchNormalization(),
            layers.Activation("tanh"),
            layers.AveragePooling2D(2),
            layers.Conv2D(4, 2, activation="tanh", name="second"),
            layers.Flatten(),
            layers.Dense(3, name="end"),
        ]
    )
    x = np.random.default_rng(0).normal(size=(12, 8, 8, 1)).astype("float32")
    return model, x


def attentive():
    """Return a net with an embedding, attention and layer normalization, and one batch."""
    tokens = keras.Input((6,), dtype="int32")
    value = layers.Embedding(9, 6, name="embed")(tokens)
    value = layers.Add()([value, layers.MultiHeadAttention(2, 3, name="attention")(value, value)])
    value = layers.LayerNormalization(name="normal")(value)
    value = layers.GlobalAveragePooling1D()(layers.Dense(5, "gelu", name="hidden")(value))
    model = keras.Model(tokens, layers.Dense(3, name="end")(value))
    return model, np.random.default_rng(0).integers(0, 9, (12, 6)).astype("int32")


def main():
    """Measure with weights, and slots of Adam, that do not depend on the backend."""
    found = {}
    for make in (convolutional, attentive):
        model, x = make()
        rng = np.random.default_rng(1)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.01), loss=loss)
        model.optimizer.build(model.trainable_variables)
        for variable in model.trainable_variables:
            variable.assign(rng.normal(0, 0.4, variable.shape).astype("float32"))
        for variable in model.optimizer.variables[2:]:
            value = rng.uniform(0.5, 1, variable.shape).astype("float32")
            variable.assign(0.01 * value)
        step = Step(model, x, rng.integers(0, 3, 12))
        frames = {
            name: reversals(step, None) if quantity is reversals else quantity(step)
            for name, quantity in QUANTITIES.items()
        }
        found[make.__name__] = {
            name: frame.to_dict("list") for name, frame in frames.items() if name != "reversals"
        }
    print("JSON" + json.dumps(found))


if __name__ == "__main__":
    main()
