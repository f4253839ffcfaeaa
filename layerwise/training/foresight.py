"""What the rest of an epoch will bring, as far as a schedule can say it beforehand."""

from collections.abc import Iterator
from typing import Any

from layerwise.backends import backend
from layerwise.steps import Update

LOOK_AHEAD = 1000  # batches whose programs are foreseen
STOCK: tuple = ((), True, False)  # the key of the model's own train step within an execution


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
                    yield step_key(self._schedule, update, i == 0)

    def next_program(self) -> Any:
        """The next program that is not compiled yet, or None.

        None under state="drop", too: the slots that it would be traced with are not there.
        """
        programs = self._block_model.programs
        if self._schedule.state == "drop":
            return None
        return next((programs.get(key) for key in self.programs() if key not in programs), None)

    def steps(self) -> Iterator[tuple]:
        """The keys of the steps that training will take, in the order of need, also after this epoch; some come again."""
        for updates in self._coming(across=True):
            for i, update in enumerate(updates):
                yield step_key(self._schedule, update, i == 0)

    @property
    def left(self) -> int | None:
        """Batches that are left of the epoch; None where that is not known."""
        return None if self._steps is None else max(0, self._steps - self.done)

    def _coming(self, across: bool = False) -> Iterator[tuple[Update, ...]]:
        if self._schedule.can_look or self.left is None:
            return
        position, left, steps = self._progress.position, self.left, self._steps or 1
        for ahead in range(LOOK_AHEAD if across else min(left, LOOK_AHEAD)):
            epoch = position.epoch + (0 if ahead < left else 1 + (ahead - left) // steps)
            if across and position.total is not None and epoch >= position.total:
                return
            try:
                updates = self._schedule.updates(epoch, position.step + ahead)
            except Exception:
                if not across:
                    raise
                return  # it raises at its step
            yield updates


def sharing(schedule: Any, update: Update) -> tuple[Update, ...]:
    """The Updates that share a program with this one on this backend, itself included."""
    return schedule.sharing(update) if backend.SHARES and not update.by_blocks else (update,)


def step_key(schedule: Any, update: Update, shows: bool) -> tuple:
    """The key of an Update's program: `(Updates that share it, whether it shows logs, whether it heeds rates)`.

    The model's own train step shows logs always and heeds no rates.
    """
    if update.blocks is None:
        return STOCK
    return sharing(schedule, update), shows, schedule.rated
