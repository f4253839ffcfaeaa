"""Callbacks that follow the best value of a metric: those of stages with different losses cannot be compared."""

from typing import Any

import keras


class Monitors:
    """The callbacks of a fit that follow the best value of a metric.

    Args:
        callbacks: The `CallbackList` of the fit, or None.
        end_epoch: Called when all callbacks have seen the end of an epoch.
    """

    def __init__(self, callbacks: Any, end_epoch: Any):
        self._callbacks = callbacks
        self._stage: tuple | None = None
        monitored = callbacks.callbacks if callbacks is not None else []
        self._best = {
            id(c): c.best for c in monitored if isinstance(c, keras.callbacks.ModelCheckpoint)
        }
        self._tail = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: end_epoch())
        self._tail.async_safe = True
        if callbacks is not None:
            callbacks.callbacks.append(self._tail)  # its turn comes when all others have had theirs

    def begin_epoch(self, update: Any) -> None:
        """Lets the monitors start afresh where an epoch begins with other losses than the one before."""
        stage = update.losses, update.frozen_below
        if self._stage is not None and stage != self._stage:
            for callback in self._callbacks.callbacks:
                if isinstance(callback, keras.callbacks.EarlyStopping):
                    callback.on_train_end()  # restores the stage's best weights where it was asked to
                    callback.on_train_begin()
                elif isinstance(callback, keras.callbacks.ReduceLROnPlateau):
                    callback.on_train_begin()
                elif isinstance(callback, keras.callbacks.ModelCheckpoint):
                    callback.best = self._best[id(callback)]
        self._stage = stage

    def stopped(self, keras_epoch: int) -> bool:
        """Whether an EarlyStopping ended something at this epoch of Keras' counting."""
        monitored = self._callbacks.callbacks if self._callbacks is not None else []
        early = [c for c in monitored if isinstance(c, keras.callbacks.EarlyStopping)]
        return any(c.stopped_epoch == keras_epoch and c.wait >= c.patience for c in early)

    def leave(self) -> None:
        """The callbacks of the fit are the user's again."""
        if self._callbacks is not None:
            callbacks = self._callbacks.callbacks
            self._callbacks.callbacks = [c for c in callbacks if c is not self._tail]
