"""Callbacks that follow the best value of a metric: those of stages with different losses cannot be compared."""

from typing import Any

import keras


class Monitors:
    """The callbacks of a fit that follow the best value of a metric.

    Args:
        model: The model.
        callbacks: The `CallbackList` of the fit, or None.
        end_epoch: Called when all callbacks have seen the end of an epoch.
        end_fit: Called when all callbacks have seen the end of the fit.
    """

    def __init__(self, model: keras.Model, callbacks: Any, end_epoch: Any, end_fit: Any):
        self._model, self._callbacks = model, callbacks
        self._ended = False  # whether a callback has ended the training in this epoch's batches
        self._stage: tuple | None = None
        monitored = callbacks.callbacks if callbacks is not None else []
        self._best = {
            id(c): c.best for c in monitored if isinstance(c, keras.callbacks.ModelCheckpoint)
        }
        self._tail = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: end_epoch(), on_train_end=lambda logs: end_fit()
        )
        self._head = keras.callbacks.LambdaCallback(on_epoch_end=self._end_batches)
        self._head.async_safe = self._tail.async_safe = True
        if callbacks is not None:
            # First and last of all. A new list: Keras goes through the old one now.
            callbacks.callbacks = [self._head, *callbacks.callbacks, self._tail]

    def begin_epoch(self, update: Any) -> int | None:
        """Lets the monitors start afresh where an epoch begins with other losses than the one before.

        Returns:
            The epoch of Keras' counting to whose end that restored the weights; None: it did not.
        """
        stage, restored = (update.losses, update.frozen_below), None
        if self._stage is not None and stage != self._stage:
            for callback in self._callbacks.callbacks:
                if isinstance(callback, keras.callbacks.EarlyStopping):
                    restored = _restores(callback, restored)
                    callback.on_train_end()  # restores the stage's best weights where it was asked to
                    callback.on_train_begin()
                elif isinstance(callback, keras.callbacks.ReduceLROnPlateau):
                    callback.on_train_begin()
                elif isinstance(callback, keras.callbacks.ModelCheckpoint):
                    callback.best = self._best[id(callback)]
        self._stage = stage
        return restored

    def restored(self, after: Any) -> tuple[int | None, int | None]:
        """The epochs to whose ends weights are restored when the fit ends: by callbacks before a callback, and after it."""
        listed = self._callbacks.callbacks if self._callbacks is not None else []
        place = next((i for i, callback in enumerate(listed) if callback is after), len(listed))
        found: list[int | None] = [None, None]
        for i, callback in enumerate(listed):
            if isinstance(callback, keras.callbacks.EarlyStopping):
                found[i > place] = _restores(callback, found[i > place])
        return found[0], found[1]

    def stopped(self, keras_epoch: int) -> bool:
        """Whether an EarlyStopping ended something at this epoch of Keras' counting, and nobody before it."""
        if self._ended:
            return False
        monitored = self._callbacks.callbacks if self._callbacks is not None else []
        early = [c for c in monitored if isinstance(c, keras.callbacks.EarlyStopping)]
        return any(c.stopped_epoch == keras_epoch and c.wait >= c.patience for c in early)

    def leave(self) -> None:
        """The callbacks of the fit are the user's again."""
        if self._callbacks is not None:
            callbacks = self._callbacks.callbacks
            own = (self._head, self._tail)
            self._callbacks.callbacks = [c for c in callbacks if c not in own]

    def _end_batches(self, epoch, logs):
        """Before any callback hears of the end of an epoch: EarlyStopping has not spoken yet."""
        self._ended = self._model.stop_training


def _restores(early, otherwise):
    """The epoch to whose end an EarlyStopping restores the weights at the end of training."""
    restores = early.restore_best_weights and early.best_weights is not None
    return early.best_epoch if restores else otherwise
