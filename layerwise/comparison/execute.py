"""execute: how the cells of a grid are tuned and measured, in one process or several, and continued."""

import collections
import contextlib
import dataclasses
import gc
import os
from collections.abc import Callable
from typing import Any

import joblib
import pandas as pd

from layerwise.comparison import frames, settings, tuning
from layerwise.comparison.budget import Plan
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.identity import run_id
from layerwise.comparison.journal import Journal
from layerwise.comparison.outcome import Outcome
from layerwise.comparison.planner import Planner
from layerwise.comparison.progress import Progress
from layerwise.comparison.seeds import seeds_of
from layerwise.comparison.trainer import Trainer

Entry = tuple[dict[str, Any], pd.DataFrame]  # a row of `runs` without its target, and its curve


def execute(
    grid: Grid,
    journal: Journal,
    done: list[Entry],
    jobs: int,
    verbose: int,
    keep: Callable[..., None],
) -> None:
    """Carries out every run of a grid that is not done yet, and journals it.

    The baseline is tuned first, since its tuning sets the target, before anything is measured. Then
    each cell is tuned and measured in one go, by one process, which compiles its programs once.

    Args:
        grid: A `Grid`.
        journal: A `Journal`.
        done: The runs that there are already.
        jobs: Processes that work side by side.
        verbose: Whether progress is shown.
        keep: Writes the frames: `keep()` when a cell is over, `keep(lazily=True)` when a run is.
    """
    cells = grid.cells()
    baselines = [cell for cell in cells if cell.schedule == grid.baseline]
    rounds: list[tuple[list[Cell], tuple[str, ...]]] = [
        (baselines, ("tune",)),
        (cells, ("tune", "measure")),
    ]
    # An interruption leaves through here, too: what is over is kept.
    with Progress(grid, journal, len(done), verbose) as progress:
        try:
            for some, phases in rounds:
                before = [*done, *journal.entries()]
                targets = {cell.task: settled(grid, cell, before) for cell in baselines}
                tasks = [
                    (cell, phases, _entries_of(before, cell), targets[cell.task]) for cell in some
                ]
                for cell in _each(grid, journal, tasks, jobs, lambda: keep(lazily=True)):
                    keep()
                    if verbose and "measure" in phases:
                        line = _line(cell, [*done, *journal.entries()])
                        progress.console.print(line, highlight=False, soft_wrap=True)
        finally:
            keep()


def run_cell(
    grid: Grid,
    cell: Cell,
    phases: tuple[str, ...],
    done: list[Entry],
    target: float | None,
    journal: Journal,
    over: Callable[[], None] | None = None,
    jobs: int = 1,
    planner: Planner | None = None,
) -> Cell:
    """Carries out the runs of one cell that are not done yet, in this process.

    Args:
        grid: The `Grid`.
        cell: A `Cell` of it.
        phases: Of "tune" and "measure".
        done: The runs of this cell that there are already.
        target: The score to reach; `None` where the baseline's tuning has not set it yet.
        journal: Where each run goes when it is over.
        over: Called after each run.
        jobs: How many processes work side by side.
        planner: What plans the runs; `None`: a new one.

    Returns:
        The cell: the same for whoever waits for several.
    """
    trainer, planner, entries = Trainer(grid, cell), planner or Planner(grid), list(done)
    environment = frames.environment()

    def carry_out(setting, seed, phase, tuned_for=None):
        name = run_id(grid, cell, setting, seed, phase, environment)
        if any(row["run_id"] == name for row, _ in entries):
            return
        plan, why = _plan(planner, cell, setting, entries)
        identity = {
            "run_id": name,
            "experiment": grid.experiment,
            **dataclasses.asdict(cell),
            **settings.columns_of(setting),
            "batch_size": grid.batch_size,
            "epochs": plan.epochs,
            "budget": grid.budget,
            "planned_flops": plan.flops,
            "seed": seed,
            "phase": phase,
            "tuned_for": tuned_for,
            "jobs": jobs,
            **environment,
            **frames.provenance(),
        }
        probed = phase == "measure"
        outcome = Outcome("failed", error=why) if why else trainer.run(setting, seed, plan, probed)
        entries.append((frames.row_of(identity, outcome), frames.curve_of(name, outcome)))
        journal.add(*entries[-1], frames.probes_of(name, outcome))
        if over is not None:
            over()

    def goal():
        is_baseline = cell.schedule == grid.baseline and grid.target is None
        return provisional(grid, cell, entries) if is_baseline else target

    if "tune" in phases:
        while trials := tuning.pending(grid, cell, targeted(entries, goal()), goal()):
            # Only another learning rate needs no other programs: what has them in common comes together.
            for setting, seed in sorted(trials, key=lambda trial: settings.without_rate(trial[0])):
                carry_out(setting, seed, "tune")
    if "measure" in phases:
        for purpose, setting in tuning.chosen(targeted(entries, goal()), goal()).items():
            for seed in seeds_of("measure", grid.seeds):
                carry_out(setting, seed, "measure", purpose)
    trainer.close()
    gc.collect()
    return cell


def targeted(entries: list[Entry], target: float | None) -> pd.DataFrame:
    """Runs as the frame `runs`, with what it took to reach a target."""
    return frames.run_frame([frames.with_target(row, curve, target) for row, curve in entries])


def provisional(grid: Grid, cell: Cell, entries: list[Entry]) -> float | None:
    """The target as the baseline's tuning runs have it so far; `None` before the grid is tried."""
    if grid.target is not None:
        return grid.target
    runs = targeted(_entries_of(entries, cell), None)
    tried = {(settings.key_of(settings.setting_of(r)), r["seed"]) for _, r in runs.iterrows()}
    whole = all((settings.key_of(s), seed) in tried for s, seed in grid.trials(cell))
    return tuning.target_of(runs) if whole else None


def settled(grid: Grid, cell: Cell, entries: list[Entry]) -> float | None:
    """The target of a task, `None` while its baseline's tuning is not over.

    Args:
        grid: The grid.
        cell: The baseline's cell.
        entries: Runs of all cells.
    """
    target, own = provisional(grid, cell, entries), _entries_of(entries, cell)
    if target is None or grid.target is not None:
        return target
    return None if tuning.pending(grid, cell, targeted(own, target), target) else target


def _plan(planner, cell, setting, entries):
    """`(plan, why there is none)`. Measured seconds differ from time to time: the first plan of a cell holds."""
    if planner.grid.budget == "seconds":
        for row, _ in entries:
            own = settings.setting_of(row) | {"learning_rate": 0.0}
            same = settings.key_of(own) == settings.key_of(setting | {"learning_rate": 0.0})
            if same and row["status"] == "finished":
                steps = row["examples"] // planner.grid.batch_size
                return Plan(int(row["epochs"]), int(steps), int(row["planned_flops"])), ""
    try:
        return planner.plan(cell, setting), ""
    except Exception as error:  # a run that cannot be planned is a failed run, and the others go on
        why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        return Plan(planner.grid.epochs, 0), why


def _each(grid, journal, tasks, jobs, over):
    """Carries out tasks and yields each one's cell when it is over."""
    if jobs == 1:
        planner = Planner(grid)
        for cell, phases, done, target in tasks:
            yield run_cell(grid, cell, phases, done, target, journal, over, planner=planner)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with (
        _threads(threads),
        joblib.parallel_config(backend="loky", inner_max_num_threads=threads),
    ):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        yield from parallel(
            joblib.delayed(run_cell)(grid, cell, phases, done, target, journal, jobs=jobs)
            for cell, phases, done, target in tasks
        )


@contextlib.contextmanager
def _threads(count):
    """Processes started in this context use `count` threads: frameworks read it when they load."""
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    new = [name for name in names if name not in os.environ]
    os.environ.update(dict.fromkeys(new, str(count)))
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]


def _entries_of(entries, cell):
    return [entry for entry in entries if Cell.of(entry[0]) == cell]


def _line(cell, entries):
    rows = [row for row, _ in _entries_of(entries, cell) if row["phase"] == "measure"]
    statuses = ", ".join(
        f"{count} {status}"
        for status, count in collections.Counter(r["status"] for r in rows).items()
    )
    used = {row["tuned_for"]: settings.in_words(settings.setting_of(row)) for row in rows}
    chosen = "; ".join(f"for {purpose}: {words}" for purpose, words in used.items())
    return f"{cell}: tuned {chosen}; measured runs: {statuses}"
