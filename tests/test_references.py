"""The oracles themselves: against finite differences and against stock Keras."""

import keras
import numpy as np
import pytest

from tests import references
from tests.helpers import batches, compiled, mlp, values, vectors


def as_layers(model):
    """Return the network in the form of references.py, in float64."""
    pairs = zip(*[iter(values(model.trainable_variables))] * 2, strict=True)
    return [{"kernel": k.astype("float64"), "bias": b.astype("float64")} for k, b in pairs]


@pytest.mark.parametrize("loss", [references.mean_squared_error, references.softmax_cross_entropy])
def test_gradients_equal_finite_differences(loss):
    layers = as_layers(mlp(depth=3, width=4))
    x, labels = vectors(5)
    y = labels if loss is references.softmax_cross_entropy else np.eye(3)[labels]
    found = references.gradients(layers, x.astype("float64"), y, loss)
    for number, layer in enumerate(layers):
        for name, value in layer.items():
            for index in np.ndindex(value.shape):
                kept, ends = value[index], []
                for step in (1e-6, -1e-6):
                    value[index] = kept + step
                    ends.append(loss(references.forward(layers, x)[1], y)[0])
                value[index] = kept
                assert found[number][name][index] == pytest.approx(
                    (ends[0] - ends[1]) / 2e-6, abs=1e-8
                )


@pytest.mark.parametrize(
    ("optimizer", "oracle"),
    [
        (lambda: keras.optimizers.SGD(0.1), references.SGD(0.1)),
        (lambda: keras.optimizers.SGD(0.1, momentum=0.9), references.SGD(0.1, 0.9)),
        (lambda: keras.optimizers.Adam(0.01), references.Adam(0.01)),
        (
            lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.2),
            references.Adam(0.01, weight_decay=0.1, global_clipnorm=0.2),
        ),
    ],
)
def test_stock_fit_equals_the_oracle(optimizer, oracle):
    x, y = vectors()
    model = compiled(mlp(), optimizer())
    steps = [(a, b, range(4), False) for a, b in batches(x, y, 8, epochs=4)]
    expected = references.train(as_layers(model), steps, oracle, references.softmax_cross_entropy)[
        -1
    ]
    model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
    for found, layer in zip(as_layers(model), expected, strict=True):
        for name, value in layer.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=2e-6)
