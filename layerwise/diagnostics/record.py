"""What a Probe has measured: tidy rows, saved and restored with the model."""

import json
from typing import Any

import numpy as np
import pandas as pd

from layerwise.diagnostics.frames import ALL

COLUMNS = ["epoch", "step", "update", "quantity", "block", "other", "measure", "value", "passes"]


def keys_of(found: pd.DataFrame) -> list[str]:
    """The columns that say what a row is about; the others are what was measured."""
    return found.attrs.get("by", [name for name in ("block", "other") if name in found.columns])


class Record:
    """The rows of a Probe.

    Attributes:
        step: Batches seen, over all epochs.
        latest: `{name: value}`: the last value of each scalar.
    """

    def __init__(self) -> None:
        self.step = 0
        self.latest: dict[str, float] = {}
        self._rows: list[list[Any]] = []

    @property
    def frame(self) -> pd.DataFrame:
        """All rows."""
        frame = pd.DataFrame(self._rows, columns=COLUMNS)
        return frame.astype({"value": "float64"}) if len(frame) else frame

    def measured(self, step: int) -> bool:
        """Whether something was measured at a step."""
        return bool(self._rows) and self._rows[-1][1] == step

    def add(
        self, place: tuple[int, int, int], quantity: str, found: pd.DataFrame, passes: int
    ) -> None:
        """Adds what a quantity found.

        Args:
            place: `(epoch, step, update)`.
            quantity: Its name.
            found: Its frame.
            passes: How many passes it took.
        """
        by = keys_of(found)
        measures = [name for name in found.columns if name not in by]
        for row in found.to_dict("records"):
            block = str(row["block"]) if "block" in by else ALL
            others = [row[name] for name in by if name != "block"]
            other = ", ".join(o if isinstance(o, str) else f"{o:g}" for o in others)
            for measure in measures:
                self._rows.append(
                    [*place, quantity, block, other, measure, float(row[measure]), passes]
                )
        if set(by) <= {"block"}:
            self._keep_latest(quantity, found, measures)

    def _keep_latest(self, quantity, found, measures):
        """Scalars for the logs: the row of "all" where there is one, else the mean over the blocks."""
        rows = found
        if "block" in found.columns:
            whole = found[found["block"] == ALL]
            rows = whole if len(whole) else found
        for measure in measures:
            self.latest[f"{quantity}/{measure}"] = float(np.mean(rows[measure]))

    # --- as a checkpoint beside the model

    def save(self, store: Any) -> None:
        """Writes into a store of arrays."""
        text = json.dumps({"step": self.step, "latest": self.latest, "rows": self._rows})
        store["record"] = np.frombuffer(text.encode(), "uint8")

    def load(self, store: Any) -> None:
        """Reads what `save` wrote; what was written without a Probe changes nothing."""
        if "record" not in store:
            return
        state = json.loads(bytes(np.array(store["record"])))
        self.step, self.latest, self._rows = state["step"], state["latest"], state["rows"]
