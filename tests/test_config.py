"""Every schedule is its config, and trains the same after a round trip."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest

import layerwise
from tests import conformance
from tests.helpers import CLASSES, compiled, met, mlp, pooled, same_bits, values, vectors


@keras.saving.register_keras_serializable("tests")
def inside_out(sweep, n, rng):
    """An order that users might write."""
    return sorted(range(n), key=lambda k: abs(k - n // 2))


@keras.saving.register_keras_serializable("tests")
def wide_head(features):
    """A head that users might write."""
    return keras.layers.Dense(CLASSES)(keras.layers.Dense(9, "relu")(features))


# Beside those of the conformance list: every argument away from its default, in every form that it takes.
SCHEDULES = [
    layerwise.BlockCoordinate(
        blocks=2, order="random", every=3, state="drop", always=["block_2"], seed=7
    ),
    layerwise.BlockCoordinate(
        blocks=[["block_0", "block_2"], ["block_[13]"]], order="reverse", sweep_each_batch=True
    ),
    layerwise.BlockCoordinate(blocks="layer", every="epoch", state="reset", always=(0,)),
    layerwise.BlockCoordinate(order=inside_out),
    layerwise.GreedyLayerwise(epochs_per_block=[1, 1, 1, 1], head="mlp", seed=3),
    layerwise.GreedyLayerwise(blocks=2, epochs_per_block=1, finetune_epochs=2),
    layerwise.GreedyLayerwise(head=wide_head),
]


def trained(schedule):
    model = pooled(mlp, keras.optimizers.Adam)
    model.fit(*vectors(40), batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[schedule])
    return values(model.weights)


def round_trip(schedule):
    """Check that a schedule and its config say the same, and return one that was stored as JSON and read again."""
    config = schedule.get_config()
    json.dumps(config)
    again = type(schedule).from_config(config)
    assert type(again) is type(schedule)
    assert again.get_config() == config
    stored = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    restored = keras.saving.deserialize_keras_object(stored)
    assert type(restored) is type(schedule)
    assert restored.get_config() == config
    return restored


@conformance.every_schedule()
def test_every_schedule_round_trips(case):
    run, schedule = conformance.whole(case), case.make()
    assert round_trip(schedule).get_config() == schedule.get_config()
    assert run.schedule.get_config() == schedule.get_config(), (
        "training does not change what was asked for"
    )
    # What a schedule does is a function of its arguments.
    restored = met(round_trip(run.schedule), conformance.model_for(case, twin=True))
    restored.prepare(case.epochs)
    restored.memory.update(run.schedule.memory)  # and of what it saw, if it looks
    position = [
        (step // conformance.BATCHES, step) for step in range(case.epochs * conformance.BATCHES)
    ]
    assert all(restored.updates(*at) == run.schedule.updates(*at) for at in position)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=range(len(SCHEDULES)))
def test_round_trips(schedule):
    round_trip(schedule)


@pytest.mark.parametrize("schedule", [SCHEDULES[0], SCHEDULES[-1]], ids=["blocks", "own head"])
def test_trains_the_same_after_a_round_trip(schedule):
    assert same_bits(trained(schedule), trained(round_trip(schedule)))


def test_repr_is_what_one_would_write():
    schedule = layerwise.BlockCoordinate(order="reverse", every=5, always=["block_3"])
    assert repr(schedule).startswith("BlockCoordinate(")
    for part in ("order='reverse'", "every=5", "block_3"):
        assert part in repr(schedule)
    assert repr(eval(repr(schedule), vars(layerwise))) == repr(schedule)
    assert repr(layerwise.Simultaneous()) == "Simultaneous()"
    assert "inside_out" in repr(layerwise.BlockCoordinate(order=inside_out))


def test_the_config_does_not_share_what_is_mutable():
    blocks, epochs = [["block_0", "block_1"], ["block_2", "block_3"]], [2, 2]
    schedule = layerwise.GreedyLayerwise(blocks=blocks, epochs_per_block=epochs)
    config = schedule.get_config()
    blocks[0].append("another")
    epochs.append(3)
    config["blocks"][0].append("another")
    config["epochs_per_block"].append(3)
    assert schedule.get_config()["blocks"] == [["block_0", "block_1"], ["block_2", "block_3"]]
    assert schedule.get_config()["epochs_per_block"] == [2, 2]


def test_own_schedules_need_one_method_and_round_trip():
    @keras.saving.register_keras_serializable("tests")
    class LastBlock(layerwise.Schedule):
        def updates(self, epoch, step):
            return (layerwise.Update(blocks=(len(self.blocks) - 1,)),)

    schedule = LastBlock(blocks=2, state="reset", seed=3)
    again = LastBlock.from_config(schedule.get_config())
    start = values(mlp().weights)
    end = trained(again)
    assert again.get_config() == schedule.get_config()
    assert same_bits(start[:2], end[:2])
    assert not same_bits(start[-2:], end[-2:])


def test_one_schedule_for_several_models():
    schedule = layerwise.BlockCoordinate(every=3)

    def end(schedule):
        model = compiled(mlp(depth=2), "adam")
        model.fit(*vectors(40), batch_size=8, shuffle=False, verbose=0, callbacks=[schedule])
        return values(model.weights)

    first, second, third = end(schedule), end(schedule), end(layerwise.BlockCoordinate(every=3))
    assert same_bits(first, third)
    assert same_bits(second, third), "with another model it starts afresh"


def test_numbers_of_numpy_are_numbers(tmp_path):
    x, y = vectors(8)
    file = str(tmp_path / "{epoch}.weights.h5")
    for one, other in [
        (layerwise.BlockCoordinate(seed=np.int64(1)), layerwise.BlockCoordinate(seed=np.int64(2))),
        (
            layerwise.Simultaneous(rates={np.int64(0): np.float32(0.5)}),
            layerwise.Simultaneous(rates={np.int64(0): np.float32(0.25)}),
        ),
    ]:
        assert json.dumps(one.get_config()) != json.dumps(other.get_config())
        saving = keras.callbacks.ModelCheckpoint(file, save_weights_only=True)
        compiled(mlp()).fit(x, y, verbose=0, callbacks=[one, saving])  # which writes the arguments
        backup = keras.callbacks.BackupAndRestore(
            tmp_path / type(one).__name__, delete_checkpoint=False
        )
        compiled(mlp()).fit(x, y, verbose=0, callbacks=[one, backup])
        with pytest.raises(ValueError, match="written under another schedule"):
            compiled(mlp()).fit(x, y, epochs=2, verbose=0, callbacks=[other, backup])


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda schedule: pickle.loads(pickle.dumps(schedule))]
)
def test_copies_and_pickles_have_the_same_arguments(copied):
    for schedule in [*SCHEDULES, layerwise.Simultaneous(rates={"block_0": 0.5})]:
        assert copied(schedule).get_config() == schedule.get_config()
        assert type(copied(schedule)) is type(schedule)
    schedule = layerwise.BlockCoordinate(order="shuffled", every=2)
    weights = trained(schedule)
    assert same_bits(trained(copied(schedule)), weights)
    assert len(copied(schedule).visits) == 0
