"""Trainer: carries out the runs of one cell, and compiles once for all of them."""

import collections
import itertools
import time
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from layerwise.backends import backend
from layerwise.backends.seeding import default_seeds
from layerwise.comparison import settings
from layerwise.comparison.budget import Plan
from layerwise.comparison.configs import config_of
from layerwise.comparison.evaluator import Evaluators
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.outcome import Evaluation, Outcome, in_short
from layerwise.comparison.placement import stays_on_device
from layerwise.comparison.planner import Planner
from layerwise.comparison.seeds import derive
from layerwise.comparison.settings import Setting
from layerwise.training.resident import Resident


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Trainer:
    """One cell of a grid, ready to run with any setting and seed.

    Model, optimizer, schedule and all programs are made once. A run puts back the weights that the
    model is built with under the run's seed, the optimizer's variables as they were after `build`,
    the seeds of dropout, and the schedule's start. Where that is not enough (an optimizer that
    takes more than its learning rate from the learning rate; another learning-rate schedule;
    another argument of model or schedule), or after a run that raised, all is made anew.

    Args:
        grid: A `Grid`.
        cell: A `Cell` of it.
        planner: The `Planner` by which FLOPs are counted; `None`: one of its own.
        evaluators: The `Evaluators` that it shares with trainers of other cells; `None`: some of its own.
    """

    def __init__(
        self,
        grid: Grid,
        cell: Cell,
        planner: Planner | None = None,
        evaluators: Evaluators | None = None,
    ):
        self.grid, self.cell = grid, cell
        self._planner, self._evaluators = planner or Planner(grid), evaluators or Evaluators()
        self.source = grid.datasets[cell.dataset].source
        self.model: keras.Model = None  # until the first run
        self.schedule: Any = None
        self._evaluator: Any = None
        self._resident: Resident | None = None
        self._stays = False  # whether the data stays on the device, and an epoch is one loop
        self.builds = 0

    def run(self, setting: Setting, seed: int, plan: Plan, probed: bool = False) -> Outcome:
        """Trains once, for as long as planned, and returns the `Outcome`; what goes wrong is part of it.

        Args:
            setting: What is tuned.
            seed: The run's seed.
            plan: How long to train.
            probed: Whether the grid's Probes measure.
        """
        recorder, outcome = None, Outcome("failed")
        probes = [make() for make in self.grid.probes] if probed else []
        try:
            self._ready(setting, seed, plan.steps)
            outcome.metric, outcome.direction = self._task.name, self._task.direction
            recorder = _Recorder(
                self.schedule, self._evaluator, seed, self.grid.batch_size, outcome
            )
            recorder.steps_per_epoch, recorder.steps = self._steps, plan.steps
            recorder.probes = probes
            more = [*probes, *([] if self.grid.callbacks is None else self.grid.callbacks())]
            feed = self._epochs if self._stays and not _hear_batches(more) else self._batches
            batches, steps, holding = feed(seed, plan.steps)
            # The first to hear of an epoch: what a schedule does at its beginning is training.
            clock = keras.callbacks.LambdaCallback(on_epoch_begin=recorder.start)
            try:
                with warnings.catch_warnings():
                    # The last epoch may be cut short: the budget is spent.
                    warnings.filterwarnings("ignore", "Your input ran out of data")
                    self.model.fit(
                        batches,
                        steps_per_epoch=steps,
                        epochs=plan.epochs,
                        callbacks=[clock, self.schedule, *holding, recorder, *more],
                        shuffle=False,
                        verbose=0,
                    )
                outcome.status = "finished"
            except Diverged:
                outcome.status = "diverged"
            self._complete(outcome, self._planner.flops(self.cell, setting))
        except Exception as error:  # a run that fails is a result, and the others go on
            self.model = None
            outcome.status = "failed"
            outcome.error = in_short(error)
        outcome.probes = [probe.frame for probe in probes]
        return outcome

    def close(self) -> None:
        """Lets go of the model, the schedule and all programs."""
        self.model = self.schedule = self._evaluator = self._resident = None

    @property
    def _steps(self):
        return self.grid.steps_per_epoch(self.cell)

    def _ready(self, setting, seed, steps):
        weights = _initial_weights(self.grid, self.cell, setting, seed)
        optimizer = self.grid.optimizer(self.cell, setting, steps)
        if self.model is None or not self._serves(optimizer, setting):
            self._build(optimizer, setting)
        self.model.optimizer.iterations.assign(0)  # the blocks' step counts start from it
        self.schedule.restart(seed=derive("schedule", seed))
        for variable, value in self._state:
            variable.assign(value)
        if not _scheduled(optimizer):
            self.model.optimizer.learning_rate = float(optimizer.learning_rate)
        self.model.set_weights(weights)
        self.model.stop_training = False
        for place, variable in enumerate(_seed_states(self.model)):
            variable.assign(np.array([derive("dropout", seed, place), 0], variable.dtype))

    def _serves(self, optimizer, setting):
        """Whether what is in place becomes this one by setting the optimizer's learning rate."""
        same = _without_rate(optimizer) == self._optimizer_config
        return same and settings.without_rate(setting) == self._setting

    def _build(self, optimizer, setting):
        self.builds += 1
        self.model = self.grid.model(self.cell, setting)
        self._task = self.grid.task(self.cell, self.model)
        self.model.compile(optimizer=optimizer, loss=self._task.loss)
        self._optimizer_config, self._setting = (
            _without_rate(optimizer),
            settings.without_rate(setting),
        )
        self.model.optimizer.build(self.model.trainable_variables)
        state = _optimizer_state(self.model.optimizer)
        self._state = [(variable, np.array(variable.numpy())) for variable in state]
        self._evaluator = self._evaluators.of(self.source, self._task, self.model)
        self._resident, self._stays = None, stays_on_device(self.model, self.source)
        self.schedule = self.grid.schedule(self.cell, setting)

    def _epochs(self, seed, count):
        """What `fit` takes where the data lies on the device, for so many batches."""
        steps = self._steps
        if self._resident is None:
            batch = self.source.batch(slice(None))
            self._resident = Resident(self._weighted(batch), steps)
        counts = range(count, 0, -steps)  # what is left at the beginning of each epoch
        epochs = zip(self.source.epochs(seed, self.grid.batch_size), counts, strict=False)
        self._resident.epochs = (rows[:left] for rows, left in epochs)
        return self._resident.feed(self.model), 1, [self._resident]

    def _batches(self, seed, count):
        """What `fit` takes else: so many batches."""
        batches = itertools.islice(self.source.training(seed, self.grid.batch_size), count)
        return (self._weighted(batch) for batch in batches), self._steps, []

    def _weighted(self, batch):
        """A batch with the weights of its classes, which `fit` takes no notice of beside a generator."""
        weights = self.grid.class_weight
        return batch if weights is None else with_class_weight(batch, weights)

    def _complete(self, outcome, flops):
        """Adds what its Updates, and looks at a batch, took, and what the schedule knows after `fit`."""
        for evaluation in outcome.evaluations:
            counts = evaluation.counts.items()
            evaluation.flops = sum(count * flops(work) for work, count in counts)
        if outcome.best is not None:
            outcome.standard_error = self._evaluator.standard_error()
        outcome.compile_seconds = self.schedule.compile_seconds
        # A schedule without blocks of its own moves all layers as one.
        outcome.n_blocks = len(self.schedule.blocks) or 1
        outcome.optimizer_state_bytes = self.schedule.optimizer_state_bytes()


class _Recorder(keras.callbacks.Callback):
    """Evaluates before training and after each epoch, off the clock; callbacks after it see the validation part."""

    def __init__(self, schedule, evaluator, seed, batch_size, outcome):
        super().__init__()
        self.schedule, self.evaluator, self.seed = schedule, evaluator, seed
        self.batch_size, self.outcome, self.elapsed = batch_size, outcome, 0.0
        self.steps_per_epoch = self.steps = 0
        self.probes, self._probed = [], 0.0

    def on_train_begin(self, logs=None):
        self._evaluate(0)
        backend.seed(derive("training", self.seed))  # what Keras builds first may draw from it

    def start(self, epoch, logs=None):
        """Starts the clock of an epoch."""
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        before, self._probed = self._probed, sum(probe.seconds for probe in self.probes)
        self.elapsed += time.perf_counter() - self._started - (self._probed - before)
        logs = {} if logs is None else logs
        now = self._evaluate(epoch + 1)
        logs["val_loss"], logs[f"val_{self.outcome.metric}"] = now.scores["validation"]
        if not np.isfinite([logs.get("loss", 0.0), now.scores["train"][0]]).all():
            raise Diverged  # not stop_training, which a greedy schedule takes as the end of a stage

    def _evaluate(self, epoch):
        begun = time.perf_counter()
        _ = self.model  # on JAX this writes the trained values back into the model
        best = self.outcome.best
        evaluation = Evaluation(
            epoch=epoch,
            examples=min(epoch * self.steps_per_epoch, self.steps) * self.batch_size,
            train_seconds=max(0.0, self.elapsed - self.schedule.compile_seconds),
            counts=collections.Counter(self.schedule.counts),
            scores=self.evaluator(self.schedule.predict_on_batch, self.seed),
        )
        self.outcome.evaluations.append(evaluation)
        if self.outcome.best is not best:
            self.evaluator.keep()
        self.outcome.evaluation_seconds += time.perf_counter() - begun
        return evaluation


def _hear_batches(callbacks):
    """Whether any of some callbacks hears of single batches, so that they cannot go by in one call."""
    hooks = [f"on_{name}batch_{end}" for name in ("", "train_") for end in ("begin", "end")]
    stock = keras.callbacks.Callback
    return any(
        hook in vars(callback) or getattr(type(callback), hook) is not getattr(stock, hook)
        for callback in callbacks
        for hook in hooks
    )


def with_class_weight(batch: tuple[Any, ...], weights: Mapping[int, float]) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight)` where each example weighs as its class does, 1 where that has no weight.

    Example:
    >>> import numpy as np
    >>> from layerwise.comparison.trainer import with_class_weight
    >>> with_class_weight((None, np.array([0, 2, 1])), {2: 5.0})[2].tolist()
    [1.0, 5.0, 1.0]
    """
    x, y, *given = batch
    labels = y.argmax(axis=-1) if y.ndim > 1 and y.shape[-1] > 1 else y.reshape(len(y))
    factor = np.array([weights.get(int(label), 1.0) for label in labels], "float32")
    if given:
        factor = given[0] * factor.reshape(-1, *[1] * (given[0].ndim - 1))
    return x, y, factor


def _initial_weights(grid, cell, setting, seed):
    """What the model is built with under a seed: the same for every schedule and optimizer."""
    number = derive("weights", seed)
    backend.seed(number)
    with default_seeds(number):
        return grid.model(cell, setting).get_weights()


def _optimizer_state(optimizer):
    """Every variable of an optimizer, also one it keeps to itself (Nadam's running product)."""
    state = {id(variable): variable for variable in optimizer.variables}
    for part in (optimizer, getattr(optimizer, "inner_optimizer", None)):
        for value in vars(part).values() if part is not None else ():
            if isinstance(value, keras.Variable):
                state.setdefault(id(value), value)
    return list(state.values())


def _seed_states(model):
    """The states of dropout and other random layers, which are no weights."""
    return [v for v in model.variables if v.name == "seed_generator_state"]


def _without_rate(optimizer):
    """The config but for a learning rate that can be set: a schedule of it is part of the programs."""
    config = config_of(optimizer)
    if not _scheduled(optimizer):
        rule = config["config"].get("inner_optimizer", config)
        rule["config"].pop("learning_rate", None)
    return config


def _scheduled(optimizer):
    """Whether the learning rate is a schedule, which cannot be set."""
    rule = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    return isinstance(rule.get_config().get("learning_rate"), dict)
