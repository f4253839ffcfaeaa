"""Prints all quantities of a net as JSON: a process for each backend, so that a test can compare them."""

import json

import keras
import numpy as np
from keras import layers

from layerwise.diagnostics import QUANTITIES, Step, reversals


def net():
    """Return a net with convolution, batch normalization, pooling, attention and layer normalization, and one batch."""
    image = keras.Input((8, 8, 1))
    value = layers.Conv2D(6, 3, name="conv")(image)
    value = layers.Activation("tanh")(layers.BatchNormalization()(value))
    value = layers.Reshape((9, 6))(layers.AveragePooling2D(2)(value))
    value = layers.Add()([value, layers.MultiHeadAttention(2, 3, name="attention")(value, value)])
    value = layers.LayerNormalization(name="normal")(value)
    value = layers.GlobalAveragePooling1D()(layers.Activation("gelu")(value))
    model = keras.Model(image, layers.Dense(3, name="end")(value))
    return model, np.random.default_rng(0).normal(size=(12, 8, 8, 1)).astype("float32")


def main():
    """Measure with weights, and slots of Adam, that do not depend on the backend."""
    model, x = net()
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
    found = {
        name: quantity(step).to_dict("list")
        for name, quantity in QUANTITIES.items()
        if quantity is not reversals
    }
    print("JSON" + json.dumps(found))


if __name__ == "__main__":
    main()
