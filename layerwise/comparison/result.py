"""Comparison: what came of a comparison."""

import dataclasses
import functools
from pathlib import Path

import pandas as pd

from layerwise.comparison import audit, frames, markdown, statistics, timings


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """What came of a comparison, as frames.

    Args:
        runs: One row a run, also one that diverged or failed; its seconds are those of the grid.
        curves: One row per run, evaluation and split, the evaluation before training included.
        summary: One row per (dataset, model, schedule, optimizer, regularizer); its seconds are those of timing runs,
            where there are any.
        relative_costs: What reaching the target cost over the baseline's cost: see `statistics.relative_costs`.
        probes: What the Probes of measured runs found: `run_id`, and the columns of a Probe's frame.
        timings: Seconds of timing runs, alone on the machine: one row per timed run, repetition and epoch.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    summary: pd.DataFrame
    relative_costs: pd.DataFrame
    probes: pd.DataFrame = dataclasses.field(default_factory=lambda: frames.probe_frame([]))
    timings: pd.DataFrame = dataclasses.field(default_factory=lambda: timings.frame([]))

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """The comparison that a folder holds.

        Raises:
            FileNotFoundError: If it holds none.
        """
        runs, curves = frames.read(folder)
        if runs.empty:
            raise FileNotFoundError(
                f"{folder} holds no runs.csv with runs: run the comparison first."
            )
        return cls.of(runs, curves, frames.read_probes(folder), timings.read(folder))

    @classmethod
    def of(
        cls,
        runs: pd.DataFrame,
        curves: pd.DataFrame,
        probes: pd.DataFrame | None = None,
        timed: pd.DataFrame | None = None,
    ) -> "Comparison":
        """The comparison with its summary; the first schedule in `runs` is the baseline."""
        timed = timings.frame([] if timed is None else timed)
        clocked, _ = timings.applied(runs, curves, timed)
        baseline = runs["schedule"].iloc[0]
        relative = statistics.relative_costs(clocked, baseline)
        summary = statistics.summarize(clocked, baseline, relative)
        probes = frames.probe_frame([] if probes is None else probes)
        return cls(runs, curves, summary, relative, probes, timed)

    @property
    def baseline(self) -> str:
        """The schedule that others are compared with."""
        return self.runs["schedule"].iloc[0]

    @functools.cached_property
    def timed(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """`(runs, curves)` with the seconds of timing runs, where there are any, in place of the grid's."""
        return timings.applied(self.runs, self.curves, self.timings)

    @property
    def seconds_per_update(self) -> pd.DataFrame:
        """What an Update of each schedule takes, alone on the machine, and over one of the baseline's."""
        return timings.seconds_per_update(self.runs, self.timings, self.baseline)

    def audit(self) -> list[str]:
        """What these runs cannot claim, a sentence for each finding: see `audit.audit`."""
        return audit.audit(self.runs)

    def plot(self, folder: str | Path) -> list[Path]:
        """Draws every figure into a folder, from the frames alone, and returns the paths."""
        from layerwise.comparison import figures  # pyplot loads with the first figure

        return figures.draw(*self.timed, self.baseline, folder)

    def table(self) -> str:
        """The answer as Markdown: the cost of reaching the target, and generalization."""
        return markdown.table(self.timed[0], self.summary, self.relative_costs, self.baseline)

    def __repr__(self) -> str:
        statuses = self.runs["status"].value_counts()
        counts = ", ".join(f"{count} {status}" for status, count in statuses.items())
        return f"Comparison of {len(self.runs)} runs ({counts})\n\n{self.table()}"
