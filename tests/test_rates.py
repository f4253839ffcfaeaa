"""Learning-rate factors by block: inputs of the programs, so that nothing compiles anew."""

import keras
import numpy as np
import pytest

import layerwise
from examples.freeze_out import FreezeOut
from tests.helpers import Snapshots, compiled, mlp, mostly_thorough, same_bits, values, vectors

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.3),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "cosine": lambda: keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, 8)),
}


def trained(schedule, optimizer, epochs=2, **arguments):
    """Return weights, slots and history after two epochs of five batches."""
    model = compiled(mlp(), optimizer, **arguments)
    callbacks = [] if schedule is None else [schedule]
    x, y = vectors(40)
    fit = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, callbacks=callbacks, **fit).history
    return values(model.weights), values(model.optimizer.variables), history


@pytest.mark.parametrize("name", mostly_thorough(OPTIMIZERS, fast=("adamw", "cosine")))
def test_factors_of_one_are_stock_bit_for_bit(name):
    ones = layerwise.Simultaneous(rates={0: 1, "block_3": 1.0})
    found, stock = trained(ones, OPTIMIZERS[name]()), trained(None, OPTIMIZERS[name]())
    assert same_bits(found[0], stock[0])
    assert same_bits(found[1], stock[1])
    assert found[2] == stock[2]


@pytest.mark.thorough
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_callables_that_return_one_are_stock_to_rounding(name):
    ones = layerwise.Simultaneous(rates={0: 1, "block_3": lambda epoch, step: 1.0})
    found, stock = trained(ones, OPTIMIZERS[name]()), trained(None, OPTIMIZERS[name]())
    for left, right in zip(found[0], stock[0], strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "momentum"])
def test_a_factor_for_all_is_another_learning_rate(name):
    config = OPTIMIZERS[name]().get_config()
    twin = keras.optimizers.SGD.from_config(config | {"learning_rate": 0.1 * 0.5})
    halves = layerwise.Simultaneous(rates=dict.fromkeys(range(4), 0.5))
    found, expected = trained(halves, OPTIMIZERS[name]())[0], trained(None, twin)[0]
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


def test_weight_decay_follows_the_blocks_rate():
    # With a gradient of zero only the decay moves a weight: w - w * decay * rate * factor, per step.
    model = keras.Sequential(
        [keras.Input((2,)), *(keras.layers.Dense(2, use_bias=False, name=n) for n in "ab")]
    )
    optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
    model.compile(optimizer, keras.losses.MeanSquaredError())
    before = values(model.weights)
    zeros = np.zeros((8, 2), "float32")
    rates = layerwise.Simultaneous(rates={"a": 0.25})
    model.fit(zeros, zeros, batch_size=8, verbose=0, callbacks=[rates])
    a, b = values(model.weights)
    np.testing.assert_allclose(a, before[0] * (1 - 0.5 * 0.1 * 0.25), rtol=1e-6)
    np.testing.assert_allclose(b, before[1] * (1 - 0.5 * 0.1), rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a_factor_of_zero_keeps_every_bit(name):
    model, snapshots = compiled(mlp(), OPTIMIZERS[name]()), Snapshots()
    schedule = layerwise.Simultaneous(rates={1: 0.0, 2: lambda epoch, step: float(step != 3)})
    model.fit(*vectors(40), batch_size=8, verbose=0, callbacks=[schedule, snapshots], shuffle=False)
    assert snapshots.moved() == [(0, 2, 3)] * 3 + [(0, 3)] + [(0, 2, 3)]


def test_no_value_compiles_anew():
    if keras.backend.backend() == "torch":
        pytest.skip("torch compiles nothing")
    schedule = layerwise.BlockCoordinate(
        rates={k: lambda epoch, step: 1 / (1 + step) for k in range(4)}, sweep_each_batch=True
    )
    trained(schedule, OPTIMIZERS["adamw"](), epochs=4)
    assert list(schedule.traces.values()) == [1] * 4


def test_a_schedule_of_its_own_rates_falls_to_zero_block_by_block():
    model, snapshots = compiled(mlp(), keras.optimizers.SGD(0.1)), Snapshots()
    schedule = FreezeOut(steps=15)
    x, y = vectors(40)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0, callbacks=[schedule, snapshots])
    ends = [15 * (0.8 + 0.2 * (i + 1) / 4) ** 3 for i in range(4)]
    expected = [tuple(i for i in range(4) if step < ends[i]) for step in range(15)]
    assert snapshots.moved() == expected
    assert len(set(expected)) > 2


def test_rates_round_trip_and_are_part_of_the_config():
    schedule = layerwise.BlockCoordinate(rates={"block_0": 0.5, 2: 2})
    config = schedule.get_config()
    again = layerwise.BlockCoordinate.from_config(config)
    assert again.rates == {"block_0": 0.5, 2: 2}
    assert again.get_config() == config
    assert layerwise.BlockCoordinate(rates={"block_0": 0.4}).get_config() != config
    assert repr(schedule) == "BlockCoordinate(rates={'block_0': 0.5, 2: 2})"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layerwise.Simultaneous(rates=0.5), "must be a dict"),
        (lambda: layerwise.Simultaneous(rates={"block_0": -1}), "at least 0, got -1"),
        (lambda: layerwise.BlockCoordinate(rates={"block_0": "much"}), "got 'much'"),
        (lambda: layerwise.Simultaneous(blocks=2), "give rates="),
    ],
)
def test_bad_rates(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"block_9": 0.5}, "Did you mean"),
        ({"block_0": 0.5, 0: 0.5}, "twice"),
        ({0: lambda epoch, step: float("nan")}, "got nan for block 'block_0'"),
    ],
)
def test_bad_rates_are_said_before_anything_moves(rates, message):
    model = compiled(mlp(), "adam")
    before = values(model.weights)
    with pytest.raises(ValueError, match=message):
        model.fit(*vectors(8), verbose=0, callbacks=[layerwise.Simultaneous(rates=rates)])
    assert same_bits(before, values(model.weights))


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="one step per execution there")
def test_a_batch_that_goes_alone_after_an_execution_has_its_own_factor():
    def weights(steps_per_execution):
        def rate(epoch, step):
            return (1.0, 0.5, 0.5)[step % 3]

        model = compiled(mlp(), keras.optimizers.SGD(0.1), steps_per_execution=steps_per_execution)
        names = (block.name for block in layerwise.partition(model, 2))
        schedule = layerwise.BlockCoordinate(blocks=2, rates=dict.fromkeys(names, rate))
        x, y = vectors(24)
        model.fit(x, y, batch_size=8, shuffle=False, verbose=0, callbacks=[schedule])
        return values(model.weights)

    for one, other in zip(weights(1), weights(2), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
