"""One schedule in one `fit`: it enters, listens, and leaves.

In `fit`, Keras calls `set_model` of all callbacks, then `make_train_function`, then `on_train_begin`: what a backup
restores must exist by `set_model`, and the dispatcher goes in at `on_train_begin`. An interrupted `fit` never says
goodbye, and one that fails before it begins does not either, so a session comes with a replaced `make_train_function` by
which the next `fit` (or `train_on_batch`) clears it away first.
"""

import weakref
from typing import Any

import keras

from layerwise.backends import backend, calling, internals
from layerwise.training import checks
from layerwise.training.batch import Batches, Substitution
from layerwise.training.block_model import BlockModel
from layerwise.training.checkpoint import Checkpoint
from layerwise.training.monitors import Monitors
from layerwise.training.resident import Resident


class Session:
    """One schedule in one `fit`.

    Args:
        schedule: The schedule.
        block_model: The `BlockModel` that is trained.
        progress: The `Progress`: how far the schedule has come.
        callbacks: The `CallbackList` of the fit, or None.
    """

    def __init__(self, schedule: Any, block_model: BlockModel, progress: Any, callbacks: Any):
        self.schedule, self.block_model, self.progress = schedule, block_model, progress
        self.model, self.callbacks = block_model.model, callbacks
        self._entered, self._stock_test, self._at_first_epoch = False, None, True
        iterator = calling.epoch_iterator(self.model)
        self._fit: Any = (lambda: None) if iterator is None else weakref.ref(iterator)
        if block_model.blocks:
            checks.check_trainable(progress.paths, self.model)
            backend.check(self.model)
        block_model.begin(progress, schedule.seed)
        if schedule.state == "drop":
            block_model.optimizer.slots.attach(block_model.optimizer.owners)
        self._checkpoint = Checkpoint(self)
        self._checkpoint.check_backups(callbacks)
        internals.attach(self.model, self._checkpoint)
        self._clear_away()

    def enter(self, params: dict) -> None:
        """At `on_train_begin`: the dispatcher takes the place of the train function."""
        model, schedule, optimizer = self.model, self.schedule, self.block_model.optimizer
        self._params, self._stock = params, model.train_function
        self._found = set(optimizer.slots.released) if optimizer is not None else set()
        self._monitors = Monitors(model, self.callbacks, self._end_epoch, self._end_fit)
        listed = self.callbacks.callbacks if self.callbacks is not None else []
        self._batches = Batches(
            schedule,
            self.block_model,
            self.progress,
            params.get("steps"),
            self._stock,
            next((c for c in listed if isinstance(c, Substitution)), None),
            next((c for c in listed if isinstance(c, Resident)), None),
        )
        self._dispatcher = model.train_function = backend.train_function(model, self._batches)
        self._entered = True
        self._clear_away()

    def _clear_away(self):
        """From now on, whoever trains the model without this session makes it leave first."""
        model, fit = self.model, self._fit

        def make_train_function(force=False):
            caller = calling.epoch_iterator(model)
            if not self._entered and caller is not None and caller is fit():
                return type(model).make_train_function(model, force)  # our own fit, which begins
            leave(model)
            return model.make_train_function(force)

        model.make_train_function = make_train_function

    def check_entered(self) -> None:
        """Raises RuntimeError where a callback of the user's took the schedule off the running fit."""
        if not self._entered:
            raise RuntimeError(
                "The schedule was removed from the running fit: train_on_batch(), make_train_function() or compile() was "
                "called in it, and all blocks have moved since. Call them before or after fit()."
            )

    @property
    def has_begun(self) -> bool:
        """Whether an epoch of this fit has begun."""
        return not self._at_first_epoch

    def begin_epoch(self, keras_epoch: int) -> None:
        """An epoch begins: the position follows Keras, and all that follows the position is told."""
        self.check_entered()
        position = self.progress.position
        if self._at_first_epoch:
            total = position.begin_fit(keras_epoch, self._params["epochs"])
            self.schedule.prepare(total)
            position.total, self._at_first_epoch = total, False
            if position.step == 0:
                self.progress.averages.begin()
        position.begin_epoch(keras_epoch)
        update = self._batches.begin_epoch()
        restored = self._monitors.begin_epoch(update)
        self.progress.averages.freeze(update.frozen_below, restored)
        self._batches.begin_substitution(update)
        self._announce()

    def _announce(self):
        """Says which programs this epoch will compile, where there are several: its steps wait for them."""
        if not self._params.get("verbose") or self.model.run_eagerly or not backend.SHARES:
            return
        programs = self.block_model.programs
        coming = [key for key in self._batches.foresight.programs() if key not in programs]
        coming = list(dict.fromkeys(coming))
        if len(coming) > 1 or (coming and self.progress.position.step):
            name = self.block_model.block_names
            names = [", ".join(name(update.blocks)) for key in coming for update in key[0]]
            names = list(dict.fromkeys(names))
            shown = "; ".join(names[:8]) + ("; ..." if len(names) > 8 else "")
            number = "1 program" if len(coming) == 1 else f"{len(coming)} programs"
            internals.print_message(f"layerwise: this epoch compiles {number}, for {shown}")

    def _end_epoch(self):
        """After all callbacks have seen the end of the epoch."""
        skipped, position = self.epochs_left_out(), self.progress.position
        self.progress.averages.end_epoch(position.epoch - position.offset)
        position.end_epoch(skipped or 0)
        if skipped is not None:
            self.model.stop_training = False

    def epochs_left_out(self) -> int | None:
        """How many planned epochs of its stage early stopping leaves out at the end of this one.

        None where nothing stops, or training itself is to end: after the last stage, or where no EarlyStopping asked.
        """
        position = self.progress.position
        if not (self._entered and self.model.stop_training):
            return None
        if not self._monitors.stopped(position.epoch - position.offset):
            return None
        end = self.schedule.stage_end(position.epoch)
        return None if end is None or end >= position.total else end - position.epoch - 1

    def current_update(self) -> Any:
        """The Update that ran last, or will run first."""
        return self.progress.history.last or self._batches.next_updates()[-1]

    def begin_test(self) -> None:
        """Validation inside fit shows the stage that is being trained."""
        update = self.current_update() if self._entered else None
        if update is None or not update.by_blocks:
            return
        model, self._stock_test = self.model, self.model.test_function
        program = self.block_model.test_program(update)
        model.test_function = backend.test_function(program, self._batches)

        def make_test_function(force=False):
            self.end_test()
            return model.make_test_function(force)

        model.make_test_function = make_test_function

    def end_test(self) -> None:
        """The model's own test function is back."""
        if "make_test_function" in vars(self.model):
            del self.model.make_test_function
            self.model.test_function, self._stock_test = self._stock_test, None

    def finish(self) -> None:
        """At `on_train_end`."""
        averages, every = self.progress.averages, len(self.block_model.blocks)
        restored, self._to_restore = self._monitors.restored(self.schedule)
        self._frozen = averages.freeze(every, restored)
        self.leave(finished=True)

    def _end_fit(self):
        """After all callbacks have seen the end of the fit: one of them may have restored averages as they were."""
        if self._to_restore is not None:
            every = len(self.block_model.blocks)
            self.progress.averages.freeze(every, self._to_restore, self._frozen)

    def leave(self, finished: bool = False, memory: bool = True) -> None:
        """Takes everything off the model that this session put there.

        Args:
            finished: The fit has come to its end. Where slots had no memory when it began, because the optimizer was built
                without, all stays released: the next call of `make_train_function` (by a fit or train_on_batch) ends that.
            memory: Whether released slots get their memory back.
        """
        model, optimizer = self.model, self.block_model.optimizer
        if self._entered:
            self.end_test()
            if model.train_function is self._dispatcher:  # and not None, after compile
                model.train_function = self._stock
            # JAX caches programs per bound method: drop ours, or a later compile runs the old one again.
            self._stock = self._dispatcher = self._batches.stock = None
            self._monitors.leave()
            if finished and self._found:
                optimizer.finish()
                return
        self._entered = False
        del model.make_train_function
        if optimizer is not None:
            optimizer.slots.detach(optimizer.owners)
            if memory:
                optimizer.slots.restore(range(len(self.block_model.blocks)))
            optimizer.finish()
        internals.detach(model)


def leave(model: keras.Model, going_on: BlockModel | None = None) -> None:
    """Takes a schedule off a model, where a fit has left one.

    Args:
        model: The model.
        going_on: The `BlockModel` that a schedule with state="drop" goes on with: its slots stay without memory, unless
            the model was compiled again.
    """
    checkpoint = internals.attached(model)
    if checkpoint is not None:
        known = checkpoint.session.block_model
        resting = going_on is not None and going_on is known and going_on.is_current
        checkpoint.session.leave(memory=not resting)
