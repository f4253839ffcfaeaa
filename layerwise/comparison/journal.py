"""Journal: every run is on disk as soon as it is over, whatever happens next."""

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.comparison import frames
from layerwise.comparison.files import write_atomically


class Journal:
    """A folder with one file per run, until the frames hold them all.

    Files are written whole, so that an interrupted or killed comparison keeps every run that was over. One that was
    damaged since is named in a warning and set aside, and its run is carried out again.

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

        write_atomically(self.folder / f"{row['run_id']}.json", write)

    def __len__(self) -> int:
        return len(self.rows())

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
        for path in [*self._files(), *self.folder.glob(".*.json.*")]:  # and what was half written
            path.unlink()
        if self.folder.exists() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self):
        return sorted(self.folder.glob("[!.]*.json")) if self.folder.exists() else []

    def _update(self):
        for path in self._files():
            if path.stem in self._read:
                continue
            try:
                entry = json.loads(path.read_text())
                row, curve = entry["row"], frames.curve_frame(pd.DataFrame(entry["curve"]))
                probes = frames.probe_frame(pd.DataFrame(entry.get("probes", {})))
                if row["run_id"] != path.stem:
                    raise ValueError(f"it holds the run {row['run_id']}")
            except (ValueError, KeyError, TypeError) as error:
                aside = path.replace(path.with_suffix(".damaged"))
                warnings.warn(
                    f"{path} is damaged ({type(error).__name__}: {error}). It was set aside as {aside.name}, and its run "
                    "is carried out again.",
                    stacklevel=2,
                )
                continue
            self._read[path.stem] = row, curve
            if len(probes):
                self._probes[path.stem] = probes


def _number(value):
    return None if value is pd.NA else value.item()
