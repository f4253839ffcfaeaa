"""Targets: what the tuning runs of a cell lead to: the next ones, and the targets of its task, one a validation part."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from layerwise.comparison import frames, settings, tuning
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.settings import Setting

Targets = tuple[float, ...]
Entry = tuple[dict[str, Any], pd.DataFrame]  # a row of `runs` without its target, and its curve


def targeted(entries: Iterable[Entry], targets: Targets | None) -> pd.DataFrame:
    """Runs as the frame `runs`, with what it took to reach their target."""
    return frames.run_frame([frames.with_target(row, curve, targets) for row, curve in entries])


def rounds(
    grid: Grid, cell: Cell, entries: list[Entry], targets: Targets | None
) -> tuple[list[Entry], list[tuple[Setting, int]]]:
    """`(the tuning runs of a cell that count, those that can be carried out now, in any order)`: none are left when its
    tuning is over.

    The grid's rounds are gone through from the first one, so that the answer depends on which runs there are and not on
    when they came: what was interrupted goes on as if it had not been. Runs that no round asks for do not count, such as
    those of a folder that was gone on with more seeds, which led elsewhere.

    Args:
        grid: The grid.
        cell: One of its cells.
        entries: The runs of this cell that there are.
        targets: The targets of its task; the baseline's own runs set them and need none.
    """
    there = {key: entry for entry in entries if (key := trial_of(entry[0]))[0] == "tune"}
    known: list[Entry] = []
    while True:
        goals = goals_of(grid, cell, known, targets)
        trials = tuning.next_trials(grid, cell, targeted(known, goals), goals)
        keys = [("tune", settings.key_of(setting), seed) for setting, seed in trials]
        left = [trial for key, trial in zip(keys, trials, strict=True) if key not in there]
        if left or not trials:
            return known, left
        known += [there[key] for key in keys]


def trial_of(row: dict[str, Any]) -> tuple[str, str, int]:
    """`(phase, setting, seed)`: which run of its cell a row of `runs` is."""
    return row["phase"], settings.key_of(settings.setting_of(row)), int(row["seed"])


def goals_of(
    grid: Grid, cell: Cell, entries: list[Entry], targets: Targets | None = None
) -> Targets | None:
    """The targets that a cell goes by: the one given, for the baseline those of its tuning runs, else the task's."""
    if grid.target is not None:
        return (grid.target,)
    if cell.schedule != grid.baseline:
        return targets
    parts = grid.datasets[cell.dataset].folds or 1
    return tuning.targets_of(targeted(entries, None), parts) if entries else None


def settled(grid: Grid, baseline: Cell, entries: list[Entry]) -> Targets | None:
    """The targets of a task; `None` while its baseline's tuning is not over, or where none of these runs finished.

    Args:
        grid: The grid.
        baseline: The baseline's cell.
        entries: Its runs.
    """
    known, left = rounds(grid, baseline, entries, None)
    return None if grid.target is None and left else goals_of(grid, baseline, known)
