"""Trainings that can be killed at a batch and started again: for test_resume.py.

``python -m tests.killed FOLDER`` imports Keras once and then kills each of these scenarios in a fork of its own, by a real
SIGKILL in the middle of an epoch, and leaves the backups in FOLDER.
"""

import os
import signal
import sys
from pathlib import Path

import keras

import layerwise
from tests.helpers import (
    AtBatch,
    compiled,
    normalized_mlp,
    optimize_graphs,
    pooled,
    values,
    vectors,
)

# name: (schedule, epochs, (epoch, batch) to be killed at)
SCENARIOS = {
    "drop": (
        lambda: layerwise.BlockCoordinate(every=7, state="drop", always=["block_2"]),
        5,
        (3, 2),
    ),
    "greedy, second stage": (layerwise.GreedyLayerwise, 6, (3, 2)),
}


def kill_this_process():
    os.kill(os.getpid(), signal.SIGKILL)


def train(name, folder=None, schedule_first=True, kill=False):
    """Train a scenario, from the backup in the folder if there is one.

    Returns:
        Weights, optimizer variables, head weights, visits, and the history of the epochs run here.
    """
    keras.utils.set_random_seed(
        1 if folder is None or kill else 2
    )  # who resumes need not know the seed
    make, epochs, at = SCENARIOS[name]
    model = model_for(name, resumes=folder is not None)
    schedule = make()
    callbacks = [schedule]
    if folder is not None:
        backup = keras.callbacks.BackupAndRestore(Path(folder) / name)
        callbacks.insert(schedule_first, backup)
    callbacks += [AtBatch(*at, kill_this_process)] if kill else []
    x, y = vectors(40)
    arguments = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    history = model.fit(x, y, callbacks=callbacks, **arguments).history
    heads = [value for k in sorted(schedule.heads) for value in values(schedule.heads[k].variables)]
    model.make_train_function()  # dropped slots that never had memory get it before another training
    state = values(model.optimizer.variables)
    return values(model.variables), state, heads, schedule.visits, history


def model_for(name, resumes):
    """Return the model of a scenario: one for runs that are whole, one for those that go on."""
    if name == "drop":  # fit builds its optimizer, with slots that have no memory
        return compiled(net(), optimizer())
    return pooled(net, optimizer, resumes)


def net():
    # On torch, dropout without a seed draws from torch's own generator, whose state the backup must hold.
    return normalized_mlp(depth=2, dropout=0.3, seed=None)


def optimizer():
    decay = keras.optimizers.schedules.CosineDecay(0.02, 40)
    return keras.optimizers.AdamW(decay, weight_decay=0.05, global_clipnorm=0.5)


if __name__ == "__main__":
    optimize_graphs(False)
    for position, scenario in enumerate(SCENARIOS):
        child = os.fork()
        if child == 0:
            train(scenario, sys.argv[1], schedule_first=position % 2 == 0, kill=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        how = (
            "killed"
            if os.WIFSIGNALED(status)
            else f"ended with {os.waitstatus_to_exitcode(status)}"
        )
        print(f"{scenario}: {how}", flush=True)
