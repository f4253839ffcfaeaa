"""What ran: visits and counts, recorded as it happens: nobody asks a schedule again what it would have done."""

import array
import collections
import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd

from layerwise.steps import Look, Loss, Update

COLUMNS = ("epoch", "step", "steps", "updates")


class History:
    """The record of one training.

    Attributes:
        counts: How often each distinct Update ran, and each Look was taken.
        last: The Update that ran last, or None.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter = collections.Counter()
        self.last: Update | None = None
        self._last_step = -1
        self._blocks: dict[Any, int] = {}  # the distinct sets of blocks that moved, numbered
        self._which = array.array("q")  # for each visit, the number of its set
        self._columns = {name: array.array("q") for name in COLUMNS}

    def record(self, update: Update, starts: bool, epoch: int, step: int) -> None:
        """An Update has run.

        Args:
            update: The Update.
            starts: Whether a visit began with it.
            epoch: Of its batch.
            step: Of its batch.
        """
        columns = self._columns
        if starts:
            self._which.append(self._blocks.setdefault(update.blocks, len(self._blocks)))
            for name, value in zip(COLUMNS, (epoch, step, 0, 0), strict=True):
                columns[name].append(value)
        columns["steps"][-1] += starts or step != self._last_step
        columns["updates"][-1] += 1
        self.counts[update] += 1
        self.last, self._last_step = update, step

    def visits(self, names: Any) -> pd.DataFrame:
        """A frame with one row per visit; `names(blocks)` gives the names of the blocks that moved."""
        known = [names(blocks) for blocks in self._blocks]
        frame = pd.DataFrame(
            {"visit": range(len(self._which)), "blocks": [known[i] for i in self._which]}
            | {name: np.array(values, "int64") for name, values in self._columns.items()}
        )
        return frame

    def state(self) -> dict[str, np.ndarray]:
        """`{name: array}` for a checkpoint."""
        described = {
            "blocks": list(self._blocks),
            "counts": [[_described(key), count] for key, count in self.counts.items()],
            "last": None if self.last is None else dataclasses.asdict(self.last),
        }
        arrays = {name: np.array(values, "int64") for name, values in self._columns.items()}
        return arrays | {
            "which": np.array(self._which, "int64"),
            "described": np.frombuffer(json.dumps(described).encode(), "uint8"),
        }

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> "History":
        """The history that `state` described."""
        history = cls()
        described = json.loads(bytes(state["described"]))
        blocks = [None if b is None else tuple(b) for b in described["blocks"]]
        history._blocks = {b: i for i, b in enumerate(blocks)}
        history._which = array.array("q", state["which"].tolist())
        history._columns = {name: array.array("q", state[name].tolist()) for name in COLUMNS}
        history.counts = collections.Counter(
            {_from_description(key): count for key, count in described["counts"]}
        )
        if described["last"] is not None:
            history.last = _update(described["last"])
        return history


def _described(key):
    return {"look": key.quantity} if isinstance(key, Look) else dataclasses.asdict(key)


def _from_description(description):
    return Look(description["look"]) if "look" in description else _update(description)


def _update(fields):
    blocks = fields["blocks"]
    return Update(
        blocks=None if blocks is None else tuple(blocks),
        losses=tuple(Loss(**loss) for loss in fields["losses"]),
        frozen_below=fields["frozen_below"],
        visit=fields["visit"],
        resident=tuple(fields["resident"]),
    )
