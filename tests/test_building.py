"""A model without `keras.Input` is built from the data of `fit`, without taking a batch from it."""

import keras
import numpy as np
import pytest

import layerwise
from tests.helpers import CLASSES, compiled, mostly_thorough, same_bits, values, vectors


def unbuilt(seed=1):
    """Return a net as books write it."""
    initializers = [keras.initializers.GlorotUniform(seed=seed + k) for k in range(3)]
    return keras.Sequential(
        [
            keras.layers.Dense(8, "tanh", kernel_initializer=initializers[0]),
            keras.layers.Dropout(0.2, seed=3),
            keras.layers.Dense(8, "tanh", kernel_initializer=initializers[1]),
            keras.layers.Dense(CLASSES, kernel_initializer=initializers[2]),
        ]
    )


class Rows(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.x[8 * index : 8 * index + 8], self.y[8 * index : 8 * index + 8]


def generator(x, y):
    while True:
        for index in range(5):
            yield x[8 * index : 8 * index + 8], y[8 * index : 8 * index + 8]


def data(kind):
    """Return the positional and named arguments of fit."""
    x, y = vectors(40)
    if kind == "arrays":
        return (x, y), {"batch_size": 8}
    if kind == "class weights":
        return (x, y), {"batch_size": 8, "class_weight": {0: 1.0, 1: 2.0, 2: 0.5}}
    if kind == "sample weights":
        return (x, y), {"batch_size": 8, "sample_weight": np.linspace(0, 1, 40)}
    if kind == "PyDataset":
        return (Rows(x, y),), {}
    if kind == "generator":
        return (generator(x, y),), {"steps_per_epoch": 5}
    import tensorflow as tf

    return (tf.data.Dataset.from_tensor_slices((x, y)).batch(8),), {}


KINDS = ["arrays", "class weights", "sample weights", "PyDataset", "generator", "tf.data"]


@pytest.mark.parametrize("kind", mostly_thorough(KINDS, fast=("arrays", "generator", "tf.data")))
def test_one_block_is_stock(kind):
    if kind == "tf.data" and keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data")

    def trained(callbacks):
        keras.utils.set_random_seed(2)
        model = compiled(unbuilt(), "adam", metrics=["accuracy"])
        positional, named = data(kind)
        fitted = model.fit(
            *positional, epochs=2, shuffle=False, verbose=0, callbacks=callbacks, **named
        )
        return values(model.weights), fitted.history

    found, stock = trained([layerwise.BlockCoordinate(blocks=1)]), trained([])
    assert same_bits(found[0], stock[0])
    assert found[1] == stock[1]


@pytest.mark.parametrize("make", [layerwise.BlockCoordinate, layerwise.GreedyLayerwise])
def test_blocks_are_found(make):
    schedule, (x, y) = make(), vectors(40)
    compiled(unbuilt(), "adam").fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[schedule])
    assert len(schedule.blocks) == 3
    assert len(schedule.visits) == 15 if make is layerwise.BlockCoordinate else 3


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="fit builds all itself")
def test_dropped_state_is_never_allocated_for_blocks_that_rest():
    schedule, held = layerwise.BlockCoordinate(state="drop"), []

    def look(*arguments, **named):
        held.append(schedule.optimizer_state_bytes())

    looking = keras.callbacks.LambdaCallback(on_train_begin=look, on_train_batch_end=look)
    model, (x, y) = compiled(unbuilt(), "adam"), vectors(8)
    model.fit(x, y, verbose=0, callbacks=[schedule, looking])
    assert held == [0, 8 * schedule.blocks[0].parameters]


@pytest.mark.thorough
def test_a_backup_is_restored_into_a_model_that_was_not_built(tmp_path):
    class Stop(Exception):
        pass

    class Stops(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise Stop

    def trained(folder, *callbacks):
        model = compiled(unbuilt(), "adam")
        callbacks = [*callbacks, layerwise.BlockCoordinate(every=3)]
        callbacks += [keras.callbacks.BackupAndRestore(folder)] if folder else []
        x, y = vectors(40)
        model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
        return values(model.weights)

    with pytest.raises(Stop):
        trained(tmp_path / "backup", Stops())
    assert same_bits(trained(tmp_path / "backup"), trained(None))
