"""TensorFlow's own advice on retracing, which a schedule's many programs would bring about, is not called for."""

import logging

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("for the TensorFlow backend", allow_module_level=True)

import layerwise
from tests.helpers import compiled, mlp, pooled, vectors


class Collects(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@pytest.fixture
def said():
    import tensorflow as tf

    handler = Collects()
    tf.get_logger().addHandler(handler)
    yield handler.said
    tf.get_logger().removeHandler(handler)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, {"sweep_each_batch": True}], ids=str)
def test_no_schedule_makes_tensorflow_warn_of_retracing(arguments, said):
    for _ in range(2):
        schedule = layerwise.BlockCoordinate("layer", **arguments)
        model = compiled(mlp(depth=6), "adam")
        x, y = vectors(44)  # the last batch is smaller
        model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[schedule])
        model.fit(x, y, batch_size=8, verbose=0)
    assert not [line for line in said if "retracing" in line]


@pytest.mark.thorough
def test_stages_with_cached_features_do_not_either(said):
    x, y = vectors(40)
    model = compiled(mlp(depth=6), "adam")
    schedule = layerwise.GreedyLayerwise()
    data = {"validation_data": (x, y), "batch_size": 16, "epochs": 12, "verbose": 0}
    schedule.fit(model, x, y, **data)
    assert not [line for line in said if "retracing" in line]


def test_sweeps_are_traced_once_where_the_last_batch_is_smaller():
    schedule = layerwise.BlockCoordinate(sweep_each_batch=True)
    model = compiled(mlp(), "adam")
    model.fit(*vectors(44), batch_size=8, epochs=2, verbose=0, callbacks=[schedule])
    assert list(schedule.traces.values()) == [1] * 4


def two_blocks():
    return mlp(depth=2)


@pytest.mark.thorough
@pytest.mark.filterwarnings(
    "ignore:Your input ran out of data"
)  # that is how Keras learns a length
@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("steps", [1, 3])
def test_validation_of_a_stage_ends_with_its_data(cached, steps):
    import tensorflow as tf

    def unknown_length():
        x, y = vectors(20)
        yield from ((x[i : i + 8], y[i : i + 8]) for i in range(0, 20, 8))

    signature = tuple(tf.TensorSpec((None, *array.shape[1:]), array.dtype) for array in vectors(1))
    ends = []
    for validation in (
        vectors(20),
        tf.data.Dataset.from_generator(unknown_length, output_signature=signature),
    ):
        model = pooled(
            two_blocks, keras.optimizers.Adam, steps_per_execution=steps, metrics=("accuracy",)
        )
        schedule = layerwise.GreedyLayerwise()
        history = schedule.fit(
            model, *vectors(40), cache_features="memory" if cached else None, epochs=3, batch_size=8,
            validation_data=validation, validation_batch_size=8, shuffle=False, verbose=0,
        )  # fmt: skip
        ends.append(history.history)
    assert ends[0] == ends[1]
