"""TensorFlow's own advice on retracing, which a schedule's many programs would bring about, is not called for."""

import logging

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("for the TensorFlow backend", allow_module_level=True)

import layerwise
from tests.helpers import compiled, mlp, vectors


class Collects(logging.Handler):
    def __init__(self):
        super().__init__()
        self.said = []

    def emit(self, record):
        self.said.append(record.getMessage())


@pytest.mark.parametrize("arguments", [{}, {"sweep_each_batch": True}, {"every": 3}], ids=str)
def test_no_schedule_makes_tensorflow_warn_of_retracing(arguments):
    import tensorflow as tf

    handler = Collects()
    tf.get_logger().addHandler(handler)
    try:
        for _ in range(2):
            schedule = layerwise.BlockCoordinate("layer", **arguments)
            model = compiled(mlp(depth=8), "adam")
            x, y = vectors(44)  # the last batch is smaller
            model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[schedule])
            model.fit(x, y, batch_size=8, verbose=0)
    finally:
        tf.get_logger().removeHandler(handler)
    assert not [line for line in handler.said if "retracing" in line]


def test_sweeps_are_traced_once_where_the_last_batch_is_smaller():
    schedule = layerwise.BlockCoordinate(sweep_each_batch=True)
    model = compiled(mlp(), "adam")
    model.fit(*vectors(44), batch_size=8, epochs=2, verbose=0, callbacks=[schedule])
    assert list(schedule.traces.values()) == [1] * 4
