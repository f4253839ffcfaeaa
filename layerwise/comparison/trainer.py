"""Trainer: carries out the runs of one cell, and compiles once for all of them."""

import collections
import time

import keras
import numpy as np

from layerwise.comparison.configs import config_of
from layerwise.comparison.evaluator import Evaluator, classification_loss, per_example
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.outcome import Evaluation, Outcome
from layerwise.comparison.seeds import derive


class Diverged(Exception):
    """The loss is no longer a finite number."""


class Trainer:
    """One cell of a grid, ready to run with any learning rate and seed.

    Model, optimizer, schedule and all programs are made once. A run puts back the weights that the
    model is built with under the run's seed, the optimizer's variables as they were after `build`,
    the seeds of dropout, and the schedule's start. Where that is not enough (an optimizer that
    takes more than its learning rate from the learning rate, or one with a learning-rate schedule),
    or after a run that raised, all is made anew.

    Args:
        grid: A `Grid`.
        cell: A `Cell` of it.
    """

    def __init__(self, grid: Grid, cell: Cell):
        self.grid, self.cell = grid, cell
        self.data = grid.datasets[cell.dataset]
        self.model: keras.Model = None  # until the first run
        self.builds = 0

    def run(self, learning_rate: float, seed: int) -> Outcome:
        """Trains once and returns the `Outcome`; what goes wrong is part of it."""
        recorder = None
        try:
            self._ready(learning_rate, seed)
            splits = self.data.splits(seed)
            recorder = _Recorder(self.schedule, self._evaluator, splits, self._examples)
            keras.utils.set_random_seed(derive("training", seed))
            try:
                self.model.fit(
                    self._batches(splits["train"], seed),
                    steps_per_epoch=self.grid.steps_per_epoch(self.cell),
                    epochs=self.grid.epochs,
                    callbacks=[self.schedule, recorder],
                    shuffle=False,
                    verbose=0,
                )
                outcome = Outcome("finished")
            except Diverged:
                outcome = Outcome("diverged")
            self._complete(outcome, recorder)
        except Exception as error:  # a run that fails is a result, and the others go on
            self.model = None
            text = " ".join(f"{type(error).__name__}: {error}".split())
            evaluations = recorder.evaluations if recorder else []
            outcome = Outcome("failed", error=text[:500], evaluations=evaluations)
        return outcome

    @property
    def _examples(self):
        return self.grid.steps_per_epoch(self.cell) * self.grid.batch_size

    def _ready(self, learning_rate, seed):
        weights = _initial_weights(self.grid, self.cell, seed)
        optimizer = self.grid.optimizers[self.cell.optimizer](learning_rate)
        if self.model is None or not self._serves(optimizer):
            self._build(optimizer)
        self.model.optimizer.iterations.assign(0)  # the blocks' step counts start from it
        self.schedule.restart(seed=derive("schedule", seed))
        for variable, value in self._state:
            variable.assign(value)
        if not _scheduled(optimizer):
            self.model.optimizer.learning_rate = learning_rate
        self.model.set_weights(weights)
        for place, variable in enumerate(_seed_states(self.model)):
            variable.assign(np.array([derive("dropout", seed, place), 0], variable.dtype))

    def _serves(self, optimizer):
        """Whether the optimizer in place becomes this one by setting its learning rate."""
        return not _scheduled(optimizer) and _without_rate(optimizer) == self._optimizer_config

    def _build(self, optimizer):
        self.builds += 1
        self.model = self.grid.model(self.cell)
        loss = self.grid.loss
        loss = (
            classification_loss(self.model, self.data) if loss is None else keras.losses.get(loss)
        )
        self.model.compile(optimizer=optimizer, loss=loss)
        self._optimizer_config = _without_rate(optimizer)
        self.model.optimizer.build(self.model.trainable_variables)
        state = _optimizer_state(self.model.optimizer)
        self._state = [(variable, np.array(variable.numpy())) for variable in state]
        self._evaluator = Evaluator(self.data, per_example(loss))
        self.schedule = self.grid.schedules[self.cell.schedule]()

    def _batches(self, rows, seed):
        """Batches without end: each epoch has its own order, which depends on the seed and the
        epoch alone.

        A generator costs half as much a step as a `keras.utils.PyDataset` (1.3 against 2.7 ms on a
        small dense net).
        """
        size, epoch = self.grid.batch_size, 0
        while True:
            order = np.random.default_rng(derive("order", seed, epoch)).permutation(rows)
            for start in range(0, self._examples, size):
                yield self.data.batch(order[start : start + size])
            epoch += 1

    def _complete(self, outcome, recorder):
        """Adds what the schedule knows after `fit`."""
        batch = self.data.batch(slice(0, self.grid.batch_size))
        for evaluation in recorder.evaluations:
            evaluation.flops = sum(
                count * self.schedule.flops(work, *batch)
                for work, count in evaluation.counts.items()  # Updates, and looks at a batch
            )
        outcome.evaluations = recorder.evaluations
        outcome.compile_seconds = self.schedule.compile_seconds
        # A schedule without blocks of its own moves all layers as one.
        outcome.n_blocks = len(self.schedule.blocks) or 1
        outcome.optimizer_state_bytes = self.schedule.optimizer_state_bytes()


class _Recorder(keras.callbacks.Callback):
    """Evaluates before training and after each epoch, off the clock."""

    def __init__(self, schedule, evaluator, splits, examples):
        super().__init__()
        self.schedule, self.evaluator, self.splits = schedule, evaluator, splits
        self.examples, self.evaluations, self.elapsed = examples, [], 0.0

    def on_train_begin(self, logs=None):
        self._evaluate(0)

    def on_epoch_end(self, epoch, logs=None):
        self.elapsed += time.perf_counter() - self._started
        self._evaluate(epoch + 1)
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite([loss, self.evaluations[-1].scores["train"][0]]).all():
            raise Diverged  # not stop_training, which a greedy schedule takes as the end of a stage

    def _evaluate(self, epoch):
        _ = self.model  # on JAX this writes the trained values back into the model
        self.evaluations.append(
            Evaluation(
                epoch=epoch,
                examples=epoch * self.examples,
                train_seconds=max(0.0, self.elapsed - self.schedule.compile_seconds),
                counts=collections.Counter(self.schedule.counts),
                scores=self.evaluator(self.schedule.predict_on_batch, self.splits),
            )
        )
        self._started = time.perf_counter()


def _initial_weights(grid, cell, seed):
    """What the model is built with under a seed: the same for every schedule and optimizer."""
    keras.utils.set_random_seed(derive("weights", seed))
    return grid.model(cell).get_weights()


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
    config = config_of(optimizer)
    config["config"].pop("learning_rate", None)
    return config


def _scheduled(optimizer):
    """Whether the learning rate is a schedule, which cannot be set."""
    return isinstance(optimizer.get_config().get("learning_rate"), dict)
