"""compare: a grid of schedules, models, data and optimizers, and what came of it."""

import dataclasses
import json
import os
import tempfile
import time
import warnings
from pathlib import Path

import keras
import pandas as pd

from layerwise.comparison import execution, frames, statistics, tables, tuning
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.journal import Journal
from layerwise.schedules import BlockCoordinate, GreedyLayerwise, Simultaneous

SCHEDULES = {
    "simultaneous": Simultaneous,
    "block-coordinate": BlockCoordinate,
    "greedy": GreedyLayerwise,
}
OPTIMIZERS = {"adam": lambda learning_rate: keras.optimizers.Adam(learning_rate)}
SECONDS_BETWEEN_WRITES = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What came of a comparison, as frames.

    Args:
        runs: One row a run, also one that diverged or failed.
        curves: One row per run, evaluation and split, the evaluation before training included.
        summary: One row per (dataset, model, schedule, optimizer, regularizer).
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame

    @classmethod
    def load(cls, folder):
        """The comparison that a folder holds.

        Raises:
            FileNotFoundError: If it holds none.
        """
        runs, curves = frames.read(folder)
        if runs.empty:
            raise FileNotFoundError(
                f"{folder} holds no runs.csv with runs: run the comparison first."
            )
        return cls.of(runs, curves)

    @classmethod
    def of(cls, runs, curves):
        """The comparison with its summary; the first schedule in `runs` is the baseline."""
        return cls(runs, curves, statistics.summarize(runs, runs["schedule"].iloc[0]))

    @property
    def baseline(self):
        """The schedule that others are compared with."""
        return self.runs["schedule"].iloc[0]

    def plot(self, folder):
        """Draws every figure into a folder, from the frames alone, and returns the paths."""
        from layerwise.comparison import figures  # pyplot loads with the first figure

        return figures.draw(self.runs, self.curves, self.baseline, folder)

    def table(self):
        """The answer as Markdown: the cost of reaching the target, and generalization."""
        return tables.markdown(self.runs, self.summary, self.baseline)

    def __repr__(self):
        statuses = self.runs["status"].value_counts()
        counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
        return f"Comparison of {len(self.runs)} runs ({counts})\n\n{self.table()}"


def compare(
    models,
    data,
    schedules=SCHEDULES,
    optimizers=OPTIMIZERS,
    regularizers=("none",),
    learning_rates=(1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    tuning_seeds=1,
    seeds=5,
    epochs=20,
    batch_size=64,
    target=None,
    *,
    loss=None,
    experiment="comparison",
    results=None,
    jobs=1,
    verbose=1,
):
    """Trains models under several schedules, so that the difference between them can be believed.

    Every schedule has the same tuning budget (learning rates x tuning seeds) on seeds that are not
    measured again; the best mean of best validation accuracy wins. All schedules of a task
    (dataset, model, regularizer, optimizer) share one target, set by the tuned baseline's tuning
    runs before anything is measured: its median best validation accuracy, less one percentage
    point. Seeds are paired: for a seed every schedule starts from the same weights and meets the
    same batches in the same order and the same split. The test part is reported and never used to
    choose.

    An epoch has whole batches only; which examples are left over changes with the order.
    Evaluations, one before training and one after each epoch, and first-call compilation are not
    training time. Losses are without regularizers. A greedy stage is evaluated through its own
    head. FLOPs are those of the traced programs, as the backend counts them.

    Args:
        models: A callable `() -> uncompiled keras.Model`, or `{"name": callable}`.
        data: A `Data`, or `{"name": Data}`.
        schedules: `{"name": () -> schedule}`; the first is the baseline.
        optimizers: `{"name": learning_rate -> keras optimizer}`.
        regularizers: Names; where there is more than one, models are called with
            `regularizer=name`.
        learning_rates: What is tried; a tuple for all optimizers, or `{"optimizer": tuple}`.
        tuning_seeds: Seeds for each learning rate tried.
        seeds: Seeds with the tuned learning rate.
        epochs: Epochs of every run.
        batch_size: Examples a batch.
        target: Validation accuracy to reach, between 0 and 1; `None`: from the tuned baseline.
        loss: A keras loss or its name; `None`: the cross-entropy that fits the model's outputs and
            the targets.
        experiment: A name that goes with every row.
        results: A folder for frames, written as runs end. With runs of the same comparison in it,
            only the others are carried out. `None` keeps all in memory.
        jobs: Processes side by side. Seconds are only comparable between runs with the same number
            of them.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: For an argument that makes no comparison, or a folder that holds another one.
        TypeError: For models, data, schedules or optimizers that are not what they should be.

    Example:
    >>> import keras, layerwise, numpy as np
    >>> def model():
    ...     layers = [keras.layers.Dense(8, "relu"), keras.layers.Dense(2)]
    ...     return keras.Sequential([keras.Input((4,)), *layers])
    >>> x = np.random.default_rng(0).normal(size=(96, 4)).astype("float32")
    >>> y = (x[:, 0] > 0).astype("int32")
    >>> data = layerwise.Data((x[:64], y[:64]), (x[64:80], y[64:80]), (x[80:], y[80:]))
    >>> schedules = {"simultaneous": layerwise.Simultaneous, "cyclic": layerwise.BlockCoordinate}
    >>> comparison = layerwise.compare(
    ...     model, data, schedules, learning_rates=(0.01,), seeds=2, epochs=2, batch_size=16,
    ...     verbose=0,
    ... )
    >>> comparison.runs.groupby("phase").size().to_dict()
    {'measure': 4, 'tune': 2}
    >>> comparison.summary[["schedule", "n_runs", "n_finished"]].values.tolist()
    [['simultaneous', 2, 2], ['cyclic', 2, 2]]
    """
    if isinstance(models, keras.Model):
        raise TypeError(
            "models must be a callable () -> keras.Model, or a dict of them, so that every run starts from new weights; "
            "got a model. Write a function that builds it."
        )
    grid = Grid(
        experiment=experiment,
        datasets=data if isinstance(data, dict) else {"data": data},
        models={getattr(models, "__name__", "model"): models} if callable(models) else models,
        schedules=schedules,
        optimizers=optimizers,
        regularizers=tuple(regularizers),
        learning_rates=_rates(learning_rates, optimizers),
        tuning_seeds=tuning_seeds,
        seeds=seeds,
        epochs=epochs,
        batch_size=batch_size,
        target=target,
        loss=loss,
    )
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs must be an int of at least 1, got {jobs!r}.")
    grid.check()
    if results is not None:
        return _Record(grid, Path(results), Path(results) / "unfinished", True).complete(
            jobs, verbose
        )
    with tempfile.TemporaryDirectory() as folder:
        return _Record(grid, None, Path(folder), False).complete(jobs, verbose)


class _Record:
    """The runs of a grid: those that a folder held already, and those that the journal gains."""

    def __init__(self, grid, folder, journal, kept):
        self.grid, self.folder, self.journal = grid, folder, Journal(journal)
        self.done, self.done_curves = frames.read(folder) if kept else frames.read(journal)
        self._with_target, self._written = {}, 0.0
        if not self.done.empty or len(self.journal):
            self._check()

    def complete(self, jobs, verbose):
        """Carries out what is missing, and returns the `Comparison`."""
        if self.folder is not None:
            self._note(jobs)
        journaled = {row["run_id"] for row in self.journal.rows()}
        done = self.done[~self.done["run_id"].isin(journaled)].to_dict("records")
        execution.execute(self.grid, self.journal, done, jobs, verbose, self.keep)
        comparison = Comparison.of(*self._frames())
        if self.folder is not None:
            frames.write(self.folder, summary=comparison.summary)
        self.journal.clear()
        self._warn(comparison.runs)
        return comparison

    def keep(self, lazily=False):
        """Writes runs and curves; `lazily` not right after the last time."""
        soon = lazily and time.monotonic() - self._written < SECONDS_BETWEEN_WRITES
        if self.folder is None or soon:
            return
        runs, curves = self._frames()
        if not runs.empty:
            frames.write(self.folder, runs=runs, curves=curves)
        self._written = time.monotonic()

    def _frames(self):
        """`(runs, curves)` of all runs so far, in the order of the grid."""
        rows = {row["run_id"]: row for row in [*self.done.to_dict("records"), *self.journal.rows()]}
        curves = {**dict(list(self.done_curves.groupby("run_id"))), **self.journal.curves()}
        targets = self._targets(frames.run_frame(rows.values()))
        ordered = []
        for row in sorted(rows.values(), key=self._place):
            target = targets.get(self._cell(row).task)
            key = row["run_id"], target
            if key not in self._with_target:
                self._with_target[key] = frames.with_target(row, curves[row["run_id"]], target)
            ordered.append(self._with_target[key])
        runs = frames.run_frame(ordered)
        found = [curves[run_id] for run_id in runs["run_id"]]
        return runs, pd.concat(found, ignore_index=True) if found else frames.curve_frame([])

    def _targets(self, runs):
        """`{task: target}`."""
        tasks = {
            cell.task: cell for cell in self.grid.cells() if cell.schedule == self.grid.baseline
        }
        if self.grid.target is not None:
            return dict.fromkeys(tasks, self.grid.target)
        targets = {}
        for task, cell in tasks.items():
            own = runs[
                (runs[frames.KEY] == [getattr(cell, name) for name in frames.KEY]).all(axis=1)
            ]
            n_tuned = int((own["phase"] == "tune").sum())
            targets[task] = (
                tuning.target_of(own) if n_tuned == len(self.grid.trials(cell)) else None
            )
        return targets

    def _cell(self, row):
        return Cell(**{name: row[name] for name in frames.KEY})

    def _place(self, row):
        if not hasattr(self, "_order"):
            self._order = {cell: place for place, cell in enumerate(self.grid.cells())}
        return (
            self._order[self._cell(row)],
            row["phase"] == "measure",
            row["learning_rate"],
            row["seed"],
        )

    def _check(self):
        """Raises where the folder holds runs that are not of this comparison."""
        known = self.grid.run_ids(frames.environment())
        rows = [*self.done.to_dict("records"), *self.journal.rows()]
        others = [row for row in rows if row["run_id"] not in known]
        if others:
            raise ValueError(
                f"{self.folder} holds {len(others)} of {len(rows)} runs of another comparison, for "
                f"example {self._about(others[0])}; this "
                f"one has epochs={self.grid.epochs}, batch_size={self.grid.batch_size}, "
                f"seeds={self.grid.seeds}. Two comparisons are never "
                "mixed: give another results folder, or remove this one."
            )

    @staticmethod
    def _about(row):
        names = (*frames.KEY, "learning_rate", "epochs", "batch_size", "seed", "phase", "device")
        return ", ".join(f"{name}={row[name]!r}" for name in names)

    def _note(self, jobs):
        """Writes beside the frames how they came about: seconds depend on `jobs` and cores."""
        path = self.folder / "settings.json"
        sessions = json.loads(path.read_text())["sessions"] if path.exists() else []
        sessions.append({**frames.provenance(), "jobs": jobs, "cores": os.cpu_count()})
        settings = {
            "experiment": self.grid.experiment,
            "datasets": {name: repr(data) for name, data in self.grid.datasets.items()},
            "models": list(self.grid.models),
            "schedules": {name: repr(make()) for name, make in self.grid.schedules.items()},
            "optimizers": list(self.grid.optimizers),
            "regularizers": self.grid.regularizers,
            "learning_rates": self.grid.learning_rates,
            "tuning_seeds": self.grid.tuning_seeds,
            "seeds": self.grid.seeds,
            "epochs": self.grid.epochs,
            "batch_size": self.grid.batch_size,
            "target": self.grid.target,
            "sessions": sessions,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(settings, indent=2) + "\n"
        frames.write_atomically(path, lambda temporary: temporary.write_text(text))

    def _warn(self, runs):
        failed = runs[runs["status"] == "failed"]
        if len(failed):
            warnings.warn(
                f"{len(failed)} of {len(runs)} runs failed. The first, {self._about(failed.iloc[0])}: "
                f"{failed['error'].iloc[0]} The others: comparison.runs[['schedule', 'error']].",
                stacklevel=4,
            )
        edges = [
            f"{self._cell(dict(zip(frames.KEY, key, strict=True)))} "
            f"({tuning.tuned_learning_rate(cell):g})"
            for key, cell in runs.groupby(frames.KEY, sort=False)
            if tuning.at_the_edge(cell)
        ]
        if edges:
            warnings.warn(
                "The tuned learning rate lies at the edge of those tried, so that a better one "
                f"may lie beyond, in {len(edges)} "
                f"cells: {'; '.join(edges)}. Try more learning_rates.",
                stacklevel=4,
            )


def _rates(learning_rates, optimizers):
    if not isinstance(learning_rates, (dict, tuple, list)):
        raise TypeError(
            f"learning_rates must be a tuple of numbers, or a dict of them by optimizer, got {learning_rates!r}."
        )
    if not isinstance(learning_rates, dict):
        return {name: tuple(learning_rates) for name in optimizers}
    if set(learning_rates) != set(optimizers):
        raise ValueError(
            f"learning_rates has entries for {sorted(learning_rates)}, optimizers are "
            f"{sorted(optimizers)}. Give "
            "one tuple for all, or one for each optimizer."
        )
    return {name: tuple(learning_rates[name]) for name in optimizers}
