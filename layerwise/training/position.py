"""Where a schedule is: its own epoch and step, whatever Keras' epochs are."""

import dataclasses


@dataclasses.dataclass
class Position:
    """The position in training, counted from the schedule's start.

    Attributes:
        epoch: Epochs completed.
        step: Batches seen, over all epochs.
        offset: What is added to Keras' epoch, which is absolute also after a restore, to get the schedule's.
        total: Epochs from the start to the end of the first fit; None before it.
        restored: Whether the position comes from a checkpoint that the next epoch goes on from.
    """

    epoch: int = 0
    step: int = 0
    offset: int = 0
    total: int | None = None
    restored: bool = False

    def begin_fit(self, keras_epoch: int, keras_epochs: int) -> int:
        """At the first epoch of a fit: where the schedule will be at its end.

        Args:
            keras_epoch: The epoch that begins, in Keras' counting.
            keras_epochs: The epoch at which the fit ends.
        """
        if not self.restored:
            self.offset = self.epoch - keras_epoch
            if self.step == 0:  # a fit that ended before its first step has settled nothing
                self.total = None
        self.restored = False
        return self.offset + keras_epochs if self.total is None else self.total

    def begin_epoch(self, keras_epoch: int) -> None:
        """Takes the epoch from Keras' counting."""
        self.epoch = self.offset + keras_epoch

    def end_epoch(self, skipped: int) -> None:
        """An epoch is over, and so many of those planned after it are left out."""
        self.epoch += 1 + skipped
        self.offset += skipped

    def state(self, skipped: int) -> list[int]:
        """For a checkpoint at the end of an epoch, after which so many are left out."""
        return [self.offset + skipped, self.step, -1 if self.total is None else self.total]

    @classmethod
    def from_state(cls, state: list[int]) -> "Position":
        """The position that `state` described."""
        offset, step, total = (int(value) for value in state)
        return cls(step=step, offset=offset, total=None if total < 0 else total, restored=True)
