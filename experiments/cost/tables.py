"""The tables: one CSV file a part, a row for each number, with what it was measured on and when."""

import json
from pathlib import Path

import pandas as pd

PARTS = ("steps", "switches", "programs", "memory", "greedy", "baselines")
IDENTITY = ("backend", "device", "dtype")
WHAT = ("network", "n_blocks", "block", "block_name", "every", "variant", "quantity")
NUMBERS = ("value", "low", "high", "unit", "repetitions")
ORIGIN = (
    "scale",
    "framework_version",
    "layerwise_version",
    "keras_version",
    "git_commit",
    "started_at",
)
COLUMNS = [*IDENTITY, *WHAT, *NUMBERS, *ORIGIN]


def read_rows(file):
    """The rows that a measuring process wrote."""
    return json.loads(Path(file).read_text())


def add(folder, part, rows):
    """Puts rows into a part's table, in place of those of the same backend, device and dtype."""
    new = pd.DataFrame(rows).reindex(columns=COLUMNS)
    old = read(folder, part)
    identity = list(IDENTITY)
    if len(old) and len(new):
        same = old.set_index(identity).index.isin(new.set_index(identity).index)
        new = pd.concat([old[~same], new]) if (~same).any() else new
    Path(folder).mkdir(parents=True, exist_ok=True)
    new.dropna(axis="columns", how="all").to_csv(Path(folder) / f"{part}.csv", index=False)


def read(folder, part):
    """A part's table, with all columns; empty where it was not measured."""
    path = Path(folder) / f"{part}.csv"
    frame = pd.read_csv(path, dtype={"block": str}) if path.exists() else pd.DataFrame()
    return frame.reindex(columns=COLUMNS)
