"""What Keras does not save with a model, and exact resume needs."""

import json
import os
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend, calling, internals
from layerwise.training.history import History
from layerwise.training.position import Position

REMEDY = "Delete the backup to start afresh, or use the schedule and model that wrote it."


class Checkpoint:
    """Saves and loads a session beside the model's weights: position, history, memory, heads, step counts, seeds.

    Args:
        session: The `Session`.
    """

    def __init__(self, session: Any):
        self.session = session

    def save(self, store: Any) -> None:
        """Writes into a store of arrays."""
        session, progress = self.session, self.session.progress
        store["fingerprint"] = _as_array(self._fingerprint())
        store["position"] = np.array(
            progress.position.state(session.epochs_left_out() or 0), "int64"
        )
        for name, value in progress.history.state().items():
            store[f"history_{name}"] = value
        for name, value in progress.averages.state().items():
            store[name] = value
        store["memory_names"] = _as_array(json.dumps(list(progress.memory)))
        for i, value in enumerate(progress.memory.values()):
            store[f"memory_{i}"] = np.asarray(value)
        generators = backend.generator_state()
        store["generators"] = np.array([len(generators)])
        for i, state in enumerate(generators):
            store[f"generator_{i}"] = state
        for i, variable in enumerate(self._variables()):
            store[f"variable_{i}"] = backend.to_numpy(variable)

    def load(self, store: Any) -> None:
        """Reads what `save` wrote.

        Outside of a `fit`, as after one that was interrupted, users load whatever weights they like: then what another
        schedule wrote, or none, is left alone. Once the first epoch has begun, weights that a callback loads are no resume:
        heads, step counts, seeds and averages belong to them, and the position goes on.

        Raises:
            ValueError: Another schedule or model wrote it.
        """
        try:
            self._check(store, "The weights that are being loaded")
        except ValueError:
            if calling.callback_list() is None:
                return
            raise
        averages = self.session.progress.averages
        averages.set_state({name: np.array(store[name]) for name in averages.state()})
        for i, variable in enumerate(self._variables()):
            variable.assign(np.array(store[f"variable_{i}"]))
        if self.session.block_model.optimizer is not None:
            self.session.block_model.optimizer.restored()
        if not self.session.has_begun:
            self._resume(store)

    def _resume(self, store):
        """Goes on where a training was that ended."""
        progress = self.session.progress
        progress.position = Position.from_state(np.array(store["position"]).tolist())
        names = History().state()
        progress.history = History.from_state({n: np.array(store[f"history_{n}"]) for n in names})
        names = json.loads(_as_text(store["memory_names"]))
        progress.memory.clear()
        progress.memory.update({n: np.array(store[f"memory_{i}"]) for i, n in enumerate(names)})
        count = int(np.array(store["generators"])[0])
        backend.set_generator_state([np.array(store[f"generator_{i}"]) for i in range(count)])
        if progress.position.total is not None:
            self.session.schedule.prepare(progress.position.total)

    def check_backups(self, callbacks: Any) -> None:
        """Looks into a backup before BackupAndRestore loads it: a wrong one must not be half-loaded.

        One that cannot be read is left to BackupAndRestore, which may have an older one.
        """
        import h5py

        for callback in callbacks.callbacks if callbacks is not None else ():
            if not isinstance(callback, keras.callbacks.BackupAndRestore):
                continue
            for path in (internals.backup_path(callback), internals.previous_backup_path(callback)):
                if not os.path.exists(path):
                    continue
                try:
                    file = h5py.File(path, "r")
                except OSError:
                    continue  # corrupted: the one before it is looked at
                with file:
                    store = file.get("_layerwise/vars", {})
                    self._check(store, f"The weights in the backup {str(callback.backup_dir)!r}")
                break

    def _variables(self):
        """Our own variables and the state of random layers, which Keras does not save."""
        model, block_model = self.session.model, self.session.block_model
        weights = {id(v) for v in model.non_trainable_weights}
        seeds = [v for v in model.non_trainable_variables if id(v) not in weights]
        heads = [v for head in block_model.heads.values() for v in head.variables]
        own = block_model.optimizer.own_variables() if block_model.optimizer else []
        return seeds + heads + own

    def _fingerprint(self):
        config = {
            "schedule": type(self.session.schedule).__name__,
            "arguments": self.session.schedule.arguments(),
            # Not their names: Keras counts up those that it makes itself.
            "parameters of the blocks": [b.parameters for b in self.session.block_model.blocks],
        }
        return json.dumps(config, default=lambda f: getattr(f, "__qualname__", type(f).__name__))

    def _check(self, store, what):
        if "fingerprint" not in store:
            raise ValueError(f"{what} were not written under a layerwise schedule. {REMEDY}")
        found = _as_text(store["fingerprint"])
        if found != self._fingerprint():
            raise ValueError(
                f"{what} were written under another schedule or partition: {found}; this one is {self._fingerprint()}. "
                f"{REMEDY}"
            )
        for i, variable in enumerate(self._variables()):
            shape = tuple(store[f"variable_{i}"].shape) if f"variable_{i}" in store else None
            if shape != tuple(variable.shape):
                raise ValueError(
                    f"{what} do not fit: {variable.path} has shape {tuple(variable.shape)}, the saved one {shape}. {REMEDY}"
                )


def _as_array(text):
    return np.frombuffer(text.encode(), "uint8")


def _as_text(array):
    return bytes(np.array(array)).decode()
