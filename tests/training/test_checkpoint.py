"""What is saved beside the weights: the framework's own generators, and a backup that cannot be read."""

import shutil
from pathlib import Path

import keras
import pytest

import layerwise
from tests.helpers import AtBatch, compiled, mlp, pooled, same_bits, values, vectors


class Stop(Exception):
    pass


def stop_here():
    raise Stop


def dropout_without_a_seed():
    layers = []
    for k in range(2):
        layers += [keras.layers.Dense(8, "tanh", name=f"block_{k}"), keras.layers.Dropout(0.5)]
    return keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3, name="block_2")])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "make", [layerwise.Simultaneous, layerwise.BlockCoordinate, layerwise.GreedyLayerwise]
)
def test_resuming_is_exact_where_dropout_has_no_seed(make, tmp_path):
    def run(folder, stop=None):
        keras.utils.set_random_seed(1)
        # A model of its own: on torch the first fit of a model draws random numbers that a further one does not.
        model = compiled(dropout_without_a_seed(), "adam")
        callbacks = [make()] + ([AtBatch(*stop, stop_here)] if stop else [])
        callbacks += [keras.callbacks.BackupAndRestore(folder)] if folder else []
        try:
            x, y = vectors(40)
            model.fit(x, y, batch_size=8, epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
        except Stop:
            assert stop
        return values(model.weights), values(model.optimizer.variables)

    run(tmp_path / "backup", stop=(3, 2))
    keras.random.uniform((7,))  # another process has drawn something else by now
    resumed, whole = run(tmp_path / "backup"), run(None)
    assert same_bits(resumed[0], whole[0])
    assert same_bits(resumed[1], whole[1])


@pytest.mark.thorough
@pytest.mark.parametrize("make", [layerwise.Simultaneous, layerwise.BlockCoordinate])
def test_a_corrupted_backup_is_replaced_by_the_one_before_it(make, tmp_path):
    def run(folder, stop=None):
        model = pooled(mlp, keras.optimizers.Adam, twin=stop is not None)
        backup = keras.callbacks.BackupAndRestore(folder, double_checkpoint=True)
        callbacks = [make(), backup] + ([AtBatch(*stop, stop_here)] if stop else [])
        try:
            x, y = vectors(40)
            model.fit(x, y, batch_size=8, epochs=5, shuffle=False, verbose=0, callbacks=callbacks)
        except Stop:
            assert stop
        return values(model.weights)

    whole = run(tmp_path / "whole")
    run(tmp_path / "backup", stop=(3, 1))
    newest = tmp_path / "backup" / "latest.weights.h5"
    assert Path(f"{newest}.bkp").exists()
    newest.write_bytes(newest.read_bytes()[:100])
    assert same_bits(run(tmp_path / "backup"), whole)


def test_a_corrupted_backup_alone_is_what_keras_says(tmp_path):
    x, y = vectors(8)
    folder = tmp_path / "backup"
    arguments = {"epochs": 2, "verbose": 0}
    stop = AtBatch(1, 0, stop_here)
    with pytest.raises(Stop):
        callbacks = [layerwise.BlockCoordinate(), keras.callbacks.BackupAndRestore(folder), stop]
        compiled(mlp()).fit(x, y, callbacks=callbacks, **arguments)
    (folder / "latest.weights.h5").write_bytes(b"nothing")
    callbacks = [layerwise.BlockCoordinate(), keras.callbacks.BackupAndRestore(folder)]
    with pytest.raises(OSError):
        compiled(mlp()).fit(x, y, callbacks=callbacks, **arguments)


def test_an_older_backup_of_another_schedule_is_refused_where_the_newest_cannot_be_read(tmp_path):
    x, y = vectors(8)
    folder = tmp_path / "backup"

    def fit(schedule, stop=None):
        backup = keras.callbacks.BackupAndRestore(folder, double_checkpoint=True)
        callbacks = [schedule, backup] + ([AtBatch(*stop, stop_here)] if stop else [])
        compiled(mlp()).fit(x, y, epochs=4, verbose=0, callbacks=callbacks)

    with pytest.raises(Stop):
        fit(layerwise.BlockCoordinate(every=2), stop=(3, 0))
    (folder / "latest.weights.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="written under another schedule"):
        fit(layerwise.BlockCoordinate(every=3))
    shutil.rmtree(folder)


def test_users_load_weights_of_their_own_after_an_interrupted_fit(tmp_path):
    x, y = vectors(8)
    compiled(mlp(seed=3)).save_weights(tmp_path / "mine.weights.h5")
    model = compiled(mlp())
    schedule = layerwise.BlockCoordinate()
    with pytest.raises(Stop):
        model.fit(x, y, verbose=0, callbacks=[schedule, AtBatch(0, 0, stop_here)])
    model.load_weights(tmp_path / "mine.weights.h5")
    assert same_bits(values(model.weights), values(mlp(seed=3).weights))
