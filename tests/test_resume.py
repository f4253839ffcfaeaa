"""A run that is killed and started again ends where one that was not ends, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import layerwise
from tests.helpers import AtBatch, compiled, mlp, normalized_mlp, same_bits, values, vectors
from tests.killed import SCENARIOS, train

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Kill every scenario in a process of its own; return the folder of what is left of them."""
    folder = tmp_path_factory.mktemp("killed")
    result = subprocess.run(
        [sys.executable, "-m", "tests.killed", str(folder)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=550,
    )
    expected = [f"{name}: killed" for name in SCENARIOS]
    assert result.stdout.splitlines() == expected, result.stdout + result.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_resumed_equals_uninterrupted(killed, name):
    weights, slots, heads, visits, history = train(name)
    # The other order of the two callbacks than the one it was killed under.
    schedule_first = list(SCENARIOS).index(name) % 2 == 1
    found = train(name, killed, schedule_first=schedule_first)
    assert same_bits(found[0], weights)
    assert same_bits(found[1], slots)
    assert same_bits(found[2], heads)
    assert found[3].equals(visits)
    epoch_killed = SCENARIOS[name][2][0]
    assert found[4] == {key: value[epoch_killed:] for key, value in history.items()}


def stop_here():
    """Faster than a kill, and on_train_end does not run either."""
    raise InterruptedError


def fitted(schedule, folder=None, build=mlp, epochs=4, stop=None, first=True, **arguments):
    """Train on five batches an epoch and return the model."""
    model = compiled(build(), "adam")
    callbacks = [] if schedule is None else [schedule]
    if folder is not None:
        callbacks.insert(first, keras.callbacks.BackupAndRestore(folder))
    callbacks += [AtBatch(*stop, stop_here)] if stop else []
    x, y = vectors(40)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0, **arguments}
    try:
        model.fit(x, y, epochs=epochs, callbacks=callbacks, **arguments)
    except InterruptedError:
        assert stop
    return model


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("make", "stop"),
    [
        (lambda: layerwise.BlockCoordinate(order="shuffled", every=3), (2, 1)),
        (lambda: layerwise.BlockCoordinate(every=3, state="drop"), (1, 2)),
        (lambda: layerwise.GreedyLayerwise(), (2, 2)),
    ],
    ids=["shuffled", "drop", "greedy"],
)
def test_resumed_after_an_error(make, stop, first, tmp_path):
    fitted(make(), tmp_path / "backup", stop=stop, first=first)
    resumed = fitted(make(), tmp_path / "backup", first=first)
    whole = fitted(make())
    assert same_bits(values(resumed.weights), values(whole.weights))
    assert same_bits(values(resumed.optimizer.variables), values(whole.optimizer.variables))


def test_interrupted_twice(tmp_path):
    def make():
        return layerwise.BlockCoordinate(order="random", every=2, state="reset")

    for stop in ((1, 3), (2, 0), None):
        resumed = fitted(make(), tmp_path / "backup", stop=stop)
    assert same_bits(values(resumed.weights), values(fitted(make()).weights))


# Two epochs a stage: stopped in the first of the second stage and of the third.
@pytest.mark.parametrize("stop", [(2, 2), pytest.param((4, 2), marks=pytest.mark.slow)])
def test_resuming_when_early_stopping_has_ended_a_stage(stop, tmp_path):
    def run(folder, stop):
        schedule = layerwise.GreedyLayerwise(epochs_per_block=5)
        stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
        callbacks = [schedule, stopping]
        if folder is not None:
            callbacks.append(keras.callbacks.BackupAndRestore(folder))
        callbacks += [AtBatch(*stop, stop_here)] if stop else []
        model = compiled(mlp(depth=3), "adam")
        try:
            x, y = vectors(40)
            model.fit(x, y, batch_size=8, epochs=15, shuffle=False, verbose=0, callbacks=callbacks)
        except InterruptedError:
            assert stop
        return model, schedule

    run(tmp_path / "backup", stop)
    resumed, schedule = run(tmp_path / "backup", None)
    whole, uninterrupted = run(None, None)
    assert same_bits(values(resumed.weights), values(whole.weights))
    assert schedule.visits.equals(uninterrupted.visits)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        (lambda: layerwise.BlockCoordinate(every=3), lambda: layerwise.BlockCoordinate(every=2)),
        (lambda: layerwise.BlockCoordinate(), lambda: layerwise.BlockCoordinate(blocks=2)),
        (lambda: layerwise.BlockCoordinate(), lambda: layerwise.GreedyLayerwise()),
        (lambda: layerwise.GreedyLayerwise(), lambda: layerwise.GreedyLayerwise(head="mlp")),
        (lambda: layerwise.GreedyLayerwise(), lambda: layerwise.BlockCoordinate()),
        (lambda: None, lambda: layerwise.BlockCoordinate()),
        (lambda: None, lambda: layerwise.GreedyLayerwise()),
    ],
)
def test_a_backup_that_does_not_fit_raises_and_is_not_half_loaded(written, read, first, tmp_path):
    folder = tmp_path / "backup"
    fitted(written(), folder, stop=(2, 1))
    model = compiled(mlp(), "adam")
    model.optimizer.build(model.trainable_variables)
    start, slots = values(model.variables), values(model.optimizer.variables)
    callbacks = [read()]
    callbacks.insert(first, keras.callbacks.BackupAndRestore(folder))
    x, y = vectors(40)
    with pytest.raises(ValueError, match=r"(?i)backup"):
        model.fit(x, y, epochs=4, verbose=0, callbacks=callbacks)
    assert same_bits(start, values(model.variables))
    assert same_bits(slots, values(model.optimizer.variables))
    assert (folder / "latest.weights.h5").exists(), "the backup is still there for who wrote it"


def test_a_backup_of_another_model_raises(tmp_path):
    fitted(layerwise.BlockCoordinate(), tmp_path / "backup", stop=(2, 1))
    with pytest.raises(ValueError, match=r"(?i)backup|weights"):
        fitted(layerwise.BlockCoordinate(), tmp_path / "backup", build=lambda: mlp(depth=3))


def test_stock_fit_reads_a_schedules_backup(tmp_path):
    fitted(layerwise.BlockCoordinate(), tmp_path / "backup", stop=(2, 1))
    two = fitted(layerwise.BlockCoordinate(), epochs=2)
    model = compiled(mlp(), "adam")
    model.optimizer.build(model.trainable_variables)
    model.load_weights(tmp_path / "backup" / "latest.weights.h5")
    assert same_bits(values(model.weights), values(two.weights))
    assert same_bits(values(model.optimizer.variables), values(two.optimizer.variables))


def test_dropout_goes_on_where_it_was(tmp_path):
    def build():
        return normalized_mlp(depth=3, dropout=0.4)

    def make():
        return layerwise.BlockCoordinate(every=2)

    fitted(make(), tmp_path / "backup", build=build, stop=(2, 1))
    resumed = fitted(make(), tmp_path / "backup", build=build)
    whole = fitted(make(), build=build)
    assert same_bits(values(resumed.variables), values(whole.variables))
