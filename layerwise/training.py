"""How a schedule enters a stock `fit`, carries out its Updates, and leaves.

`Schedule` is the callback that a user sees and a pure function of the position. `Session` is one schedule on one model:
position, programs, step counts, heads. In `fit`, Keras calls `set_model` of all callbacks, then `make_train_function`, then
`on_train_begin`: what a backup restores must exist by `set_model`, and the dispatcher goes in at `on_train_begin`. An
interrupted `fit` never says goodbye, so the dispatcher comes with a replaced `make_train_function` by which the next
`fit` (or `train_on_batch`) clears it away first.
"""

import abc
import collections
import contextlib
import functools
import inspect
import itertools
import json
import os
import time

import keras
import numpy as np
import pandas as pd

from layerwise.backends import backend, internals
from layerwise.blocks import Blocks, partition
from layerwise.features import Features
from layerwise.heads import build_heads
from layerwise.normalization import MovingAverages
from layerwise.optimizers import BlockOptimizer
from layerwise.updates import Update


class Schedule(keras.callbacks.Callback, abc.ABC):
    """Decides which blocks of a model move at each step of a stock `fit`.

    A new schedule writes one method, `updates`, and is passed to `fit` as a callback. All else (programs, step counts,
    saving, resuming, leaving) is done here.

    Args:
        blocks: What `layerwise.partition(by=...)` takes.
        state: The optimizer's state at the start of a visit: "keep", "reset", or "drop" (reset, and memory is held for
            the moving blocks only).
        head: What builds the auxiliary heads that `Update.head` names: "linear", "mlp", a callable
            `block_output -> tensor`, or `None` for a schedule without heads.
        always: Blocks (names or indices) whose optimizer state is kept at all times.
        max_programs: Bound on compiled programs: neighbouring blocks then share one that is cut below the lowest of them,
            and hold their state together under "drop". Without effect on torch, which runs eagerly.
        seed: Decides all randomness of the schedule.

    Example: the last block alone on every other step.

    >>> import keras, layerwise, numpy as np
    >>> class EveryOther(layerwise.Schedule):
    ...     def updates(self, epoch, step):
    ...         everything = tuple(range(len(self.blocks)))
    ...         return (layerwise.Update(blocks=everything if step % 2 else everything[-1:]),)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> schedule = EveryOther()
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[schedule], verbose=0)
    >>> [len(blocks) for blocks in schedule.visits["blocks"]]
    [1, 2, 1, 2]
    """

    def __init__(
        self, blocks="auto", state="keep", head=None, always=(), max_programs=None, seed=0
    ):
        super().__init__()
        if state not in ("keep", "reset", "drop"):
            raise ValueError(f"state must be 'keep', 'reset' or 'drop', got {state!r}.")
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {seed!r}.")
        if always is None or isinstance(always, (str, int)):
            raise ValueError(
                f"always must be a list of block names or indices, got {always!r}. Write "
                f"always={[] if always is None else [always]!r}."
            )
        if max_programs is not None and (
            isinstance(max_programs, bool)
            or not isinstance(max_programs, (int, np.integer))
            or max_programs < 1
        ):
            raise ValueError(f"max_programs must be None or a positive int, got {max_programs!r}.")
        self.by = blocks if isinstance(blocks, Blocks) else _plain(blocks)
        self.state, self.head, self.always, self.seed = state, head, tuple(always), seed
        self.max_programs = None if max_programs is None else int(max_programs)
        self.feature_cache = None  # put here for the time of a fit that caches features
        self._session = None

    @abc.abstractmethod
    def updates(self, epoch, step):
        """The Updates that one batch brings about, one after another on the same batch.

        A pure function of the position: randomness comes from `seed` and the position alone.

        Args:
            epoch: Epochs that the schedule has completed.
            step: Batches that the schedule has seen, over all epochs.

        Returns:
            A tuple of `Update`.
        """

    def prepare(self, epochs):
        """Hears, before the first step, at which epoch of the schedule this `fit` will end. Raises if that cannot be."""

    # --- what a user reads

    @property
    def blocks(self):
        """The `Blocks` of the model, once the schedule has met it; before, the argument."""
        return self.by if self._session is None else self._session.blocks

    @property
    def turns(self):
        """The indices of the blocks that are not in `always`."""
        return self._met().turns

    @property
    def heads(self):
        """`{k: keras.Model}`: the auxiliary head after block k."""
        return {} if self._session is None else self._session.heads

    @property
    def visits(self):
        """What moved when: a frame with one row per visit.

        Columns: `visit` (number), `blocks` (names of all that moved), `epoch` and `step` (of the first batch, counted
        from the schedule's start), `steps` (batches), `updates` (optimizer steps).
        """
        log = [] if self._session is None else self._session.log
        columns = ["visit", "blocks", "epoch", "step", "steps", "updates"]
        return pd.DataFrame(_visits(self, log), columns=columns)

    @property
    def counts(self):
        """How often each distinct Update ran since the start: a `collections.Counter`."""
        return collections.Counter() if self._session is None else self._session.counts

    @property
    def traces(self):
        """How often each program was traced: a `collections.Counter` by (Updates that share it, whether it shows logs)."""
        return collections.Counter() if self._session is None else self._session.traces

    @property
    def compile_seconds(self):
        """Seconds spent in calls that compiled a program since the start; on JAX these trace the next one, too."""
        return 0.0 if self._session is None else self._session.compile_seconds

    def optimizer_state_bytes(self):
        """Bytes of optimizer slots that are held now, those of auxiliary heads apart."""
        return self._met().optimizer_state_bytes()

    def flops(self, update, x, y):
        """Floating-point operations of one Update on the batch `(x, y)`, as the backend counts them."""
        return self._met().flops(update, x, y)

    def predict_on_batch(self, x):
        """Predictions of what is being trained: through the current stage's head, else the model's output."""
        return self._met().predict_on_batch(x)

    def restart(self, seed=None):
        """Forgets the position and all that was learned (heads, step counts), and keeps the compiled programs."""
        self.seed = self.seed if seed is None else seed
        if self._session is not None:
            self._session.restart()

    def _arguments(self):
        """The constructor's arguments, which are kept as attributes of the same name."""
        names = inspect.signature(type(self)).parameters
        values = {
            name: self.by if name == "blocks" else getattr(self, name, None) for name in names
        }
        return {name: _plain(value) for name, value in values.items()}

    def get_config(self):
        """The constructor's arguments, as `from_config` takes them."""
        return {name: _serialized(value) for name, value in self._arguments().items()}

    @classmethod
    def from_config(cls, config):
        """The schedule that a config describes."""
        return cls(**{name: _deserialized(value) for name, value in config.items()})

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in self._arguments().items())
        return f"{type(self).__name__}({arguments})"

    def _met(self):
        if self._session is None:
            raise ValueError(
                "The schedule has not met a model yet: pass it to fit(callbacks=[...]) first."
            )
        return self._session

    # --- what Keras calls

    def set_model(self, model):
        super().set_model(model)
        callbacks = internals.callback_list()
        schedules = [c for c in callbacks.callbacks if isinstance(c, Schedule)] if callbacks else []
        if len(schedules) > 1:
            raise ValueError(
                f"One fit takes one schedule, got {len(schedules)}: {schedules}. Remove all but one from callbacks."
            )
        leave(model)
        if self._session is None or self._session.model is not model:
            self._session = Session(self, model)
        self._session.attach(callbacks)

    def on_train_begin(self, logs=None):
        self._session.enter(self.params, internals.callback_list())

    def on_epoch_begin(self, epoch, logs=None):
        try:
            self._session.begin_epoch(epoch)
        except Exception:
            leave(self._session.model)
            raise

    def on_epoch_end(self, epoch, logs=None):
        self._session.check_entered()

    def on_test_begin(self, logs=None):
        self._session.begin_test()

    def on_test_end(self, logs=None):
        self._session.end_test()

    def on_train_end(self, logs=None):
        self._session.finish()


class Session:
    """One schedule on one model."""

    def __init__(self, schedule, model):
        self.schedule, self.model = schedule, model
        self.blocks, self.always, self.turns, self.heads = (), (), (), {}
        if schedule.by is not None:
            _check(model)
            try:
                self.blocks = partition(model, schedule.by)
            except (TypeError, ValueError) as error:
                error.add_note(f"`by` is what {type(schedule).__name__} was given as `blocks`.")
                raise
            self.always = tuple(sorted({self.blocks.index(block) for block in schedule.always}))
            self.turns = tuple(k for k in range(len(self.blocks)) if k not in self.always)
        if schedule.head is not None:
            self._check_head()
            self.heads = self._build_heads()
        self.saved = internals.Saved(self)
        self._compiled, self.entered = None, False
        self._start()

    def _build_heads(self):
        with backend.scope(self.model):
            return build_heads(self.model, self.blocks, self.schedule.head, self.schedule.seed)

    def _start(self):
        self.offset, self.epoch, self.step = 0, 0, 0
        self.total = None  # epochs from the start to the end of the first fit
        self.log = []  # [epoch, steps] in the order they ran
        self.counts = collections.Counter()
        self.compile_seconds = 0.0
        self.last = None  # the Update that ran last
        self.resumed = False
        self._known = set()  # Updates that were found to be right
        self.averages = MovingAverages(self.blocks if self.heads else ())

    def _check_head(self):
        if len(keras.tree.flatten(getattr(self.model, "outputs", None) or [])) != 1:
            raise ValueError(
                f"{type(self.schedule).__name__} trains each block under a head that stands in for the model's one output; "
                f"this model has {len(getattr(self.model, 'outputs', None) or [])} outputs. Train a model with one output, "
                "or use BlockCoordinate."
            )
        if not self.blocks.has_models:
            raise ValueError(
                f"{type(self.schedule).__name__} trains on the features between blocks, and this partition has none: the "
                "blocks do not lie between cut points of a Functional or Sequential model. Use blocks='auto' or an int, "
                "or a BlockCoordinate schedule."
            )
        if internals.overrides(self.model, "compute_loss"):
            raise ValueError(
                f"{type(self.model).__name__} has its own compute_loss, which a stage's head cannot go through. Use a "
                "BlockCoordinate schedule."
            )

    def _compile(self):
        """What depends on `compile`: the optimizer's groups and the programs."""
        identity = internals.compile_identity(self.model)
        if self._compiled is identity:
            return
        self.optimizer = None
        if self.blocks:
            self.optimizer = BlockOptimizer(
                self.model, self.blocks, self.heads, self.schedule.state
            )
        self.programs, self.traces, self._ran = {}, collections.Counter(), set()
        self._test_programs, self._flops, self._stages, self._sharing = {}, {}, {}, {}
        self.backwards = {}  # traced gradients, which programs share
        self._compiled = identity

    # --- into and out of fit

    def attach(self, callbacks):
        """At `set_model`: everything that a backup can restore is in place."""
        if self.blocks:
            _check(self.model)
            self._check_trainable()
            backend.check(self.model, self.schedule)
        self._compile()
        self._check_backups(callbacks)
        self.model._layerwise = self.saved
        self._first_epoch, self._settled, self.entered = True, False, False
        self.cache = self.schedule.feature_cache

    def _check_trainable(self):
        """Raises where layers were frozen or unfrozen since the model was divided into blocks."""
        known = {id(v): v.path for block in self.blocks for v in block.variables}
        now = {id(v): v.path for v in self.model.trainable_variables}
        changed = [path for key, path in (known | now).items() if (key in known) != (key in now)]
        if changed:
            raise ValueError(
                f"`trainable` was changed since the schedule divided this model into blocks: {changed[:4]} were frozen or "
                "unfrozen. Call compile() and pass a new schedule to fit()."
            )

    def enter(self, params, callbacks):
        """At `on_train_begin`: the dispatcher takes the place of the train function."""
        if getattr(self.model, "_layerwise", None) is not self.saved:
            self.attach(callbacks)
        self.params = params
        self.monitors = _Monitors(self, callbacks)
        model, stock = self.model, self.model.train_function
        self.stock_train_function, self._stock_test = stock, None
        if self.schedule.state == "drop":
            for optimizer in (self.optimizer.optimizer, self.optimizer.rule):
                optimizer.save_own_variables = functools.partial(self.optimizer.save, optimizer)
        self._dispatcher = model.train_function = backend.train_function(self)

        def make_train_function(force=False):
            leave(model)
            return model.make_train_function(force)

        model.make_train_function = make_train_function
        self.entered = True

    def check_entered(self):
        """Raises where a callback of the user's took the schedule off the running fit."""
        if not self.entered:
            raise RuntimeError(
                "The schedule was removed from the running fit: train_on_batch(), make_train_function() or compile() was "
                "called in it, and all blocks have moved since. Call them before or after fit()."
            )

    def begin_epoch(self, epoch):
        """Takes the position from Keras' epoch, which is absolute also after a restore."""
        self.check_entered()
        if self._first_epoch:
            if not self.resumed:
                self.offset = self.epoch - epoch
            self.resumed, self._first_epoch = False, False
            total = self.offset + self.params["epochs"] if self.total is None else self.total
            self.schedule.prepare(total)
            self.total = total
            if self.step == 0:
                self.averages.begin()
        self.epoch = self.offset + epoch
        if self.log and self.log[-1][1] == 0:
            self.log.pop()
        self.log.append([self.epoch, 0])
        update = self._next_updates()[-1]
        self.averages.freeze(update.frozen_below)
        self.monitors.begin_epoch(update)
        if self.cache is not None:
            self.cache.begin(self, update.frozen_below)

    def end_epoch(self):
        """After all callbacks have seen the end of the epoch."""
        skip = self._epochs_left_out()
        self.epoch += 1
        if skip is not None:
            self.model.stop_training = False
            self.offset += skip
            self.epoch += skip

    def _epochs_left_out(self):
        """How many planned epochs of its stage early stopping leaves out at the end of this one.

        None where nothing stops, or training itself is to end: after the last stage, or where no EarlyStopping asked.
        """
        if not (self.heads and self.entered and self.model.stop_training):
            return None
        if not self.monitors.stopped(self.epoch - self.offset):
            return None
        for epoch in range(self.epoch + 1, self.total):
            if self.schedule.updates(epoch, self.step)[-1] != self.last:
                return epoch - self.epoch - 1
        return None

    def begin_test(self):
        """Validation inside fit shows the stage that is being trained."""
        update = self.last or self._next_updates()[-1]
        if self.entered and update.stage:
            model, stock = self.model, self.model.test_function
            self._stock_test = stock
            model.test_function = backend.test_function(self, update)

            def make_test_function(force=False):
                self.end_test()
                return model.make_test_function(force)

            model.make_test_function = make_test_function

    def end_test(self):
        """The model's own test function is back."""
        if "make_test_function" in vars(self.model):
            del self.model.make_test_function
            self.model.test_function, self._stock_test = self._stock_test, None

    def finish(self):
        """At `on_train_end`."""
        if self.heads:
            self.averages.freeze(len(self.blocks))
        leave(self.model)

    def leave(self):
        """Takes everything off the model that `attach` and `enter` put there."""
        model = self.model
        if not self.entered:
            del model._layerwise
            return
        self.entered = False
        self.end_test()
        del model.make_train_function
        if model.train_function is self._dispatcher:  # and not None, after compile
            model.train_function = self.stock_train_function
        # jit gives a bound method its program as long as anyone holds one, also where `trainable` was changed since.
        self.stock_train_function = self._dispatcher = None
        if self.optimizer is not None:
            for optimizer in (self.optimizer.optimizer, self.optimizer.rule):
                vars(optimizer).pop("save_own_variables", None)
            self.optimizer.restore(backend.fill, range(len(self.blocks)))
            self.optimizer.finish()
        self.monitors.leave()
        del model._layerwise

    def restart(self):
        """As new, but for the programs."""
        leave(self.model)
        self._start()
        for k, fresh in (self._build_heads() if self.heads else {}).items():
            for variable, initial in zip(self.heads[k].variables, fresh.variables, strict=True):
                variable.assign(initial)
        if self.optimizer is not None:
            self.optimizer.restart()

    # --- the steps

    def _next_updates(self):
        updates = self.schedule.updates(self.epoch, self.step)
        if not isinstance(updates, tuple) or not updates:
            raise ValueError(
                f"{type(self.schedule).__name__}.updates must return a tuple of one or more Update, got {updates!r} for "
                f"epoch {self.epoch}, step {self.step}."
            )
        for update in updates:
            if not isinstance(update, Update) or update not in self._known:
                self._check_update(update)
                self._known.add(update)
        return updates

    def _check_update(self, update):
        n = len(self.blocks)
        if not isinstance(update, Update):
            raise TypeError(
                f"{type(self.schedule).__name__}.updates must return a tuple of Update, got {update!r} in it."
            )
        if update.blocks is None:
            if self.schedule.state != "keep":
                raise ValueError(
                    "Update(blocks=None) is the model's own step, which has no state by block; the schedule was given "
                    f"state={self.schedule.state!r}. Use state='keep', or name them: Update(blocks={tuple(range(n))})."
                )
            return
        blocks = update.blocks
        if blocks[0] < 0 or blocks[-1] >= n or not 0 <= update.frozen_below <= blocks[0]:
            raise ValueError(
                f"An Update's blocks must be indices from 0 to {n - 1}, and frozen_below at most the lowest, "
                f"got {update!r}."
            )
        if update.head is not None and not (
            update.head in self.heads and update.head >= blocks[-1]
        ):
            raise ValueError(
                f"An Update's head must be one of {sorted(self.heads)}, at or after the last block that moves, got "
                f"{update!r}. Heads are built where the schedule is given head=..."
            )

    def plan(self):
        """The next batch: a list of `(update, whether a visit starts with it)`."""
        plan, last = [], self.last
        for update in self._next_updates():
            plan.append((update, _starts_visit(update, last)))
            last = update
        return plan

    def same(self, n):
        """The one Update that each of the next n batches is, if it is and no visit starts in them; else None.

        The stock function runs several steps in one call, so that this also answers None where the epoch may end within.
        """
        steps = self.params.get("steps")
        if steps is None or steps - self.log[-1][1] < n:
            return None
        first = self._next_updates()
        if first[0].blocks is None:
            return first[0]
        last = self.last
        for ahead in range(n):
            updates = self.schedule.updates(self.epoch, self.step + ahead)
            starts = self.schedule.state != "keep" and _starts_visit(updates[0], last)
            if len(updates) > 1 or updates[0] != first[0] or starts:
                return None
            last = updates[0]
        return first[0]

    def before(self, update, starts, fill, release):
        """Makes the optimizer state ready for an Update, with which a visit starts or does not."""
        if self.schedule.state == "keep" or update.blocks is None:
            return
        changes = self.schedule.state == "drop" and (starts or not self._settled)
        if changes:
            held = {*self.always, *(k for sharing in self.sharing(update) for k in sharing.blocks)}
            self.optimizer.release(set(range(len(self.blocks))) - held, release)
        if starts:
            for k in update.blocks:
                if k not in self.always:
                    self.optimizer.reset(k, fill)
        if changes:
            self.optimizer.restore(fill, held)
        self._settled = True

    def carry_out(self, plan, run, fill, release, around=contextlib.nullcontext):
        """The Updates of one batch, by `run(update, record) -> logs`: the logs that its first one shows.

        `around`: the context of each Update, which ends when it is counted.
        """
        for i, (update, starts) in enumerate(plan):
            with around():
                self.before(update, starts, fill, release)
                logs = run(update, i == 0)
                if i == 0:
                    shown = self.shown(update, logs)
                self.done(update, steps=int(i == len(plan) - 1))
        return shown

    def done(self, update, steps=0):
        """An Update has run; `steps` batches are over with it."""
        self.counts[update] += max(steps, 1)
        self.averages.count(update, max(steps, 1))
        self.last = update
        self.log[-1][1] += steps
        self.step += steps

    def run(self, update, record, *arguments):
        """Calls the program of an Update. `record`: whether it shows loss and metrics."""
        shared = self.sharing(update)
        key, program = (shared, record), self._program(shared, record)
        new = key not in self._ran
        if new:
            backend.wait(arguments)  # for what earlier steps still compute: that is not compiling
        traces, start = self.traces[key], time.perf_counter()
        result = program(shared.index(update), *arguments)
        if new or (self.traces[key] != traces and not self.model.run_eagerly):
            backend.wait(result)
            self.compile_seconds += time.perf_counter() - start
            self._ran.add(key)
        return result

    def following(self):
        """The program that this epoch needs next of those that were not made yet; None where none is in sight."""
        steps = self.params.get("steps")
        if steps is None or self.schedule.state == "drop":  # whose slots are not there yet
            return None
        coming = (
            (update, i == 0)
            for ahead in range(steps - self.log[-1][1])
            for i, update in enumerate(self.schedule.updates(self.epoch, self.step + ahead))
        )
        for update, record in itertools.islice(coming, 1000):
            shared = self.sharing(update)
            if update.blocks is not None and (shared, record) not in self.programs:
                return self._program(shared, record)
        return None

    def _program(self, shared, record):
        key = (shared, record)
        if key not in self.programs:
            self.programs[key] = backend.program(self, shared, record)
        return self.programs[key]

    def test_program(self, update, make):
        """The test function of a stage, made once."""
        if update not in self._test_programs:
            self._test_programs[update] = make()
        return self._test_programs[update]

    def sharing(self, update):
        """The Updates that share a program with this one, itself included (DESIGN 3.6)."""
        limit = self.schedule.max_programs
        if limit is None or update.blocks is None or update.stage or not backend.SHARES:
            return (update,)
        if update not in self._sharing:
            if getattr(self.schedule, "sweep_each_batch", False):
                limit = max(
                    1, limit // 2
                )  # the first Update of a batch shows metrics, by a program of its own
            for group in np.array_split(self.turns, min(limit, len(self.turns))):
                updates = [Update(tuple(sorted((int(k), *self.always)))) for k in group]
                self._sharing.update(dict.fromkeys(updates, tuple(updates)))
        return self._sharing.get(update, (update,))

    def variables(self, *updates):
        """The variables that some Updates move: the blocks' in the model's order, then the head's."""
        update = updates[0]
        moving = {id(v) for u in updates for k in u.blocks for v in self.blocks[k].variables}
        variables = [v for v in self.model.trainable_variables if id(v) in moving]
        return variables + (
            [] if update.head is None else self.heads[update.head].trainable_variables
        )

    def names(self, update):
        """The names of the blocks that an Update moves."""
        if update.blocks is None:
            return ("all",)
        return tuple(self.blocks[k].name for k in update.blocks)

    @property
    def caches(self):
        """Whether steps take cached features in place of x now."""
        return self.cache is not None and self.cache.level > 0

    def take(self, data):
        """A batch as the steps take it."""
        return data if self.cache is None else self.cache.take(data)

    def forward(self, update, x, y, sample_weight, training):
        """Predictions and total loss, where and how the Update takes them."""
        model = self.model
        if not update.stage:
            y_pred = internals.call(model, x, training)
            return y_pred, internals.compute_loss(model, x, y, y_pred, sample_weight, training)
        if isinstance(x, Features):
            inputs, features, first = x.inputs, x.masked(), update.frozen_below
        else:
            inputs, features, first = internals.flat_inputs(model, x), None, 0
        losses, last = [], len(self.blocks) - 1 if update.head is None else update.head
        for block in self.blocks[first : last + 1]:
            moving = block.index >= update.frozen_below
            features = block(features, inputs, training=training and moving)
            if moving:
                losses += block.model.losses
                losses += [-v.regularizer(v) for v in _foreign(block)]
        if update.head is not None:
            head = self.heads[update.head]
            features = head(features, training=training)
            losses += head.losses
        loss = internals.compiled_loss(model, y, features, sample_weight)
        return features, keras.ops.sum([loss, *map(keras.ops.sum, losses)]) if losses else loss

    def shown(self, update, logs):
        """What the user sees of a step: with heads, also which stage it was."""
        if not self.heads:
            return logs
        return {
            **logs,
            "stage": float(update.frozen_below if update.visit is None else update.visit),
        }

    # --- measurements

    def optimizer_state_bytes(self):
        if self.optimizer is None:
            return sum(backend.nbytes(v, self.model) for v in internals.slots(self.model.optimizer))
        return sum(
            backend.nbytes(slot, self.model) for slots in self.optimizer.slots for slot, _ in slots
        )

    def flops(self, update, x, y):
        self._check_update(update)
        shapes = keras.tree.map_structure(lambda a: (tuple(a.shape), str(a.dtype)), (x, y))
        key = (update, str(shapes))
        if key not in self._flops:
            self._flops[key] = backend.flops(self, update, x, y)
        return self._flops[key]

    def predict_on_batch(self, x):
        update = self.last or self._next_updates()[-1]
        if update.head is None:
            return self.model.predict_on_batch(x)
        if update.head not in self._stages:
            inputs, features = self.model.inputs, None
            for block in self.blocks[: update.head + 1]:
                features = block(features, inputs, training=False)
            outputs = self.heads[update.head](features, training=False)
            self._stages[update.head] = keras.Model(inputs, outputs)
        return self._stages[update.head].predict_on_batch(x)

    # --- saving

    def _fingerprint(self):
        config = {
            "schedule": type(self.schedule).__name__,
            "arguments": self.schedule._arguments(),
            "blocks": [block.name for block in self.blocks],
        }
        return json.dumps(
            config, sort_keys=True, default=lambda f: getattr(f, "__qualname__", type(f).__name__)
        )

    def _variables(self):
        """Our own variables and the state of random layers, which Keras does not save."""
        weights = {id(v) for v in self.model.non_trainable_weights}
        seeds = [v for v in self.model.non_trainable_variables if id(v) not in weights]
        heads = [v for head in self.heads.values() for v in head.variables]
        return seeds + heads + (self.optimizer.own_variables() if self.optimizer else [])

    def save(self, store):
        offset = self.offset + (self._epochs_left_out() or 0)
        position = [offset, self.step, -1 if self.total is None else self.total]
        store["fingerprint"] = np.frombuffer(self._fingerprint().encode(), "uint8")
        store["position"] = np.array(position, "int64")
        store["log"] = np.array(self.log, "int64").reshape(-1, 2)
        for name, value in self.averages.state().items():
            store[name] = value
        for i, variable in enumerate(self._variables()):
            store[f"variable_{i}"] = backend.to_numpy(variable)

    def load(self, store):
        self._check_store(store, "The weights that are being loaded")
        variables = self._variables()
        self.offset, self.step, total = (int(value) for value in np.array(store["position"]))
        self.total = None if total < 0 else total
        self.log = np.array(store["log"]).tolist()
        self.averages.set_state({name: np.array(store[name]) for name in self.averages.state()})
        for i, variable in enumerate(variables):
            variable.assign(np.array(store[f"variable_{i}"]))
        self.counts = collections.Counter()
        self.last = None
        if self.total is not None:
            self.schedule.prepare(self.total)
        position = 0
        for epoch, steps in self.log:
            for step in range(position, position + steps):
                for update in self.schedule.updates(epoch, step):
                    self.counts[update] += 1
                    self.last = update
            position += steps
        self.resumed = True

    def _check_store(self, store, what):
        remedy = "Delete the backup to start afresh, or use the schedule and model that wrote it."
        if "fingerprint" not in store:
            raise ValueError(f"{what} were not written under a layerwise schedule. {remedy}")
        found = bytes(np.array(store["fingerprint"])).decode()
        if found != self._fingerprint():
            raise ValueError(
                f"{what} were written under another schedule or partition: {found}; this one is {self._fingerprint()}. "
                f"{remedy}"
            )
        for i, variable in enumerate(self._variables()):
            shape = tuple(store[f"variable_{i}"].shape) if f"variable_{i}" in store else None
            if shape != tuple(variable.shape):
                raise ValueError(
                    f"{what} do not fit: {variable.path} has shape {tuple(variable.shape)}, the saved one {shape}. {remedy}"
                )

    def _check_backups(self, callbacks):
        """Looks into a backup before BackupAndRestore loads it: a wrong one must not be half-loaded."""
        import h5py

        for callback in callbacks.callbacks if callbacks else ():
            if isinstance(callback, keras.callbacks.BackupAndRestore):
                path = internals.backup_path(callback)
                if os.path.exists(path):
                    with h5py.File(path, "r") as file:
                        store = file.get("_layerwise/vars", {})
                        self._check_store(
                            store, f"The weights in the backup {callback.backup_dir!r}"
                        )


def leave(model):
    """Takes a schedule off a model, where an interrupted fit has left one."""
    saved = vars(model).get("_layerwise")
    if saved is not None:
        saved.session.leave()


class _Monitors:
    """Callbacks that follow the best value of a metric, which cannot be compared between stages."""

    def __init__(self, session, callbacks):
        self.session, self.callbacks = session, callbacks
        self.update = None
        monitored = callbacks.callbacks if callbacks else ()
        self.best = {
            id(c): c.best for c in monitored if isinstance(c, keras.callbacks.ModelCheckpoint)
        }
        self.tail = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: session.end_epoch()
        )
        self.tail.async_safe = True
        if callbacks is not None:
            callbacks.callbacks.append(self.tail)  # its turn comes when all others have had theirs

    def begin_epoch(self, update):
        """Lets the monitors start afresh where a new stage begins."""
        if self.session.heads and self.update is not None and update != self.update:
            for callback in self.callbacks.callbacks:
                if isinstance(callback, keras.callbacks.EarlyStopping):
                    callback.on_train_end()  # restores the stage's best weights where it was asked to
                    callback.on_train_begin()
                elif isinstance(callback, keras.callbacks.ReduceLROnPlateau):
                    callback.on_train_begin()
                elif isinstance(callback, keras.callbacks.ModelCheckpoint):
                    callback.best = self.best[id(callback)]
        self.update = update

    def stopped(self, epoch):
        """Whether an EarlyStopping ended something at this epoch of Keras' counting."""
        monitored = self.callbacks.callbacks if self.callbacks is not None else ()
        early = [c for c in monitored if isinstance(c, keras.callbacks.EarlyStopping)]
        return any(c.stopped_epoch == epoch and c.wait >= c.patience for c in early)

    def leave(self):
        if self.callbacks is not None and self.tail in self.callbacks.callbacks:
            self.callbacks.callbacks = [c for c in self.callbacks.callbacks if c is not self.tail]


def _check(model):
    """Raises where no block can be moved by itself."""
    if not getattr(model, "compiled", False):
        raise ValueError(
            "The model is not compiled. Call model.compile(optimizer=..., loss=...) before fit()."
        )
    if not model.built:
        raise ValueError(
            "The model is not built, so that it has no layers to divide into blocks. Start it with keras.Input(shape), or "
            "call model.build(input_shape), before fit()."
        )
    if internals.overrides(model, "train_step"):
        raise ValueError(
            f"{type(model).__name__} has its own train_step, which a schedule would replace. Use a model with Keras' "
            "train_step, or layerwise.Simultaneous(), which leaves it as it is."
        )


def _foreign(block):
    """Regularized variables of layers that a block shares with one before it, to which they belong."""
    own = {id(v) for v in block.variables}
    return [v for v in block.model.trainable_variables if v.regularizer and id(v) not in own]


def _starts_visit(update, last):
    if last is None:
        return True
    if update.visit is None:
        return update.blocks != last.blocks
    return update.visit != last.visit


def _visits(schedule, log):
    """The visits of a log of `[epoch, steps]`, replayed: rows as in `Schedule.visits`."""
    rows, last, first, last_step = [], None, 0, None
    for epoch, steps in log:
        for step in range(first, first + steps):
            for update in schedule.updates(epoch, step):
                if _starts_visit(update, last):
                    rows.append([len(rows), schedule._session.names(update), epoch, step, 0, 0])
                    last_step = None
                rows[-1][4] += step != last_step
                rows[-1][5] += 1
                last, last_step = update, step
        first += steps
    return rows


def _plain(value):
    """Lists, copied, of what may be tuples or the user's own lists; layer names for Blocks."""
    if isinstance(value, Blocks):
        return [[layer.name for layer in block.layers] for block in value]
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _serialized(value):
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _deserialized(value):
    if isinstance(value, dict) and "class_name" in value:
        return keras.saving.deserialize_keras_object(value)
    return value
