"""A run that is killed and started again ends where one that was not ends, bit for bit."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import layerwise
from tests import conformance
from tests.helpers import (
    AtBatch,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    state_of,
    values,
    vectors,
)
from tests.killed import SCENARIOS, train

ROOT = Path(__file__).parent.parent


@conformance.every_schedule()
def test_resumed_equals_uninterrupted(case, tmp_path):
    whole = conformance.whole(case)
    _, folder, epoch = conformance.cut_off(case)
    # BackupAndRestore deletes what it has no more need of. The callbacks come in the other order than before.
    folder = shutil.copytree(folder, tmp_path / "backup")
    model, schedule = conformance.model_for(case, twin=True), case.make()
    callbacks = [keras.callbacks.BackupAndRestore(folder), schedule]
    callbacks = callbacks if conformance.schedule_first(case) else callbacks[::-1]
    history = conformance.fitted(model, *callbacks, epochs=case.epochs)
    model.make_train_function()  # dropped slots that never had memory get it before another training
    assert same_bits(values(model.variables), whole.variables)
    assert same_bits(values(model.optimizer.variables), whole.slots)
    assert same_bits(conformance.head_values(schedule), whole.heads)
    assert schedule.visits.equals(whole.visits)
    assert history == {name: column[epoch:] for name, column in whole.history.items()}


@pytest.mark.slow
def test_a_greedy_run_goes_on_from_each_stage(tmp_path):
    """From the start of a stage, from the last one and from fine-tuning, with what a kill there would have left."""

    def run(folder, *callbacks, twin=False):
        model = pooled(normalized_mlp, keras.optimizers.Adam, twin)
        schedule = layerwise.GreedyLayerwise(head="mlp", epochs_per_block=1, finetune_epochs=1)
        callbacks = [schedule, keras.callbacks.BackupAndRestore(folder), *callbacks]
        history = conformance.fitted(model, *callbacks, epochs=5)
        state = values([*model.variables, *model.optimizer.variables])
        return state + conformance.head_values(schedule), schedule.visits, history

    def left(epoch):
        return functools.partial(shutil.copytree, tmp_path / "backup", tmp_path / str(epoch))

    epochs = (1, 3, 4)
    copies = [AtBatch(epoch, 1, left(epoch)) for epoch in epochs]
    state, visits, history = run(tmp_path / "backup", *copies)
    for epoch in epochs:
        found = run(tmp_path / str(epoch), twin=True)
        assert same_bits(found[0], state)
        assert found[1].equals(visits)
        assert found[2] == {name: column[epoch:] for name, column in history.items()}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Kill the scenarios, each in a process of its own; return the folder of what is left of them."""
    folder = tmp_path_factory.mktemp("killed")
    result = subprocess.run(
        [sys.executable, "-m", "tests.killed", str(folder)],
        cwd=ROOT,
        # torch looks for a GPU without starting CUDA, which a fork cannot use after that.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"},
        capture_output=True,
        text=True,
        timeout=550,
    )
    expected = [f"{name}: killed" for name in SCENARIOS]
    assert result.stdout.splitlines() == expected, result.stdout + result.stderr
    return folder


@pytest.mark.thorough
@pytest.mark.parametrize("name", SCENARIOS)
def test_resumed_after_a_kill_equals_uninterrupted(killed, name):
    weights, slots, heads, visits, history = train(name)
    found = train(name, killed, schedule_first=False)
    assert same_bits(found[0], weights)
    assert same_bits(found[1], slots)
    assert same_bits(found[2], heads)
    assert found[3].equals(visits)
    epoch_killed = SCENARIOS[name][2][0]
    assert found[4] == {key: value[epoch_killed:] for key, value in history.items()}


def stop_here():
    """Faster than a kill, and on_train_end does not run either."""
    raise InterruptedError


def fitted(
    schedule, folder=None, build=mlp, epochs=4, stop=None, first=True, together=1, twin=False
):
    """Train on five batches an epoch, so many of them in one execution, and return the model's weights.

    A `twin` is another model than the one of calls without: the one that goes on where that one was interrupted.
    """
    model = pooled(build, keras.optimizers.Adam, twin, steps_per_execution=together)
    callbacks = [] if schedule is None else [schedule]
    if folder is not None:
        callbacks.insert(first, keras.callbacks.BackupAndRestore(folder))
    callbacks += [AtBatch(*stop, stop_here)] if stop else []
    x, y = vectors(40)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    try:
        model.fit(x, y, epochs=epochs, callbacks=callbacks, **arguments)
    except InterruptedError:
        assert stop
    else:
        assert not stop
    return values(model.weights)


@pytest.mark.thorough
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch runs batch by batch")
@pytest.mark.parametrize("state", ["keep", "reset", "drop"])
def test_interrupted_between_executions_of_several_batches(state, tmp_path):
    def make():
        return layerwise.BlockCoordinate(order="shuffled", every=3, state=state)

    # Two executions of two batches and one of one: the second ends with batch 3.
    fitted(make(), tmp_path / "backup", stop=(2, 3), together=2)
    resumed = fitted(make(), tmp_path / "backup", together=2, twin=True)
    assert same_bits(resumed, fitted(make(), together=2))


def test_interrupted_twice(tmp_path):
    def make():
        return layerwise.BlockCoordinate(order="random", every=2, state="reset")

    for stop, twin in (((1, 3), False), ((2, 0), True), (None, False)):
        resumed = fitted(make(), tmp_path / "backup", stop=stop, twin=twin)
    assert same_bits(resumed, fitted(make(), twin=True))


def three_layers():
    return mlp(depth=3)


# Two epochs a stage: stopped in the first of the second stage and of the third.
@pytest.mark.parametrize("stop", [(2, 2), pytest.param((4, 2), marks=pytest.mark.slow)])
def test_resuming_when_early_stopping_has_ended_a_stage(stop, tmp_path):
    def run(folder, stop, twin=False):
        schedule = layerwise.GreedyLayerwise(epochs_per_block=5)
        stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
        callbacks = [schedule, stopping]
        if folder is not None:
            callbacks.append(keras.callbacks.BackupAndRestore(folder))
        callbacks += [AtBatch(*stop, stop_here)] if stop else []
        model = pooled(three_layers, keras.optimizers.Adam, twin)
        try:
            x, y = vectors(40)
            model.fit(x, y, batch_size=8, epochs=15, shuffle=False, verbose=0, callbacks=callbacks)
        except InterruptedError:
            assert stop
        return values(model.weights), schedule

    run(tmp_path / "backup", stop)
    resumed, schedule = run(tmp_path / "backup", None, twin=True)
    whole, uninterrupted = run(None, None)
    assert same_bits(resumed, whole)
    assert schedule.visits.equals(uninterrupted.visits)


@pytest.fixture(scope="module")
def backups(tmp_path_factory):
    """Return a function that gives the folder of a backup written under a schedule, training it once."""

    @functools.cache
    def written(make):
        folder = tmp_path_factory.mktemp("backups") / "backup"
        fitted(make(), folder, stop=(1, 1))
        return folder

    return lambda make, tmp_path: shutil.copytree(written(make), tmp_path / "backup")


def three():
    return layerwise.BlockCoordinate(every=3)


def greedy():
    return layerwise.GreedyLayerwise(epochs_per_block=1)


def nothing():
    return None


@pytest.mark.parametrize(
    ("written", "read", "first"),
    [
        (three, lambda: layerwise.BlockCoordinate(every=2), True),
        (three, lambda: layerwise.BlockCoordinate(every=3, blocks=2), False),
        (three, greedy, True),
        (greedy, lambda: layerwise.GreedyLayerwise(epochs_per_block=1, head="mlp"), False),
        (greedy, three, False),
        (nothing, three, True),
        (nothing, three, False),
        (nothing, greedy, False),
    ],
)
def test_a_backup_that_does_not_fit_raises_and_is_not_half_loaded(
    backups, written, read, first, tmp_path
):
    folder = backups(written, tmp_path)
    model = pooled(mlp, keras.optimizers.Adam)
    start = state_of(model)
    callbacks = [read()]
    callbacks.insert(first, keras.callbacks.BackupAndRestore(folder))
    x, y = vectors(40)
    with pytest.raises(ValueError, match=r"(?i)backup"):
        model.fit(x, y, epochs=4, verbose=0, callbacks=callbacks)
    assert same_bits(start, state_of(model))
    assert (folder / "latest.weights.h5").exists(), "the backup is still there for who wrote it"


def test_a_backup_of_another_model_raises(backups, tmp_path):
    with pytest.raises(ValueError, match=r"(?i)backup|weights"):
        fitted(three(), backups(three, tmp_path), build=three_layers)


@conformance.every_schedule(lambda case: case.name == "cyclic")
def test_stock_fit_reads_a_schedules_backup(case):
    _, folder, epoch = conformance.cut_off(case)
    weights, slots = conformance.whole(case).epochs[epoch - 1]
    model = conformance.new_model()
    model.optimizer.build(model.trainable_variables)
    model.load_weights(folder / "latest.weights.h5")
    assert same_bits(values(model.weights), weights)
    assert same_bits(values(model.optimizer.variables), slots)


def test_weights_that_a_callback_loads_in_the_middle_are_no_resume(tmp_path):
    path = str(tmp_path / "first.weights.h5")

    class RollBack(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                self.model.load_weights(path)

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                self.model.save_weights(path)

    model, schedule = pooled(mlp, keras.optimizers.Adam), layerwise.BlockCoordinate(every="epoch")
    x, y = vectors(16)
    model.fit(x, y, epochs=5, verbose=0, callbacks=[schedule, RollBack()])
    assert schedule.visits["epoch"].tolist() == [0, 1, 2, 3, 4]
