"""Record: the runs of a comparison as they pile up, in memory and in a results folder."""

import collections
import functools
import itertools
import json
import os
import shlex
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from layerwise.comparison import frames, settings, timings, tuning
from layerwise.comparison.execute import execute
from layerwise.comparison.files import write_atomically
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.identity import holds
from layerwise.comparison.journal import Journal
from layerwise.comparison.result import Comparison
from layerwise.comparison.targets import Targets, rounds, settled, targeted
from layerwise.comparison.workers import Workers

SECONDS_BETWEEN_WRITES = 10


class Record:
    """The runs of a grid: those that a folder held already, and those that the journal gains.

    Args:
        grid: The comparison.
        journal: Where each run goes as soon as it is over.
        workers: Who carries out what is missing.
        folder: Where the frames are kept; `None` keeps them in memory.

    Raises:
        ValueError: If the folder or the journal holds runs of another comparison.
    """

    def __init__(self, grid: Grid, journal: Journal, workers: Workers, folder: Path | None = None):
        self.grid, self.journal, self.workers, self.folder = grid, journal, workers, folder
        if folder is None:
            self.done, self.done_curves = frames.run_frame([]), frames.curve_frame([])
            self.done_probes = frames.probe_frame([])
        else:
            self.done, self.done_curves = frames.read(folder)
            self.done_probes = frames.read_probes(folder)
        self._with_target: dict[tuple, dict] = {}
        self._targets: dict[Cell, tuple[int, Targets | None]] = {}
        self._written = 0.0
        if not self.done.empty or len(journal):
            self._check()

    def complete(self, verbose: int, timed: int = 0) -> Comparison:
        """Carries out the runs that are missing, times a run of each schedule so often, and returns the comparison."""
        if self.folder is not None:
            _note_settings(self.folder, self.grid, self.workers.count)
        journaled = {row["run_id"] for row in self.journal.rows()}
        done = [
            (row, self._done_curves.get(row["run_id"], self.done_curves[:0]))
            for row in self._done_rows
            if row["run_id"] not in journaled
        ]
        execute(self.grid, self.journal, done, self.workers, verbose, self.keep)
        runs, curves = self._frames(over=True)
        seconds = self._seconds(runs, timed, verbose)
        comparison = Comparison.of(runs, curves, self._probes(runs), seconds)
        if self.folder is not None:
            more = {"probes": comparison.probes} if self.grid.probes else {}
            frames.write(self.folder, runs=runs, curves=curves, summary=comparison.summary, **more)
        self.journal.clear()
        return comparison

    def keep(self, lazily: bool = False) -> None:
        """Writes runs and curves; `lazily` not right after the last time."""
        soon = lazily and time.monotonic() - self._written < SECONDS_BETWEEN_WRITES
        if self.folder is None or soon:
            return
        runs, curves = self._frames()
        if not runs.empty:
            more = {"probes": self._probes(runs)} if self.grid.probes else {}
            frames.write(self.folder, runs=runs, curves=curves, **more)
        self._written = time.monotonic()

    def _frames(self, over=False):
        """`(runs, curves)` of all runs so far, in the order of the grid; when all are over, of those that count."""
        rows = {row["run_id"]: row for row in self._rows()}
        curves = {**self._done_curves, **self.journal.curves()}
        none = frames.curve_frame([])
        entries = [(row, curves.get(name, none)) for name, row in rows.items()]
        of_cell = collections.defaultdict(list)
        for entry in entries:
            of_cell[Cell.of(entry[0])].append(entry)
        targets = {
            cell.task: self._targets_of(cell, of_cell[cell])
            for cell in self.grid.cells()
            if cell.schedule == self.grid.baseline
        }
        if over:
            counted = (
                _that_count(self.grid, cell, own, targets[cell.task])
                for cell, own in of_cell.items()
            )
            entries = list(itertools.chain.from_iterable(counted))
        ordered = []
        for row, curve in sorted(entries, key=lambda entry: self._place(entry[0])):
            own = targets[Cell.of(row).task]
            key = row["run_id"], row["tuned_for"], own
            if key not in self._with_target:
                self._with_target[key] = frames.with_target(row, curve, own)
            ordered.append(self._with_target[key])
        runs = frames.run_frame(ordered)
        found = [curves[run_id] for run_id in runs["run_id"] if run_id in curves]
        return runs, pd.concat(found, ignore_index=True) if found else none

    def _targets_of(self, cell, entries):
        """The targets of a task, from its baseline's runs: worked out again only where there are more of them."""
        known = self._targets.get(cell)
        if known is None or known[0] != len(entries):
            self._targets[cell] = known = len(entries), settled(self.grid, cell, entries)
        return known[1]

    def _seconds(self, runs, timed, verbose):
        """The timings there are, and those that are wanted."""
        known = timings.frame([]) if self.folder is None else timings.read(self.folder)
        if not timed:
            return known
        self.workers.rest()  # a timing run has the machine to itself

        def keep(found):
            if self.folder is not None:
                frames.write(self.folder, timings=found)

        return timings.take(
            self.grid, runs, known, timed, keep, print if verbose else lambda _: None
        )

    def _probes(self, runs):
        """What Probes measured in all runs so far."""
        found = {**dict(list(self.done_probes.groupby("run_id"))), **self.journal.probes()}
        known = [found[run_id] for run_id in runs["run_id"] if run_id in found]
        return pd.concat(known, ignore_index=True) if known else frames.probe_frame([])

    def _rows(self):
        """All runs so far; a run that is in both the folder and the journal comes twice."""
        return [*self._done_rows, *self.journal.rows()]

    @functools.cached_property
    def _done_rows(self):
        return self.done.to_dict("records")

    @functools.cached_property
    def _done_curves(self):
        return dict(list(self.done_curves.groupby("run_id")))

    @functools.cached_property
    def _places(self):
        return {cell: place for place, cell in enumerate(self.grid.cells())}

    def _place(self, row):
        cell = self._places[Cell.of(row)]
        setting = settings.key_of(settings.setting_of(row) | {"learning_rate": 0.0})
        phase = row["phase"] == "measure", row["tuned_for"] == "cost"
        return cell, phase, setting, row["learning_rate"], row["seed"]

    def _check(self):
        """Raises where the folder holds runs that are not of this comparison."""
        environment, rows = self.workers.environment, self._rows()
        others = [row for row in rows if not holds(self.grid, row, environment)]
        if others:
            raise ValueError(
                f"{self.folder} holds {len(others)} of {len(rows)} runs of another comparison, for "
                f"example {in_words(others[0])}; this "
                f"one has epochs={self.grid.epochs}, batch_size={self.grid.batch_size}, "
                f"seeds={self.grid.seeds}. Two comparisons are never "
                "mixed: give another results folder, or remove this one."
            )


def _that_count(grid, cell, entries, targets):
    """The runs of a cell, less tuning runs that no round asks for, and measured ones of a setting that is not chosen."""
    known, _ = rounds(grid, cell, entries, targets)
    yield from known
    chosen = tuning.chosen(targeted(known, targets), targets)
    purposes = {settings.key_of(setting): purpose for purpose, setting in chosen.items()}
    for row, curve in entries:
        if row["phase"] == "tune":
            continue
        if purpose := purposes.get(settings.key_of(settings.setting_of(row))):
            yield {**row, "tuned_for": purpose}, curve


def in_words(row: Mapping[str, Any] | pd.Series) -> str:
    """Which run a row of `runs` is about, for a message."""
    names = (*frames.KEY, "learning_rate", "epochs", "batch_size", "seed", "phase", "device")
    return ", ".join(f"{name}={row[name]!r}" for name in names)


def _note_settings(folder, grid, jobs):
    """Writes beside the frames how they came about: seconds depend on `jobs` and cores."""
    path = folder / "settings.json"
    sessions = json.loads(path.read_text())["sessions"] if path.exists() else []
    command = shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
    own = {"command": command, "host": socket.gethostname(), "process": os.getpid()}
    sessions.append({**frames.provenance(), **own, "jobs": jobs, "cores": os.cpu_count()})
    settings = {
        "experiment": grid.experiment,
        "datasets": {name: repr(data) for name, data in grid.datasets.items()},
        "models": list(grid.models),
        "schedules": {name: repr(make()) for name, make in grid.schedules.items()},
        "optimizers": list(grid.optimizers),
        "regularizers": grid.regularizers,
        "learning_rates": grid.learning_rates,
        "tuning_seeds": grid.tuning_seeds,
        "seeds": grid.seeds,
        "epochs": grid.epochs,
        "batch_size": grid.batch_size,
        "target": grid.target,
        "budget": grid.budget,
        "search": grid.search,
        "tuner": grid.tuner,
        "n_trials": grid.n_trials,
        "sessions": sessions,
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(settings, indent=2) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))
