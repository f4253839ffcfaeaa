"""Moving averages of batch normalization under greedy are those of what was trained, however a fit goes."""

import keras
import numpy as np
import pytest

import layerwise

RNG = np.random.default_rng(0)
X = (3 * RNG.normal(size=(64, 4)) + 10).astype("float32")
Y = X[:, :1]
FIT = {"batch_size": 16, "shuffle": False, "verbose": 0}


def net(**options):
    options |= {"beta_initializer": keras.initializers.Constant(5.0)}  # no mean is near 0
    layers = [
        keras.layers.Dense(3),
        keras.layers.BatchNormalization(**options),
        keras.layers.Dense(3),
        keras.layers.BatchNormalization(**options),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer=keras.optimizers.SGD(1e-4), loss="mse")
    return model


def assert_averages_are_the_means(model):
    features = X
    for dense, normalization in (model.layers[:2], model.layers[2:4]):
        features = dense(features)
        mean = keras.ops.convert_to_numpy(keras.ops.mean(features, axis=0))
        average = keras.ops.convert_to_numpy(normalization.moving_mean)
        np.testing.assert_allclose(average, mean, rtol=0.03, atol=0.1)
        features = normalization(features, training=False)


@pytest.mark.parametrize("first", ["schedule", "early stopping"])
def test_where_early_stopping_restores_the_weights_of_an_epoch(first):
    early = keras.callbacks.EarlyStopping("loss", 10, mode="max", restore_best_weights=True)
    callbacks = [layerwise.GreedyLayerwise(), early]  # mode: the first epoch of a stage is the best
    model = net()
    model.fit(X, Y, epochs=6, callbacks=callbacks[:: 1 if first == "schedule" else -1], **FIT)
    assert_averages_are_the_means(model)


def test_where_a_fit_ends_in_its_first_stage_and_another_goes_on():
    def stop(epoch, logs):
        model.stop_training = True

    model, schedule = net(), layerwise.GreedyLayerwise()
    stopping = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    model.fit(X, Y, epochs=6, callbacks=[schedule, stopping], **FIT)
    model.fit(X, Y, initial_epoch=1, epochs=6, callbacks=[schedule], **FIT)
    assert_averages_are_the_means(model)


def test_averages_that_never_move_stay_as_they_are():
    model = net(momentum=1.0)
    model.fit(X, Y, epochs=3, callbacks=[layerwise.GreedyLayerwise()], **FIT)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(model.layers[1].moving_mean), 0.0)
