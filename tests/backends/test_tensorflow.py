"""What only TensorFlow has: traced graphs to count operations in, and tf.data."""

import collections

import keras
import pytest

if keras.backend.backend() != "tensorflow":
    pytest.skip("for the TensorFlow backend", allow_module_level=True)

import tensorflow as tf

import layerwise
from layerwise import Update
from layerwise.backends import tensorflow as backend
from tests.helpers import compiled, images, mlp, same_bits, values, vectors


def operations(schedule, update, x, y):
    """Count the operations that run in an Update's traced program.

    Some gradients of TensorFlow (that of Conv2D) lay out operations whose results nobody asks for;
    a function's graph is pruned of them before it runs.
    """
    graph = backend.graph(schedule._session, update, x, y)
    needed = [tensor.op.name for tensor in graph.outputs]
    needed += [operation.name for operation in graph.control_outputs]
    live = tf.compat.v1.graph_util.extract_sub_graph(graph.as_graph_def(), needed)
    counts = collections.Counter(node.op for node in live.node)
    assert not [name for name in counts if name.endswith("PartitionedCall")], "nothing is hidden"
    return counts


def met(schedule, model, x, y, epochs=1):
    model.fit(x, y, epochs=epochs, verbose=0, callbacks=[schedule])
    return schedule


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(("block", "expected"), [(0, 16), (4, 12), (7, 9)])
def test_no_gradient_is_computed_below_the_moving_block(block, expected, jit_compile):
    x, y = vectors(8)
    model = compiled(mlp(depth=8), "adam", jit_compile=jit_compile)
    schedule = met(layerwise.BlockCoordinate(), model, x, y)
    # Forward 8; the block's own weights 1; the way back through the layers above it, 7 - block.
    assert expected == 8 + 1 + (7 - block)
    assert operations(schedule, Update((block,)), x, y)["MatMul"] == expected


def test_all_blocks_together_cost_what_stock_costs():
    x, y = vectors(8)
    schedule = met(layerwise.BlockCoordinate(), compiled(mlp(depth=8), "adam"), x, y)
    assert operations(schedule, Update(tuple(range(8))), x, y)["MatMul"] == 8 + 8 + 7
    assert operations(schedule, Update(None), x, y)["MatMul"] == 8 + 8 + 7


@pytest.mark.parametrize(("blocks", "weights"), [((0, 3), 2), ((2, 3), 2), ((3,), 1)])
def test_between_the_moving_blocks_no_weight_gradient_is_computed(blocks, weights):
    x, y = vectors(8)
    schedule = met(layerwise.BlockCoordinate(), compiled(mlp(depth=4), "adam"), x, y)
    expected = 4 + weights + (3 - min(blocks))
    assert operations(schedule, Update(blocks), x, y)["MatMul"] == expected


@pytest.mark.parametrize("block", [0, 2, 4])
def test_convolutions(block):
    layers = [keras.layers.Conv2D(3, 2, name=f"block_{k}") for k in range(5)]
    head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3)]
    x, y = images(8)
    model = compiled(keras.Sequential([keras.Input((8, 8, 1)), *layers, *head]), "adam")
    schedule = met(layerwise.BlockCoordinate(), model, x, y)
    found = operations(schedule, Update((block,)), x, y)
    assert found["Conv2D"] == 5
    assert found["Conv2DBackpropFilter"] == 1
    assert found["Conv2DBackpropInput"] == 4 - block


def test_a_greedy_stage_runs_its_prefix_its_block_and_its_head():
    x, y = vectors(8)
    schedule = layerwise.GreedyLayerwise()
    met(schedule, compiled(mlp(depth=4), "adam"), x, y, epochs=4)
    counts = [
        operations(schedule, schedule.updates(epoch, epoch)[0], x, y)["MatMul"]
        for epoch in range(4)
    ]
    # Forward k + 2, the weights of block and head 2, back through the head 1; the last stage has
    # no head: forward 4, weights 1.
    assert counts == [5, 6, 7, 5]


def test_datasets_give_what_arrays_give():
    x, y = vectors(40)

    def run(data, **arguments):
        model = compiled(mlp(), "adam", **arguments.pop("compile", {}))
        schedule = layerwise.BlockCoordinate(order="shuffled", every=2)
        history = model.fit(data, epochs=3, verbose=0, callbacks=[schedule], **arguments).history
        return values(model.weights), history["loss"]

    model = compiled(mlp(), "adam")
    schedule = layerwise.BlockCoordinate(order="shuffled", every=2)
    losses = model.fit(
        x, y, batch_size=8, shuffle=False, epochs=3, verbose=0, callbacks=[schedule]
    ).history["loss"]
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
        assert same_bits(found, values(model.weights))
        assert history == losses


def test_a_dataset_of_unknown_length_is_stock():
    # Stock fit takes one step too many at the end of each epoch of such a dataset: so do we.
    x, y = vectors(40)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).filter(lambda a, b: True)

    def run(callbacks):
        model = compiled(mlp(), "adam")
        history = model.fit(dataset, epochs=3, verbose=0, callbacks=callbacks).history
        return values(model.weights), values(model.optimizer.variables), history

    weights, slots, history = run([layerwise.BlockCoordinate(blocks=1)])
    stock_weights, stock_slots, stock_history = run([])
    assert same_bits(weights, stock_weights)
    assert same_bits(slots, stock_slots)
    assert history == stock_history


def test_a_dataset_that_ends_early_ends_the_training():
    x, y = vectors(40)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    schedule = layerwise.BlockCoordinate(every=3)
    model = compiled(mlp(), "adam")
    with pytest.warns(UserWarning, match="ran out of data"):
        model.fit(dataset, steps_per_epoch=3, epochs=4, verbose=0, callbacks=[schedule])
    twin = compiled(mlp(), "adam")
    with pytest.warns(UserWarning, match="ran out of data"):
        twin.fit(dataset, steps_per_epoch=3, epochs=4, verbose=0)
    assert int(model.optimizer.iterations) == int(twin.optimizer.iterations)
    assert int(schedule.visits["steps"].sum()) == int(twin.optimizer.iterations)
