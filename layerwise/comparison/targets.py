"""Targets: what the tuning runs of a cell lead to: the next ones, and the target of its task."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from layerwise.comparison import frames, settings, tuning
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.settings import Setting

Entry = tuple[dict[str, Any], pd.DataFrame]  # a row of `runs` without its target, and its curve


def targeted(entries: Iterable[Entry], target: float | None) -> pd.DataFrame:
    """Runs as the frame `runs`, with what it took to reach a target."""
    return frames.run_frame([frames.with_target(row, curve, target) for row, curve in entries])


def trials_left(
    grid: Grid, cell: Cell, entries: list[Entry], target: float | None
) -> list[tuple[Setting, int]]:
    """The tuning runs of a cell that can be carried out now, in any order; none when its tuning is over.

    The grid's rounds are gone through from the first one, so that the answer depends on which runs there are and not on
    when they came: what was interrupted goes on as if it had not been.

    Args:
        grid: The grid.
        cell: One of its cells.
        entries: The runs of this cell that there are.
        target: The target of its task; the baseline's own runs set it and need none.
    """
    there = {key: entry for entry in entries if (key := trial_of(entry[0]))[0] == "tune"}
    known: list[Entry] = []
    while True:
        goal = goal_of(grid, cell, known, target)
        trials = tuning.next_trials(grid, cell, targeted(known, goal), goal)
        keys = [("tune", settings.key_of(setting), seed) for setting, seed in trials]
        left = [trial for key, trial in zip(keys, trials, strict=True) if key not in there]
        if left or not trials:
            return left
        known += [there[key] for key in keys]


def trial_of(row: dict[str, Any]) -> tuple[str, str, int]:
    """`(phase, setting, seed)`: which run of its cell a row of `runs` is."""
    return row["phase"], settings.key_of(settings.setting_of(row)), int(row["seed"])


def goal_of(
    grid: Grid, cell: Cell, entries: list[Entry], target: float | None = None
) -> float | None:
    """The target that a cell goes by: the one that was given, for the baseline that of its tuning runs, else the task's."""
    if grid.target is not None:
        return grid.target
    if cell.schedule != grid.baseline:
        return target
    return tuning.target_of(targeted(entries, None)) if entries else None


def settled(grid: Grid, baseline: Cell, entries: list[Entry]) -> float | None:
    """The target of a task; `None` while its baseline's tuning is not over, or where none of these runs finished.

    Args:
        grid: The grid.
        baseline: The baseline's cell.
        entries: Its runs.
    """
    if grid.target is None and trials_left(grid, baseline, entries, None):
        return None
    return goal_of(grid, baseline, entries)
