"""What only TensorFlow has: its datasets, of known and unknown length."""

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("for the TensorFlow backend", allow_module_level=True)

import tensorflow as tf

import layerwise
from tests.helpers import compiled, mlp, pooled, same_bits, values, vectors


@pytest.mark.thorough
# Keras warns of the end of a dataset of unknown length.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_datasets_give_what_arrays_give():
    x, y = vectors(40)

    def run(data, **arguments):
        model = pooled(mlp, keras.optimizers.Adam, **arguments.pop("compile", {}))
        schedule = layerwise.BlockCoordinate(order="shuffled", every=2)
        history = model.fit(
            data, shuffle=False, epochs=3, verbose=0, callbacks=[schedule], **arguments
        ).history
        return values(model.weights), history["loss"]

    model = pooled(mlp, keras.optimizers.Adam)
    schedule = layerwise.BlockCoordinate(order="shuffled", every=2)
    losses = model.fit(
        x, y, batch_size=8, shuffle=False, epochs=3, verbose=0, callbacks=[schedule]
    ).history["loss"]
    expected = values(model.weights)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    unknown = dataset.filter(lambda a, b: True)
    for data, arguments in [
        (dataset, {}),
        (dataset.prefetch(2), {"validation_data": dataset}),
        (unknown, {"compile": {"steps_per_execution": 2}}),
        (dataset, {"compile": {"steps_per_execution": 2}}),
        (dataset.repeat(), {"steps_per_epoch": 5}),
    ]:
        found, history = run(data, **arguments)
        assert same_bits(found, expected)
        assert history == losses


@pytest.mark.thorough
# Keras warns of the end of a dataset of unknown length.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
def test_a_dataset_of_unknown_length():
    # Stock fit counts one step more at the end of each epoch of such a dataset, where there is no batch: a schedule does
    # not, so its run is that of the same batches in arrays. Simultaneous is stock also here.
    x, y = vectors(40)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).filter(lambda a, b: True)

    def run(callbacks, *data, **arguments):
        model = compiled(mlp(), "adam")
        arguments = {"shuffle": False, "epochs": 3, "verbose": 0, **arguments}
        history = model.fit(*data, callbacks=callbacks, **arguments).history
        return [*values(model.weights), *values(model.optimizer.variables)], history

    found = run([layerwise.BlockCoordinate(blocks=1)], dataset)
    stock = run([], x, y, batch_size=8)
    assert same_bits(found[0], stock[0])
    assert found[1] == stock[1]
    found, stock = run([layerwise.Simultaneous()], dataset), run([], dataset)
    assert same_bits(found[0], stock[0])
    assert found[1] == stock[1]


def test_a_dataset_that_ends_early_ends_the_training():
    x, y = vectors(40)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    schedule = layerwise.BlockCoordinate(every=3)
    model = compiled(mlp(), "adam")
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(
            dataset, steps_per_epoch=3, epochs=4, shuffle=False, verbose=0, callbacks=[schedule]
        )
    twin = compiled(mlp(), "adam")
    with pytest.warns(UserWarning, match="ran out of data"):
        twin.fit(dataset, steps_per_epoch=3, epochs=4, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == int(twin.optimizer.iterations)
    assert int(schedule.visits["steps"].sum()) == int(twin.optimizer.iterations)
