"""Worker: carries out single runs of a grid, in whichever process it is."""

import contextlib
import ctypes
import dataclasses
import gc
import threading
from collections.abc import Mapping
from typing import Any

import cloudpickle
import pandas as pd

from layerwise.comparison import frames, settings
from layerwise.comparison.agenda import Run
from layerwise.comparison.budget import Plan
from layerwise.comparison.evaluator import Evaluators
from layerwise.comparison.grid import Grid
from layerwise.comparison.outcome import Outcome, in_short
from layerwise.comparison.planner import Planner
from layerwise.comparison.trainer import Trainer

# What is left of a run: a row of `runs` without its target, its curve, and what Probes measured.
Result = tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]


class Worker:
    """Carries out runs of a grid, and keeps the programs of the cell that it is at.

    Args:
        grid: The grid.
        jobs: How many workers there are, this one included.
        environment: The backend and device that runs are to have.
    """

    def __init__(self, grid: Grid, jobs: int, environment: Mapping[str, str]):
        self.grid, self.jobs, self._environment = grid, jobs, environment
        self._planner, self._evaluators = Planner(grid), Evaluators()
        self._trainer: Trainer | None = None

    def environment(self) -> dict[str, str]:
        """Backend and device of the process that this worker is in."""
        return frames.environment()

    def carry_out(self, run: Run) -> Result:
        """Carries out a run; what goes wrong in it is part of the result.

        Raises:
            ValueError: This process has another backend or device than the comparison.
        """
        if self.environment() != self._environment:
            raise ValueError(
                f"a worker has {self.environment()}, the comparison {self._environment}. Start all workers with the same "
                "KERAS_BACKEND and on devices of one kind."
            )
        try:
            plan = run.plan or self._planner.plan(run.cell, run.setting, run.seed)
        except Exception as error:  # a run that cannot be planned is a failed run
            return self.failed(run, in_short(error))
        outcome = self._at(run.cell).run(run.setting, run.seed, plan, run.phase == "measure")
        if outcome.compile_seconds:
            give_back()
        return self._result(run, plan, outcome)

    def failed(self, run: Run, error: str) -> Result:
        """The result of a run that did not come to train."""
        return self._result(run, Plan(self.grid.epochs, 0), Outcome("failed", error=error))

    def _at(self, cell):
        if self._trainer is None or self._trainer.cell != cell:
            if self._trainer is not None:
                self._trainer.close()
                gc.collect()
            self._trainer = Trainer(self.grid, cell, self._planner, self._evaluators)
        return self._trainer

    def _result(self, run, plan, outcome):
        identity = {
            "run_id": run.run_id,
            "experiment": self.grid.experiment,
            **dataclasses.asdict(run.cell),
            **settings.columns_of(run.setting),
            "batch_size": self.grid.batch_size,
            "epochs": plan.epochs,
            "budget": self.grid.budget,
            "planned_flops": plan.flops,
            "planned_seconds": plan.seconds,
            "seed": run.seed,
            "phase": run.phase,
            "tuned_for": run.tuned_for,
            "jobs": self.jobs,
            **self._environment,
            **frames.provenance(),
        }
        row, curve = frames.row_of(identity, outcome), frames.curve_of(run.run_id, outcome)
        return row, curve, frames.probes_of(run.run_id, outcome)


def give_back() -> None:
    """Gives memory that a compiler is done with back to the machine: glibc keeps it (2 GiB after a sweep of 32 layers)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


# --- a process that is told of a comparison once, and then of one run after another

_told: dict[str, tuple[Any, ...]] = {}  # what each comparison's worker is made of
_here: dict[str, Worker] = {}
_one_at_a_time = threading.Lock()


def begin(comparison: str, stored: bytes, jobs: int, environment: Mapping[str, str]) -> None:
    """Tells this process of a comparison; nothing is imported or made before its first run.

    Args:
        comparison: What it is known by.
        stored: The pickled grid, which holds the data.
        jobs: How many workers there are.
        environment: The backend and device that runs are to have.
    """
    _told[comparison] = stored, jobs, environment


def carry_out(run: Run, comparison: str) -> Result:
    """Carries out a run of a comparison in this process, which keeps its worker from run to run."""
    with _one_at_a_time:
        if comparison not in _here:
            stored, *arguments = _told[comparison]
            _here[comparison] = Worker(cloudpickle.loads(stored), *arguments)
        return _here[comparison].carry_out(run)


def end(comparison: str) -> None:
    """Lets go of all that this process has of a comparison."""
    _told.pop(comparison, None)
    _here.pop(comparison, None)
