"""Grid: what a comparison is made of, and the name that each of its runs goes by."""

import dataclasses
import functools
import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from layerwise.comparison import settings
from layerwise.comparison.checks import (
    check_grid,
    check_made,
    check_searched,
    check_target,
    check_unshared,
    check_weighted,
)
from layerwise.comparison.configs import as_text, config_of
from layerwise.comparison.data import Data
from layerwise.comparison.seeds import seeds_of
from layerwise.comparison.settings import Setting
from layerwise.comparison.tasks import Task
from layerwise.diagnostics import Probe
from layerwise.schedules import Schedule


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """One schedule on one model, dataset and optimizer: compiled once, tuned by itself."""

    dataset: str
    model: str
    regularizer: str
    optimizer: str
    schedule: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Cell":
        """The cell that a row of `runs` belongs to."""
        return cls(**{field.name: row[field.name] for field in dataclasses.fields(cls)})

    @property
    def task(self) -> tuple[str, str, str, str]:
        """What all schedules have in common in this cell: they share its target."""
        return self.dataset, self.model, self.regularizer, self.optimizer

    def __str__(self) -> str:
        return " · ".join([*(part for part in self.task if part != "none"), self.schedule])


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """Every cell of a comparison, and how it is run: the arguments of `layerwise.compare`."""

    experiment: str
    datasets: Mapping[str, Data]
    models: Mapping[str, Callable[..., keras.Model]]
    schedules: Mapping[str, Callable[[], Schedule]]
    optimizers: Mapping[str, Callable[..., keras.optimizers.Optimizer]]
    regularizers: tuple[str, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    tuning_seeds: int
    seeds: int
    epochs: int
    batch_size: int
    target: float | None = None
    loss: Any = None
    metric: Any = None
    budget: str = "flops"
    search: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    tuner: str = "grid"
    n_trials: int | None = None
    class_weight: Mapping[int, float] | None = None
    callbacks: Callable[[], list[keras.callbacks.Callback]] | None = None
    probes: tuple[Callable[[], Probe], ...] = ()
    first_seed: int = 0

    def __post_init__(self):
        check_grid(self)

    @property
    def baseline(self) -> str:
        """The name of the schedule that others are compared with."""
        return next(iter(self.schedules))

    def cells(self) -> list[Cell]:
        """Every cell, those of the baseline first."""
        return [
            Cell(dataset, model, regularizer, optimizer, schedule)
            for schedule, dataset, model, regularizer, optimizer in itertools.product(
                self.schedules, self.datasets, self.models, self.regularizers, self.optimizers
            )
        ]

    # --- what is tuned

    def values(self, cell: Cell) -> dict[str, tuple]:
        """`{argument: values}` that a cell is tuned over, before the grid extends itself.

        An argument that a schedule or optimizer does not have is not tuned for it; its learning rates lie as much
        denser, so that every schedule has the same number of trials.
        """
        own = self._values(cell)
        rates = settings.denser(own["learning_rate"], self._count(cell) // _others(own))
        return own | {"learning_rate": rates}

    def n_settings(self, cell: Cell) -> int:
        """How many settings tune a cell, before a grid extends itself."""
        return self.n_trials or self._count(cell)

    def trials(self, cell: Cell) -> list[tuple[Setting, int]]:
        """The settings and seeds that tune a cell, before the grid extends itself: as many for each schedule."""
        found = settings.product(self.values(cell))
        return list(itertools.product(found, seeds_of(self, "tune")))

    def n_runs(self) -> int:
        """Runs in all, before the grid extends itself and where one setting serves both ends."""
        tuning = (self.n_settings(cell) * self.tuning_seeds for cell in self.cells())
        return sum(tuning) + self.seeds * len(self.cells())

    def reference(self, cell: Cell) -> Setting:
        """The baseline's setting whose cost is the budget: the first of all values."""
        own = self._values(dataclasses.replace(cell, schedule=self.baseline))
        return {name: values[0] for name, values in own.items()}

    # --- what is made

    def model(self, cell: Cell, setting: Setting | None = None) -> keras.Model:
        """A new model of a cell, built, but not compiled."""
        given = settings.arguments_of(setting or {}, "model")
        if len(self.regularizers) > 1:
            given["regularizer"] = cell.regularizer
        try:
            model = check_made("models", cell.model, self.models[cell.model](**given))
        except TypeError as error:
            if given:
                error.add_note(f"models[{cell.model!r}] was called with {given}.")
            raise
        if not model.built:
            model(self.datasets[cell.dataset].sample()[0])
        return model

    def schedule(self, cell: Cell, setting: Setting | None = None) -> Schedule:
        """A new schedule of a cell."""

        def factory():
            return check_made("schedules", cell.schedule, self.schedules[cell.schedule]())

        return settings.made(factory, setting or {}, "schedule")

    def optimizer(
        self, cell: Cell, setting: Setting, steps: int | None = None
    ) -> keras.optimizers.Optimizer:
        """A new optimizer of a cell; one that asks for `steps` is told the batches of its run (else the baseline's)."""
        make, given = self.optimizers[cell.optimizer], [setting["learning_rate"]]
        if "steps" in inspect.signature(make).parameters:
            given.append(steps or self.epochs * self.steps_per_epoch(cell))

        def factory():
            return check_made("optimizers", cell.optimizer, make(*given))

        return settings.made(factory, setting, "optimizer")

    def task(self, cell: Cell, model: keras.Model) -> Task:
        """What is measured of a cell's model.

        Raises:
            ValueError: Loss or metric do not fit the model and the data.
        """
        return Task.of(model, self.datasets[cell.dataset], self.loss, self.metric)

    def steps_per_epoch(self, cell: Cell) -> int:
        """Batches of an epoch, whole ones only."""
        return self.datasets[cell.dataset].source.steps(self.batch_size)

    # --- what it is called

    def check(self) -> None:
        """Raises, before anything is trained, where something of the grid cannot be made or measured."""
        check_searched(self)
        for cell in self.cells():
            for setting, _ in self.trials(cell):
                self.config("schedule", cell, setting)
                self.config("optimizer", cell, setting)
                self.config("model", cell, setting)
        for dataset, model, regularizer in itertools.product(
            self.datasets, self.models, self.regularizers
        ):
            cell = Cell(dataset, model, regularizer, next(iter(self.optimizers)), self.baseline)
            self.steps_per_epoch(cell)
            made, again = (self.model(cell, self.reference(cell)) for _ in range(2))
            check_unshared(model, made, again)
            task = self.task(cell, made)
            if self.class_weight is not None:
                check_weighted(dataset, self.datasets[dataset].targets())
            if self.target is not None:
                check_target(self.target, task.name)

    def config(self, owner: str, cell: Cell, setting: Setting | None = None) -> str:
        """The config of a cell's schedule, optimizer or model, as text: equal for equal ones."""
        own = settings.arguments_of(setting or {}, owner)
        place = (cell.dataset, cell.model, cell.regularizer) if owner == "model" else ()
        rate = (setting or {}).get("learning_rate") if owner == "optimizer" else None
        key = "config", owner, getattr(cell, owner), place, rate, settings.key_of(own)
        if key not in self._made:
            made = getattr(self, owner)(cell, setting)
            config = made.get_config() if owner == "schedule" else config_of(made)
            kind = f"{type(made).__name__} " if owner == "schedule" else ""
            self._made[key] = kind + as_text(config)
        return self._made[key]

    def allows(self, cell: Cell, setting: Setting) -> bool:
        """Whether schedule, optimizer and model take a setting's values: no momentum beyond 1 is to be tried."""
        try:
            return all(self.config(owner, cell, setting) for owner in settings.OWNERS)
        except ValueError:
            return False

    def arguments(self, owner: str, cell: Cell) -> set[str]:
        """The arguments that a cell's schedule or optimizer has."""
        key = "arguments", owner, getattr(cell, owner)
        if key not in self._made:
            rate = {"learning_rate": float(self.learning_rates[cell.optimizer][0])}
            self._made[key] = set(getattr(self, owner)(cell, rate).get_config())
        return self._made[key]

    # --- inside

    def _values(self, cell):
        rates = tuple(map(float, self.learning_rates[cell.optimizer]))  # as frames hold them
        values: dict[str, Any] = {"learning_rate": rates}
        for name, tried in self.search.items():
            owner, _, argument = name.partition(".")
            if owner == "model" or argument in self.arguments(owner, cell):
                values[name] = tried
        return {name: tuple(tried) for name, tried in values.items()}

    def _count(self, cell):
        """As many settings as the schedule with most values has, or a few more, so that all have whole numbers of rates."""
        cells = (dataclasses.replace(cell, schedule=name) for name in self.schedules)
        each = [self._values(one) for one in cells]
        step = math.lcm(*map(_others, each))
        return -(-max(len(settings.product(own)) for own in each) // step) * step

    @functools.cached_property
    def _made(self):
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # A worker makes its own models.
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


def _others(values):
    """How many combinations there are of all but the learning rate."""
    return len(settings.product(values)) // len(values["learning_rate"])
