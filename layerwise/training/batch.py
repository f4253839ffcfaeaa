"""A batch's way through a running `fit`: look, plan, make state ready, find the program, run it, record it."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend
from layerwise.optimizers import StateAtVisits
from layerwise.optimizers.slots import Memory
from layerwise.steps import Update
from layerwise.steps.update import starts_visit
from layerwise.training import checks
from layerwise.training.execution import Executions, Plan
from layerwise.training.foresight import Foresight, sharing, step_key
from layerwise.training.resident import Resident


class Substitution(keras.callbacks.Callback):
    """A callback that exchanges the batches of the `fit` that it is in, on their way to the steps."""

    def begin_epoch(self, block_model: Any, update: Update, compiled: Callable) -> None:
        """Called before each epoch with the last Update of its first batch; `compiled(seconds)` hears of compiling."""

    @property
    def active(self) -> bool:
        """Whether batches are exchanged in this epoch."""
        raise NotImplementedError

    def substitute(self, data: Any) -> Any:
        """A batch as the steps take it."""
        raise NotImplementedError


class Batches:
    """The batches of one `fit` under a schedule: what a backend's train function asks on the way of each.

    Args:
        schedule: The schedule.
        block_model: The `BlockModel`.
        progress: The `Progress`.
        steps: Batches of an epoch, or None if that is not known.
        stock: The model's own train function.
        substitution: The `Substitution` of this fit, or None.
        resident: The `Resident` of this fit, or None.

    Attributes:
        foresight: What the rest of the epoch will bring.
        stock: The model's own train function as a program, until the fit ends.
        state: The `StateAtVisits`; None where there are no blocks.
        resident: The `Resident`, or None: `fit` brings batches.
        executions: How several batches go in one program.
    """

    def __init__(
        self,
        schedule: Any,
        block_model: Any,
        progress: Any,
        steps: int | None,
        stock: Callable,
        substitution: Substitution | None,
        resident: Resident | None,
    ):
        self._schedule, self._block_model, self._progress = schedule, block_model, progress
        if resident is not None:
            steps = resident.steps
        self.foresight = Foresight(schedule, block_model, progress, steps)
        self.stock: Any = backend.stock_program(stock)
        self._substitution, self.resident = substitution, resident
        self.state: Any = None
        if block_model.optimizer is not None:
            self.state = StateAtVisits(schedule.state, block_model.optimizer)
        self._rated = schedule.rated
        self._known: set[Update] = set()
        self.executions = Executions(self, schedule, block_model, progress)

    # --- what a backend asks

    @property
    def substitutes(self) -> bool:
        """Whether batches are exchanged now."""
        return self._substitution is not None and self._substitution.active

    def substitute(self, data: Any) -> Any:
        """A batch as the steps take it."""
        if self._substitution is None or not self._substitution.active:
            return data
        return self._substitution.substitute(data)

    def looks(self) -> bool:
        """Whether the schedule wants to look at the next batch."""
        return self._schedule.can_look and bool(self._due_looks())

    def look(self, call: Callable) -> None:
        """Lets the schedule look at a batch; `call(program)` calls a look's program on it."""
        position, measured = self._progress.position, {}
        for look in self._due_looks():
            program, programs = self._block_model.look_program, self._block_model.programs
            result, seconds = programs.run(("look",), program, call)
            self._progress.add_compiling(seconds)
            self._progress.history.counts[look] += 1
            measured[look.quantity] = np.asarray(result[look.quantity])
        self._schedule.see(position.epoch, position.step, measured)

    def plan(self) -> Plan:
        """The Updates of the next batch, each with whether a visit starts with it."""
        return _plan(self.next_updates(), self._progress.history.last)

    def plan_ahead(self, ahead: int, last: Update) -> Plan | None:
        """The plan of a later batch, so many after the next one, if Update `last` comes before it; None if it cannot be
        said: the schedule wants to look at that batch, or raises, and then does so again when it is that batch's turn.
        """
        position = self._progress.position
        try:
            if self._schedule.can_look and self._due_looks(ahead):
                return None
            updates = self._schedule.updates(position.epoch, position.step + ahead)
            if not self._known.issuperset(updates):
                checks.check_updates(updates, self._schedule, self._block_model, "")
                self._known.update(updates)
        except Exception:
            return None
        return _plan(updates, last)

    def carry_out(
        self,
        plan: Plan,
        run: Callable,
        memory: tuple,
        around: Callable = contextlib.nullcontext,
    ) -> dict:
        """Carries out the Updates of one batch.

        Args:
            plan: What `plan` returned.
            run: `run(program, index) -> logs` runs the Update of that index of a program on the batch.
            memory: How the optimizer's slots get and lose their memory: `(fill, release)`.
            around: The context of each Update, which ends when it is recorded.

        Returns:
            The logs that the first Update shows.
        """
        for i, (update, starts) in enumerate(plan):
            with around():
                logs = self._one(update, starts, i == 0, run, memory)
                if i == 0:
                    shown = self.with_stage(update, logs)
                self._record(update, starts)
                if i == len(plan) - 1:
                    self._batch_is_over()
        return shown

    def record(self, plan: Plan) -> None:
        """The Updates of a batch have run."""
        for update, starts in plan:
            self._record(update, starts)
        self._batch_is_over()

    def with_stage(self, update: Update, logs: dict) -> dict:
        """What the user sees of a step: with heads, also which stage it was."""
        if self._schedule.head is None:
            return logs
        stage = update.frozen_below if update.visit is None else update.visit
        return {**logs, "stage": float(stage)}

    def following(self) -> Any:
        """The next program of this epoch that is not compiled yet, as far as that is known; else None."""
        return self.foresight.next_program()

    # --- what a session asks

    def begin_epoch(self) -> Update:
        """An epoch begins: checks its first Updates, and returns the last one of the first batch."""
        self.foresight.begin_epoch()
        return self.next_updates()[-1]

    def begin_substitution(self, update: Update) -> None:
        """An epoch begins whose first batch ends with an Update: what is frozen below it has its last value now."""
        if self._substitution is not None:
            self._substitution.begin_epoch(self._block_model, update, self._progress.add_compiling)

    def next_updates(self) -> tuple[Update, ...]:
        """What the schedule wants for the next batch, checked."""
        epoch, step = self._progress.position.epoch, self._progress.position.step
        updates = self._schedule.updates(epoch, step)
        whole = isinstance(updates, tuple) and all(isinstance(u, Update) for u in updates)
        if not (whole and updates and self._known.issuperset(updates)):
            place = f"epoch {epoch}, step {step}"
            checks.check_updates(updates, self._schedule, self._block_model, place)
            self._known.update(updates)
        return updates

    # --- inside

    def _due_looks(self, ahead=0):
        position = self._progress.position
        looks = self._schedule.looks(position.epoch, position.step + ahead)
        checks.check_looks(looks, self._schedule)
        return looks

    def _one(self, update, starts, shows, run, memory):
        position, programs = self._progress.position, self._block_model.programs
        if update.blocks is None:
            logs, seconds = programs.run(("stock",), self.stock, lambda program: run(program, 0))
            self._progress.add_compiling(seconds)
            return logs
        together = sharing(self._schedule, update)
        self.state.prepare(update, starts, together, Memory(*memory))
        if self._rated:
            factors = self._schedule.factors(position.epoch, position.step)
            self._block_model.optimizer.set_factors({k: factors.get(k, 1.0) for k in update.blocks})
        key, index = step_key(self._schedule, update, shows), together.index(update)
        logs, seconds = programs.run(key, programs.get(key), lambda program: run(program, index))
        self._progress.add_compiling(seconds)
        return logs

    def _record(self, update, starts):
        position = self._progress.position
        self._progress.history.record(update, starts, position.epoch, position.step)
        self._progress.averages.count(update, 1)

    def _batch_is_over(self):
        self._progress.position.step += 1
        self.foresight.done += 1


def _plan(updates, last):
    plan = []
    for update in updates:
        plan.append((update, starts_visit(update, last)))
        last = update
    return plan
