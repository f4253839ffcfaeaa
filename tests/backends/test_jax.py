import keras
import numpy as np
import pytest

import layerwise
from layerwise.backends import backend
from layerwise.comparison import trainer
from layerwise.comparison.trainer import Trainer
from tests.comparison import problems
from tests.helpers import same_bits

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "jax" or backend.device() != "cpu",
    reason="XLA runs convolutions within loops slower on a CPU only",
)


class Smooth(keras.layers.Layer):
    """A convolution that is no layer of Keras."""

    def call(self, x):
        return keras.ops.conv(x, keras.ops.ones((3, 1, 1)))


def convolutional(layer, filters=2):
    inner = keras.Sequential([keras.Input((8, filters)), layer])
    layers = [keras.layers.Reshape((8, 1)), keras.layers.Dense(filters), inner]
    normalized = [keras.layers.BatchNormalization(), keras.layers.Flatten()]
    return keras.Sequential([keras.Input((8,)), *layers, *normalized, keras.layers.Dense(2)])


@pytest.mark.parametrize(
    "layer, filters",
    [
        (keras.layers.Conv1D(2, 3), 2),
        (keras.layers.DepthwiseConv1D(3), 2),
        (keras.layers.Conv1DTranspose(2, 3), 2),
        (Smooth(), 1),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_loops_do_not_pay_for_a_model_with_convolutions_wherever_they_are(layer, filters):
    model = convolutional(layer, filters)
    before = model.get_weights()
    assert not backend.loops_pay(model, np.ones((1, 8), "float32"))
    assert same_bits(model.get_weights(), before)


def test_loops_pay_for_a_model_without():
    assert backend.loops_pay(problems.net(), np.ones((1, 5), "float32"))


@pytest.mark.parametrize("net, loops", [(problems.net, True), (None, False)])
def test_a_comparison_loops_over_an_epoch_where_that_pays_alone(net, loops, monkeypatch):
    made = []

    class Recorded(trainer.Resident):
        def __init__(self, *arguments):
            made.append(arguments)
            super().__init__(*arguments)

    def convnet():
        layers = [keras.layers.Reshape((5, 1)), keras.layers.Conv1D(2, 3), keras.layers.Flatten()]
        return keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(3)])

    monkeypatch.setattr(trainer, "Resident", Recorded)
    grid = problems.grid({"simultaneous": layerwise.Simultaneous}, model=net or convnet)
    outcome = problems.run(Trainer(grid, problems.cell("simultaneous")), 0.01, 0)
    assert (outcome.status, outcome.error) == ("finished", "")
    assert bool(made) is loops
