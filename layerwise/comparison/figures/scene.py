"""The data of one task, as figures show it."""

import dataclasses
import functools

import pandas as pd

from layerwise.comparison import statistics, tuning
from layerwise.comparison.figures.looks import Look, family, looks
from layerwise.comparison.frames import metric_of, sign_of
from layerwise.comparison.timings import whose_seconds


@dataclasses.dataclass(frozen=True, eq=False)
class Scene:
    """The data of one task.

    Args:
        task: (dataset, model, regularizer, optimizer).
        runs: Its rows of `runs`.
        all_curves: The frame `curves`.
        baseline: The name of the baseline schedule.
        all_runs: The frame `runs`, whose schedules decide how each looks.
    """

    task: tuple[str, str, str, str]
    runs: pd.DataFrame
    all_curves: pd.DataFrame
    baseline: str
    all_runs: pd.DataFrame

    @functools.cached_property
    def measured(self) -> pd.DataFrame:
        """The measured runs, as tuned for score."""
        return tuning.of_purpose(self.runs, "score")

    @functools.cached_property
    def cheapest(self) -> pd.DataFrame:
        """The measured runs, as tuned for the cost of the target."""
        return tuning.of_purpose(self.runs, "cost")

    @functools.cached_property
    def tuned_for_cost(self) -> str:
        """Words on what the runs in `cheapest` were tuned for."""
        for _, rows in self.runs.groupby("schedule", sort=False):
            if not tuning.is_fastest_measured(rows):
                return "each tuned for score, where its fastest setting was not measured"
        return "each tuned for cost"

    @functools.cached_property
    def relative_costs(self) -> pd.DataFrame:
        """What reaching the target cost over the baseline's cost: see `statistics.relative_costs`."""
        return statistics.relative_costs(self.runs, self.baseline)

    @functools.cached_property
    def curves(self) -> pd.DataFrame:
        """The curves of the measured runs, with the columns `schedule` and `seed`."""
        return self.all_curves.merge(self.measured[["run_id", "schedule", "seed"]], on="run_id")

    @functools.cached_property
    def schedules(self) -> list[str]:
        """The names of the schedules with measured runs, the baseline first."""
        return list(dict.fromkeys(self.measured["schedule"]))

    @functools.cached_property
    def looks(self) -> dict[str, Look]:
        """`{schedule: Look}`."""
        return looks(list(dict.fromkeys(self.all_runs["schedule"])), self.baseline)

    @functools.cached_property
    def targets(self) -> list[float]:
        """The validation scores to reach, one for each validation part that differs; none if there is none."""
        return sorted(self.runs["target"].dropna().unique())

    @property
    def goal(self) -> str:
        """The target in words."""
        if not self.targets:
            return "the target"
        ends = dict.fromkeys(map(self.said, (self.targets[0], self.targets[-1])))
        return f"{' to '.join(ends)} validation {self.metric}"

    @property
    def metric(self) -> str:
        """What the score is, in words."""
        return metric_of(self.runs).replace("_", " ")

    @property
    def percent(self) -> bool:
        """Whether scores are shares that are shown in percent."""
        return "accuracy" in self.metric

    @property
    def seconds(self) -> str:
        """How seconds came about, for a heading."""
        whose = whose_seconds(self.runs)
        return "" if whose == "as trained" else f" Seconds are of runs {whose}."

    @property
    def sign(self) -> int:
        """1 where a greater score is better, else -1."""
        return sign_of(self.runs)

    def said(self, score: float) -> str:
        """A score as text."""
        return f"{score:.1%}" if self.percent else f"{score:.3g}"

    @property
    def n_seeds(self) -> int:
        """Measured seeds."""
        return self.measured["seed"].nunique()

    def __str__(self) -> str:
        return ", ".join(part for part in self.task if part != "none")

    def panels(self) -> dict[str, list[str]]:
        """Schedules shown together: all, where they are few; else the baseline and a family."""
        if len(self.schedules) <= 7:
            return {"": self.schedules}
        families: dict[str, list[str]] = {}
        for name in self.schedules:
            if name != self.baseline:
                families.setdefault(family(name), []).append(name)
        return {key: [self.baseline, *names] for key, names in families.items()}
