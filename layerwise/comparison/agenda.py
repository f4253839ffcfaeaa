"""Agenda: which runs of a grid are over, under way and next."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping

from layerwise.comparison import settings, tuning
from layerwise.comparison.budget import Plan
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.identity import run_id
from layerwise.comparison.seeds import seeds_of
from layerwise.comparison.settings import Setting
from layerwise.comparison.targets import Entry, Targets, goals_of, rounds, targeted, trial_of


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a grid, as a worker is told of it.

    Args:
        run_id: The hash of all that determines its result.
        cell: The cell that it belongs to.
        setting: What is tuned.
        seed: The run's seed.
        phase: "tune" or "measure".
        tuned_for: "score" or "cost", of a measured run.
        plan: How long to train, where that is known already.
    """

    run_id: str
    cell: Cell
    setting: Setting
    seed: int
    phase: str
    tuned_for: str | None = None
    plan: Plan | None = None


class Agenda:
    """Hands out the runs of a grid, one at a time, to several workers.

    A cell goes through rounds: its grid is tried, extended where the best lies at an edge, and what is chosen is
    measured. The runs of a round depend on those of the rounds before and on the targets, not on one another. The
    baseline is tuned first, since its tuning sets the targets of its task.

    Args:
        grid: The grid.
        entries: The runs that are over already.
        environment: Backend and device of the workers.
    """

    def __init__(self, grid: Grid, entries: Iterable[Entry], environment: Mapping[str, str]):
        self.grid, self._environment = grid, environment
        self._entries: dict[Cell, list[Entry]] = {cell: [] for cell in grid.cells()}
        for entry in entries:
            self._entries[Cell.of(entry[0])].append(entry)
        self._open = dict.fromkeys(grid.cells())
        self._left: dict[Cell, list[Run]] = {cell: [] for cell in grid.cells()}  # of its round
        self._under_way = collections.Counter[Cell]()
        self._targets: dict[tuple, Targets | None] = {}  # of tasks whose baseline is tuned
        self._at: dict[int, Cell] = {}  # where each worker was last: there it has the programs

    def entries(self, cell: Cell) -> list[Entry]:
        """The runs of a cell that are over."""
        return self._entries[cell]

    def take(self, worker: int) -> Run | None:
        """The next run for a worker; `None` if there is none for now.

        It stays at its cell, then goes to one where nobody is, then helps where others are: programs are compiled once for
        each worker and cell.
        """
        own = self._at.get(worker)
        others = {cell for number, cell in self._at.items() if number != worker}
        for cell in sorted(self._open, key=lambda cell: (cell != own, cell in others)):
            if self._available(cell):
                self._at[worker] = cell
                self._under_way[cell] += 1
                run = self._left[cell].pop(0)
                return dataclasses.replace(run, plan=self._plan(cell, run.setting))
        return None

    def add(self, run: Run, entry: Entry) -> bool:
        """Takes note of a run that is over. Returns whether its cell is over with it."""
        self._under_way[run.cell] -= 1
        self._entries[run.cell].append(entry)
        self._available(run.cell)
        return run.cell not in self._open

    def put_back(self, run: Run) -> None:
        """Takes note of a run that has to be carried out again."""
        self._under_way[run.cell] -= 1
        self._left[run.cell].insert(0, run)

    def _available(self, cell):
        """Whether a run of a cell can be handed out; its next round begins when the one before is over."""
        if not self._under_way[cell]:
            if not self._left[cell] and self._is_ready(cell):
                self._left[cell] = self._next_round(cell)
        elif self.grid.budget == "seconds":
            return False  # the first run of a setting says how many epochs its seconds are
        return bool(self._left[cell])

    def _is_ready(self, cell):
        known = self.grid.target is not None or cell.task in self._targets
        return cell in self._open and (known or cell.schedule == self.grid.baseline)

    def _next_round(self, cell):
        entries, targets = self._entries[cell], self._targets.get(cell.task)
        known, trials = rounds(self.grid, cell, entries, targets)
        if trials:
            # Only another learning rate needs no other programs: what has them in common comes together.
            trials = sorted(trials, key=lambda trial: settings.without_rate(trial[0]))
            return [self._run(cell, setting, seed, "tune") for setting, seed in trials]
        goals = goals_of(self.grid, cell, known, targets)
        self._targets.setdefault(cell.task, goals)
        chosen = tuning.chosen(targeted(known, goals), goals)
        there = {trial_of(row) for row, _ in entries}
        runs = [
            self._run(cell, setting, seed, "measure", purpose)
            for purpose, setting in chosen.items()
            for seed in seeds_of(self.grid, "measure")
            if ("measure", settings.key_of(setting), seed) not in there
        ]
        if not runs:
            del self._open[cell]
        return runs

    def _run(self, cell, setting, seed, phase, purpose=None):
        name = run_id(self.grid, cell, setting, seed, phase, self._environment)
        return Run(name, cell, setting, seed, phase, purpose)

    def _plan(self, cell, setting):
        """The plan of an earlier run: measured seconds differ from time to time, and the first plan of a cell holds."""
        if self.grid.budget != "seconds":
            return None
        for row, _ in self._entries[cell]:
            same = settings.without_rate(settings.setting_of(row)) == settings.without_rate(setting)
            if same and row["status"] == "finished":
                return Plan.of(row, self.grid.batch_size, self.grid.steps_per_epoch(cell))
        return None
