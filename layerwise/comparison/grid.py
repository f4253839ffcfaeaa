"""Grid: what a comparison is made of, and the name that each of its runs goes by."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import keras

from layerwise.comparison.configs import as_text, config_of
from layerwise.comparison.data import Data
from layerwise.comparison.seeds import FIRST_TUNING_SEED, seeds_of
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
    optimizers: Mapping[str, Callable[[float], keras.optimizers.Optimizer]]
    regularizers: tuple[str, ...]
    learning_rates: Mapping[str, tuple[float, ...]]
    tuning_seeds: int
    seeds: int
    epochs: int
    batch_size: int
    target: float | None
    loss: str | keras.losses.Loss | None

    def __post_init__(self):
        for name in ("tuning_seeds", "seeds", "epochs", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, got {value!r}.")
        if self.seeds > FIRST_TUNING_SEED:
            raise ValueError(f"seeds must be at most {FIRST_TUNING_SEED}, got {self.seeds}.")
        if self.target is not None and not 0 < self.target <= 1:
            raise ValueError(
                "target must be a validation accuracy between 0 and 1, or None, got "
                f"{self.target!r}."
            )
        for name in ("datasets", "models", "schedules", "optimizers"):
            _check_names(name, getattr(self, name))
        for name, data in self.datasets.items():
            _check_data(name, data, self.batch_size)
        if not self.regularizers or len(set(self.regularizers)) != len(self.regularizers):
            raise ValueError(f"regularizers must be different names, got {self.regularizers!r}.")
        for optimizer, rates in self.learning_rates.items():
            if not rates or len(set(rates)) != len(rates) or not all(rate > 0 for rate in rates):
                raise ValueError(
                    f"learning_rates must be different positive numbers, got {rates!r} for "
                    f"{optimizer!r}."
                )

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

    def trials(self, cell: Cell) -> list[tuple[float, int]]:
        """The learning rates and seeds that tune a cell: as many for each schedule."""
        return list(
            itertools.product(
                self.learning_rates[cell.optimizer], seeds_of("tune", self.tuning_seeds)
            )
        )

    def n_runs(self) -> int:
        """Runs in all."""
        return sum(len(self.trials(cell)) + self.seeds for cell in self.cells())

    def model(self, cell: Cell) -> keras.Model:
        """A new model of a cell, built, but not compiled."""
        build = self.models[cell.model]
        model = build(regularizer=cell.regularizer) if len(self.regularizers) > 1 else build()
        if not isinstance(model, keras.Model):
            raise TypeError(
                f"models[{cell.model!r}] must return a keras.Model, it returned "
                f"{type(model).__name__}."
            )
        if not model.built:
            model(self.datasets[cell.dataset].batch(slice(0, 1))[0])
        return model

    def steps_per_epoch(self, cell: Cell) -> int:
        """Batches of an epoch, whole ones only: which examples are left over changes."""
        return self.datasets[cell.dataset].sizes["train"] // self.batch_size

    def check(self) -> None:
        """Raises, before anything is trained, where something of the grid cannot be made."""
        for cell in self.cells():
            self._schedule_config(cell.schedule)
            self._model_config(cell.dataset, cell.model, cell.regularizer)
            for rate in self.learning_rates[cell.optimizer]:
                self._optimizer_config(cell.optimizer, rate)

    def run_ids(self, environment: Mapping[str, str]) -> set[str]:
        """The hashes of all runs that may become part of this comparison."""
        return {
            self.run_id(cell, rate, seed, phase, environment)
            for cell in self.cells()
            for phase, count in (("tune", self.tuning_seeds), ("measure", self.seeds))
            for rate in self.learning_rates[cell.optimizer]
            for seed in seeds_of(phase, count)
        }

    def run_id(
        self,
        cell: Cell,
        learning_rate: float,
        seed: int,
        phase: str,
        environment: Mapping[str, str],
    ) -> str:
        """The hash of all that determines a run's result."""
        identity = {
            "experiment": self.experiment,
            **dataclasses.asdict(cell),
            "learning_rate": float(learning_rate),
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "seed": int(seed),
            "phase": phase,
            **environment,
            "loss": as_text(config_of(self.loss)),
            "data": self.datasets[cell.dataset].fingerprint,
            "model_config": self._model_config(cell.dataset, cell.model, cell.regularizer),
            "optimizer_config": self._optimizer_config(cell.optimizer, learning_rate),
            "schedule_config": self._schedule_config(cell.schedule),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:24]

    @functools.cached_property
    def _configs(self):
        return {}

    def _model_config(self, dataset, model, regularizer):
        key = ("model", dataset, model, regularizer)
        if key not in self._configs:
            self._configs[key] = as_text(
                config_of(self.model(Cell(dataset, model, regularizer, "", "")))
            )
        return self._configs[key]

    def _optimizer_config(self, optimizer, learning_rate):
        key = ("optimizer", optimizer, learning_rate)
        if key not in self._configs:
            made = self.optimizers[optimizer](learning_rate)
            if not isinstance(made, keras.optimizers.Optimizer):
                raise TypeError(
                    f"optimizers[{optimizer!r}] must return a keras optimizer for a learning rate, "
                    "it returned "
                    f"{type(made).__name__}."
                )
            self._configs[key] = as_text(config_of(made))
        return self._configs[key]

    def _schedule_config(self, schedule):
        key = ("schedule", schedule)
        if key not in self._configs:
            made = self.schedules[schedule]()
            if not isinstance(made, Schedule):
                raise TypeError(
                    f"schedules[{schedule!r}] must return a layerwise.Schedule, it returned "
                    f"{type(made).__name__}."
                )
            self._configs[key] = f"{type(made).__name__} {as_text(made.get_config())}"
        return self._configs[key]


def _check_names(name, value):
    if not isinstance(value, Mapping) or not value:
        raise ValueError(
            f"{name} must be a dict {{name: entry}} with at least one entry, got {value!r}."
        )
    for key, entry in value.items():
        if not isinstance(key, str) or not key:
            raise ValueError(f"{name} must have names that are strings, got {key!r}.")
        if name != "datasets" and not callable(entry):
            raise TypeError(
                f"{name}[{key!r}] must be a callable that makes a new one for each cell, got "
                f"{type(entry).__name__}. Write lambda: ... around it."
            )


def _check_data(name, data, batch_size):
    if not isinstance(data, Data):
        raise TypeError(
            "data must be layerwise.Data(train=(x, y), validation=(x, y), test=(x, y)) or a dict "
            "of them, got "
            f"{type(data).__name__} for {name!r}."
        )
    if data.sizes["train"] < batch_size:
        raise ValueError(
            f"batch_size must be at most the {data.sizes['train']} training examples of {name!r}, "
            f"got {batch_size}."
        )
