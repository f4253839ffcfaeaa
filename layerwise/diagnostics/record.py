"""What a Probe has measured: tidy rows, saved and restored with the model."""

import json
from typing import Any

import numpy as np
import pandas as pd

COLUMNS = ["epoch", "step", "update", "quantity", "block", "other", "measure", "value", "passes"]
_KEYS = ("block", "other")
_PARAMETERS = ("multiple", "radius")


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
        # The first columns say what a row is about: blocks, or the multiple or radius that was asked for.
        keys = [name for name in (*_KEYS, *_PARAMETERS) if name in found.columns]
        if quantity == "best_multiple":
            keys = []  # its multiple is what it measures
        measures = [name for name in found.columns if name not in keys]
        for row in found.to_dict("records"):
            block = str(row.get("block", "all"))
            other = str(row["other"]) if "other" in row else ""
            for name in _PARAMETERS:
                if name in keys:
                    other = f"{row[name]:g}"
            for measure in measures:
                self._rows.append(
                    [*place, quantity, block, other, measure, float(row[measure]), passes]
                )
        self._keep_latest(quantity, found, keys, measures)

    def _keep_latest(self, quantity, found, keys, measures):
        """Scalars for the logs: the row of "all" where there is one, else the mean over the blocks."""
        if any(name != "block" for name in keys):
            return
        rows = found
        if "block" in found.columns:
            whole = found[found["block"] == "all"]
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
