"""Journal: every run is on disk as soon as it is over, whoever ran it and whatever happens next."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.comparison import frames


class Journal:
    """A folder with one file per run, until the frames hold them all.

    Several processes write to it at once, each whole files only, so that an interrupted or killed
    comparison keeps every run that was over.

    Args:
        folder: Where the files go; made when first needed.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._read: dict[str, tuple[dict, pd.DataFrame]] = {}
        self._probes: dict[str, pd.DataFrame] = {}

    def add(
        self, row: dict[str, Any], curve: pd.DataFrame, probes: pd.DataFrame | None = None
    ) -> None:
        """Keeps a run: its row without the target, its curve, and what Probes measured."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = {"row": row, "curve": curve.to_dict("list")}
        if probes is not None and len(probes):
            entry["probes"] = probes.to_dict("list")

        def write(path):
            path.write_text(json.dumps(entry, default=_number))

        frames.write_atomically(self.folder / f"{row['run_id']}.json", write)

    def __getstate__(self) -> dict[str, Any]:
        # A worker only writes; what this process reads meanwhile must not be pickled while it grows.
        return {"folder": self.folder, "_read": {}, "_probes": {}}

    def __len__(self) -> int:
        return len(self._files())

    def rows(self) -> list[dict[str, Any]]:
        """The rows of all runs, as dicts."""
        self._update()
        return [row for row, _ in self._read.values()]

    def entries(self) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """The runs, each as its row and its curve."""
        self._update()
        return list(self._read.values())

    def curves(self) -> dict[str, pd.DataFrame]:
        """`{run_id: curve}`."""
        self._update()
        return {run_id: curve for run_id, (_, curve) in self._read.items()}

    def probes(self) -> dict[str, pd.DataFrame]:
        """`{run_id: what Probes measured}`, of the runs that had any."""
        self._update()
        return dict(self._probes)

    def clear(self) -> None:
        """Removes all files."""
        for path in self._files():
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self):
        return sorted(self.folder.glob("[!.]*.json")) if self.folder.exists() else []

    def _update(self):
        for path in self._files():
            if path.stem not in self._read:
                entry = json.loads(path.read_text())
                curve = frames.curve_frame(pd.DataFrame(entry["curve"]))
                self._read[path.stem] = entry["row"], curve
                if "probes" in entry:
                    self._probes[path.stem] = frames.probe_frame(pd.DataFrame(entry["probes"]))


def _number(value):
    return None if value is pd.NA else value.item()
