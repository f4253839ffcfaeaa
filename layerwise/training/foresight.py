"""What the rest of an epoch will bring, as far as a schedule can say it beforehand."""

import itertools
from collections.abc import Iterator
from typing import Any

from layerwise.backends import backend
from layerwise.steps import Update
from layerwise.steps.update import starts_visit

LOOK_AHEAD = 1000  # batches of an epoch whose programs are foreseen


class Foresight:
    """The Updates that are still to come in an epoch. A schedule that looks at batches cannot say them.

    Args:
        schedule: The schedule.
        block_model: The `BlockModel`.
        progress: The `Progress`.
        steps: Batches of an epoch, or None if that is not known.

    Attributes:
        done: Batches of the epoch that are over.
    """

    def __init__(self, schedule: Any, block_model: Any, progress: Any, steps: int | None):
        self._schedule, self._block_model, self._progress = schedule, block_model, progress
        self._steps, self.done = steps, 0

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self.done = 0

    def programs(self) -> Iterator[tuple]:
        """The keys of the programs that the rest of the epoch needs, in the order of need; one may come twice."""
        seen = set()
        for updates in self._coming():
            for i, update in enumerate(updates):
                if update.blocks is not None and (update, i == 0) not in seen:
                    seen.add((update, i == 0))
                    yield sharing(self._schedule, update), i == 0, self._schedule.rated

    def next_program(self) -> Any:
        """The next program that is not compiled yet, or None.

        None under state="drop", too: the slots that it would be traced with are not there.
        """
        programs = self._block_model.programs
        if self._schedule.state == "drop":
            return None
        return next((programs.get(key) for key in self.programs() if key not in programs), None)

    def are_alike(self, n: int) -> bool:
        """Whether each of the next n batches is one and the same Update, and no state or rate changes in them."""
        if self._steps is None or self._steps - self.done < n:
            return False
        coming = list(itertools.islice(self._coming(), n))
        if len(coming) < n:
            return False
        first, last = coming[0][0], self._progress.history.last
        for updates in coming:
            if updates != (first,):
                return False
            state_changes = self._schedule.state != "keep" and starts_visit(updates[0], last)
            if first.blocks is not None and (state_changes or self._schedule.rated):
                return False
            last = updates[0]
        return True

    def _coming(self) -> Iterator[tuple[Update, ...]]:
        if self._schedule.can_look or self._steps is None:
            return
        position = self._progress.position
        for ahead in range(min(self._steps - self.done, LOOK_AHEAD)):
            yield self._schedule.updates(position.epoch, position.step + ahead)


def sharing(schedule: Any, update: Update) -> tuple[Update, ...]:
    """The Updates that share a program with this one on this backend, itself included."""
    return schedule.sharing(update) if backend.SHARES and not update.by_blocks else (update,)
