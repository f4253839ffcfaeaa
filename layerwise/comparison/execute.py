"""execute: how the cells of a grid are tuned and measured, in one process or several, and continued."""

import contextlib
import gc
import os
import threading
from collections.abc import Callable
from typing import Any

import joblib
import pandas as pd
import rich.console
import rich.progress

from layerwise.comparison import frames
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.journal import Journal
from layerwise.comparison.seeds import seeds_of
from layerwise.comparison.trainer import Trainer
from layerwise.comparison.tuning import tuned_learning_rate


def execute(
    grid: Grid,
    journal: Journal,
    done: list[dict[str, Any]],
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
        done: The rows of `runs` that there are already.
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
    with _Progress(grid, journal, len(done), verbose) as progress:
        try:
            for some, phases in rounds:
                before = [*done, *journal.rows()]
                tasks = [(cell, phases, _rows_of(before, cell)) for cell in some]
                for cell in _each(grid, journal, tasks, jobs, lambda: keep(lazily=True)):
                    keep()
                    if verbose and "measure" in phases:
                        line = _line(cell, [*done, *journal.rows()])
                        progress.console.print(line, highlight=False, soft_wrap=True)
        finally:
            keep()


def run_cell(
    grid: Grid,
    cell: Cell,
    phases: tuple[str, ...],
    done: list[dict[str, Any]],
    journal: Journal,
    over: Callable[[], None] | None = None,
) -> Cell:
    """Carries out the runs of one cell that are not done yet, in this process.

    Args:
        grid: The `Grid`.
        cell: A `Cell` of it.
        phases: Of "tune" and "measure".
        done: The rows of `runs` of this cell that there are already.
        journal: Where each run goes when it is over.
        over: Called after each run.

    Returns:
        The cell: the same for whoever waits for several.
    """
    trainer, rows = Trainer(grid, cell), list(done)
    environment = frames.environment()
    for phase in phases:
        if phase == "tune":
            trials = grid.trials(cell)
        else:
            rate = tuned_learning_rate(frames.run_frame(rows))
            trials = [(rate, seed) for seed in seeds_of("measure", grid.seeds)]
        for rate, seed in trials:
            run_id = grid.run_id(cell, rate, seed, phase, environment)
            if any(row["run_id"] == run_id for row in rows):
                continue
            identity = {
                "run_id": run_id,
                "experiment": grid.experiment,
                "dataset": cell.dataset,
                "model": cell.model,
                "schedule": cell.schedule,
                "optimizer": cell.optimizer,
                "regularizer": cell.regularizer,
                "learning_rate": rate,
                "batch_size": grid.batch_size,
                "epochs": grid.epochs,
                "seed": seed,
                "phase": phase,
                **environment,
                **frames.provenance(),
            }
            outcome = trainer.run(rate, seed)
            rows.append(frames.row_of(identity, outcome))
            journal.add(rows[-1], frames.curve_of(run_id, outcome))
            if over is not None:
                over()
    del trainer
    gc.collect()
    return cell


def _each(grid, journal, tasks, jobs, over):
    """Carries out tasks and yields each one's cell when it is over."""
    if jobs == 1:
        for cell, phases, done in tasks:
            yield run_cell(grid, cell, phases, done, journal, over)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with (
        _threads(threads),
        joblib.parallel_config(backend="loky", inner_max_num_threads=threads),
    ):
        parallel = joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")
        yield from parallel(
            joblib.delayed(run_cell)(grid, cell, phases, done, journal)
            for cell, phases, done in tasks
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


class _Progress(rich.progress.Progress):
    """A bar that follows the journal, which several processes write to."""

    def __init__(self, grid, journal, done, verbose):
        console = rich.console.Console()
        super().__init__(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
            disable=not verbose or not console.is_terminal,
        )
        self._bar = self.add_task(f"{grid.experiment}: runs", total=grid.n_runs())
        self._journal, self._done, self._over = journal, done, threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()
        return super().__enter__()

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()
        super().__exit__(*exception)

    def _follow(self):
        while not self._over.wait(0.5):
            self.update(self._bar, completed=self._done + len(self._journal))
        self.update(self._bar, completed=self._done + len(self._journal))


def _rows_of(rows, cell):
    return [row for row in rows if all(row[name] == getattr(cell, name) for name in frames.KEY)]


def _line(cell, rows):
    runs = pd.DataFrame(_rows_of(rows, cell))
    counts = runs[runs["phase"] == "measure"]["status"].value_counts()
    statuses = ", ".join(f"{count} {status}" for status, count in counts.items())
    rate = tuned_learning_rate(frames.run_frame(_rows_of(rows, cell)))
    return f"{cell}: learning rate {rate:g}; measured runs: {statuses}"
