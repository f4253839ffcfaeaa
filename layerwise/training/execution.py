"""Several batches in one program: which go together, what the program has to hold, and what it is told of each."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from layerwise.backends import Turns, backend
from layerwise.optimizers.slots import Memory
from layerwise.steps import Update
from layerwise.training.foresight import sharing, step_key

Plan = list[tuple[Update, bool]]  # the Updates of a batch, each with whether a visit starts with it


@dataclass(frozen=True)
class Held:
    """The key of an execution's program: the steps that it holds, whichever of them run and in whatever order.

    Attributes:
        steps: The keys of their own programs.
        state: What becomes of optimizer state at visits: "keep", "reset" or "drop".
    """

    steps: tuple[tuple, ...]
    state: str


class Executions:
    """How a fit carries out several batches in one program.

    A program holds a step for each distinct Update of its batches; which one runs is an input of it, so that nothing
    compiles when the pattern moves on. One that needs more than one holds what training will need later, too.

    Args:
        batches: The `Batches` of the fit.
        schedule: The schedule.
        block_model: The `BlockModel`.
        progress: The `Progress`.
    """

    def __init__(self, batches: Any, schedule: Any, block_model: Any, progress: Any):
        self._batches, self._schedule = batches, schedule
        self._block_model, self._progress = block_model, progress
        sets_state = schedule.state != "keep" or schedule.rated
        self._possible = backend.can_execute(block_model.model, sets_state)

    def ahead(self, most: int) -> list[Plan]:
        """The plans of the next batches that go in one execution, at most so many.

        Empty where the next batch goes by itself: it is looked at or exchanged, or slots lose and get memory within it.
        Under state="drop" an execution ends where a visit does.
        """
        batches, drops = self._batches, self._schedule.state == "drop"
        if not self._possible or batches.substitutes or batches.looks():
            return []
        left = batches.foresight.left
        plans = [batches.plan()]
        if drops and len(plans[0]) > 1:
            return []
        for ahead in range(1, most if left is None else min(most, left)):
            plan = batches.plan_ahead(ahead, plans[-1][-1][0])
            if not plan or (drops and plan[0][1]):
                break
            plans.append(plan)
        return plans

    def epoch(self, several: Callable, alone: Callable) -> Any:
        """Carries out the next epoch of resident data.

        Args:
            several: `several(plans, room, arrays, rows) -> (logs, batches that there were)`: some batches in one program.
            alone: `alone(arrays, rows) -> logs`: one batch by itself.

        Returns:
            The logs of what ran last.
        """
        resident = self._batches.resident
        rows, at, logs = next(resident.epochs), 0, None
        while at < len(rows):
            plans = self.ahead(len(rows) - at)
            if plans:
                logs, done = several(plans, resident.steps, resident.arrays, rows[at:])
            else:
                logs, done = alone(resident.arrays, rows[at]), 1
            at += done
        return logs

    def are_stock(self, plans: list[Plan]) -> bool:
        """Whether some batches are carried out by the model's own train step alone."""
        return bool(plans) and all(update.blocks is None for plan in plans for update, _ in plan)

    def carry_out(
        self, plans: list[Plan], room: int, run: Callable, memory: tuple, rows: Any = None
    ) -> tuple[dict, int]:
        """Carries out the Updates of some batches.

        Args:
            plans: What `ahead` returned.
            room: For how many batches the program has room.
            run: `run(program, turns) -> (logs, batches that there were)` runs a program.
            memory: How the optimizer's slots get and lose their memory: `(fill, release)`.
            rows: The rows of the resident data that each batch is, or None.

        Returns:
            The logs of the last batch, and how many batches there were.

        Raises:
            StopIteration: There were none.
        """
        schedule, position = self._schedule, self._progress.position
        programs, optimizer = self._block_model.programs, self._block_model.optimizer
        if schedule.state == "drop":
            update, starts = plans[0][0]
            self._batches.state.prepare(update, starts, sharing(schedule, update), Memory(*memory))
        factors = None
        if schedule.rated:
            steps = range(position.step, position.step + len(plans))
            factors = [schedule.factors(position.epoch, step) for step in steps]
        key = self._key(plans)
        turns = turns_of(plans, key, schedule, room, factors, rows)
        program = programs.get(key)
        if programs.is_new(key):
            self._run(key, program, lambda program: run(program, nothing(turns)))
        logs, done = self._run(key, program, lambda program: run(program, turns))
        if not done:
            raise StopIteration
        for plan in plans[:done]:
            self._batches.record(plan)
        if factors is not None:
            optimizer.forget_factors()
        return self._batches.with_stage(plans[done - 1][0][0], logs), done

    def carry_out_stock(self, plans: list[Plan], run: Callable) -> tuple[dict, int]:
        """Carries out batches of the model's own train step, by its own function: `run(function) -> logs`."""
        logs = self._run(("stock",), self._batches.stock, run)
        for plan in plans:
            self._batches.record(plan)
        return logs, len(plans)

    def _run(self, key, program, call):
        result, seconds = self._block_model.programs.run(key, program, call)
        self._progress.add_compiling(seconds)
        return result

    def _key(self, plans):
        state = self._schedule.state
        needed = dict.fromkeys(
            step_key(self._schedule, update, i == 0)
            for plan in plans
            for i, (update, _) in enumerate(plan)
        )
        exact = Held(tuple(needed), state)
        if state == "drop":
            return exact  # what it does not need has no memory
        known = [key for key in self._block_model.programs.known(Held) if key.state == state]
        fitting = [key for key in known if needed.keys() <= set(key.steps)]
        if fitting:
            return min(fitting, key=lambda key: len(key.steps))
        if len(needed) == 1:
            return exact  # visits that are longer than executions come one at a time
        needed |= dict.fromkeys(self._batches.foresight.steps())
        return Held(tuple(needed | dict.fromkeys(either_way(needed))), state)


def either_way(steps: Iterable[tuple]) -> list[tuple]:
    """Steps, by their keys, that a later run may take: where some come both first in a batch, which shows its logs, and
    further on, as in sweeps of random order, all of them both ways; else nothing is added.

    Example:
    >>> from layerwise.training.execution import either_way
    >>> either_way([("a", True, False), ("b", False, False), ("a", False, False)])
    [('a', True, False), ('a', False, False), ('b', True, False), ('b', False, False)]
    >>> either_way([("a", True, False), ("b", False, False)])
    []
    """
    # The model's own train step has no Updates, and always shows its logs.
    first, later = (
        dict.fromkeys(
            (updates, rated) for updates, shows, rated in steps if updates and shows == own
        )
        for own in (True, False)
    )
    if not first.keys() & later.keys():
        return []
    return [(updates, shows, rated) for updates, rated in first | later for shows in (True, False)]


def turns_of(
    plans: list[Plan],
    key: Held,
    schedule: Any,
    room: int,
    factors: list[dict[int, float]] | None,
    rows: Any,
) -> Turns:
    """What an execution is told of its batches.

    Args:
        plans: The Updates of each batch.
        key: The program that carries them out.
        schedule: The schedule.
        room: For how many batches the program has room.
        factors: The learning-rate factors of the blocks on each batch, or None.
        rows: The rows of each batch in arrays on the device, or None.
    """
    places = {step: i for i, step in enumerate(key.steps)}
    shape, n_blocks = (room, max(map(len, plans))), len(schedule.blocks or ())
    count, step, index = np.zeros(room, "int32"), np.zeros(shape, "int32"), np.zeros(shape, "int32")
    resets = np.zeros((*shape, n_blocks), bool) if key.state == "reset" else None
    rates = None if factors is None else np.ones((*shape, n_blocks), "float32")
    for i, plan in enumerate(plans):
        count[i] = len(plan)
        for t, (update, starts) in enumerate(plan):
            own = step_key(schedule, update, t == 0)
            step[i, t] = places[own]
            index[i, t] = own[0].index(update) if own[0] else 0
            if resets is not None and starts and update.blocks is not None:
                resets[i, t, [k for k in update.blocks if k not in update.resident]] = True
            if factors is not None and rates is not None:
                rates[i, t, list(factors[i])] = list(factors[i].values())
    if rows is not None:
        rows = np.resize(rows[: len(plans)], (room, rows.shape[1])).astype("int32")
    return Turns(np.array(len(plans), "int32"), count, step, index, resets, rates, rows)


def nothing(turns: Turns) -> Turns:
    """The same for no batch at all: it compiles the program and changes nothing."""
    return turns._replace(batches=np.array(0, "int32"))
