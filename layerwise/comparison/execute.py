"""execute: every run of a grid that is not done yet is given to a worker, and journaled when it is over."""

import collections
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait

from layerwise.comparison import settings
from layerwise.comparison.agenda import Agenda, Run
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.journal import Journal
from layerwise.comparison.outcome import in_short
from layerwise.comparison.progress import Progress
from layerwise.comparison.targets import Entry
from layerwise.comparison.worker import Worker
from layerwise.comparison.workers import Workers

LOSSES = 5  # so many workers may be lost with a run before it counts as failed


def execute(
    grid: Grid,
    journal: Journal,
    done: list[Entry],
    workers: Workers,
    verbose: int,
    keep: Callable[..., None],
) -> None:
    """Carries out every run of a grid that is not done yet, and journals it.

    A run that is lost with its worker is carried out again.

    Args:
        grid: A `Grid`.
        journal: Where each run goes when it is over.
        done: The runs that are over already and not in the journal.
        workers: Who carries runs out.
        verbose: Whether progress is shown.
        keep: Writes the frames: `keep(lazily=True)` when a run is over, `keep()` at the end, also of what is interrupted.
    """
    done = [*done, *journal.entries()]
    agenda = Agenda(grid, done, workers.environment)
    losses = collections.Counter[str]()
    under_way: dict[Future, tuple[int, Run]] = {}
    idle = list(range(workers.count))
    with Progress(grid.experiment, grid.n_runs(), len(done), verbose) as progress:
        try:
            while True:
                for number in list(idle):
                    run = agenda.take(number)
                    if run is not None:
                        under_way[workers.submit(number, run)] = number, run
                        idle.remove(number)
                keep(lazily=True)  # while all have something to do
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    number, run = under_way.pop(future)
                    idle.append(number)
                    try:
                        row, curve, probes = future.result()
                    except workers.lost as error:
                        losses[run.run_id] += 1
                        if losses[run.run_id] < LOSSES:
                            agenda.put_back(run)
                            continue
                        own = Worker(grid, workers.count, workers.environment)
                        why = f"{LOSSES} workers died of it or at it; the last: {in_short(error)}"
                        row, curve, probes = own.failed(run, why)
                    journal.add(row, curve, probes)
                    progress.one_more()
                    if agenda.add(run, (row, curve)) and verbose:
                        line = _line(run.cell, agenda.entries(run.cell))
                        progress.console.print(line, highlight=False, soft_wrap=True)
        finally:
            keep()


def _line(cell: Cell, entries: list[Entry]) -> str:
    rows = [row for row, _ in entries if row["phase"] == "measure"]
    statuses = ", ".join(
        f"{count} {status}"
        for status, count in collections.Counter(r["status"] for r in rows).items()
    )
    used = {row["tuned_for"]: settings.in_words(settings.setting_of(row)) for row in rows}
    chosen = "; ".join(f"for {purpose}: {words}" for purpose, words in used.items())
    return f"{cell}: tuned {chosen}; measured runs: {statuses}"
