"""What was measured, as rows: a CSV file for each part, a row for each number, with where and when it was measured."""

from pathlib import Path

import pandas as pd

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


def add(folder: Path, part: str, rows: list[dict]) -> None:
    """Puts rows into a part's file, in place of those of the same backend, device and data type."""
    if not rows:  # there is nothing of this on that backend
        return
    new = frame(rows)
    old = read(folder, part)
    identity = list(IDENTITY)
    if len(old) and len(new):
        same = old.set_index(identity).index.isin(new.set_index(identity).index)
        new = pd.concat([old[~same], new]) if (~same).any() else new
    Path(folder).mkdir(parents=True, exist_ok=True)
    new.dropna(axis="columns", how="all").to_csv(path(folder, part), index=False)


def read(folder: Path, part: str) -> pd.DataFrame:
    """A part's rows, with all columns; none where it was not measured."""
    file = path(folder, part)
    return frame(pd.read_csv(file, dtype={"block": str}) if file.exists() else [])


def frame(rows: list[dict] | pd.DataFrame) -> pd.DataFrame:
    """Rows as a frame with `COLUMNS`."""
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def path(folder: Path, part: str) -> Path:
    """Where a part's rows are."""
    return Path(folder) / f"{part}.csv"
