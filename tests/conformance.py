"""The list of all schedules, each once, and what every one of them promises.

A newcomer adds one line to `SCHEDULES`. These modules then test it, each one promise, on whichever backend is active:

- `test_moving.py`: a block that no Update names keeps every bit, and a block that one names moves;
- `test_stock_equality.py`: the run is stock `fit` bit for bit, where that is claimed;
- `test_state.py`: the optimizer's slots are trained, complete and as large as promised;
- `test_programs.py`: a second fit compiles nothing and, from the same start, repeats the first bit for bit; several batches
  in one program, and whole epochs of resident data, are those batches;
- `test_resume.py`: a run that was cut off and started again ends as one that was not;
- `test_left_behind.py`: after `fit`, ended or cut off, model and optimizer are stock;
- `test_config.py`: the schedule is its config;
- `test_errors.py`: what it cannot honour raises before the first step.

`whole(case)` trains a schedule once in a process, and all of these look at that one run. The schedules train one compiled
model one after another, each from its start, so that they share programs; those that are `alone` have models of their own.
"""

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

import layerwise
from examples.freeze_out import FreezeOut
from examples.lisa import Lisa
from examples.local_losses import LocalLosses
from layerwise import BlockCoordinate, GreedyLayerwise, Simultaneous
from tests.helpers import (
    AtBatch,
    Counts,
    Snapshots,
    attributes,
    compiled,
    normalized_mlp,
    pooled,
    state_of,
    values,
    vectors,
)

DEPTH, BATCHES, BATCH = 3, 5, 8  # blocks of the model, batches of an epoch, examples of a batch


@keras.saving.register_keras_serializable("tests")
class LastTwoTakeTurns(layerwise.Schedule):
    """A schedule as a user writes it: the last block moves, and on every third batch the one before it, too."""

    def updates(self, epoch, step):
        last = len(self.blocks) - 1
        return (layerwise.Update((last,) if step % 3 else (last - 1, last)),)


@keras.saving.register_keras_serializable("tests")
def fading(epoch, step):
    """A learning-rate factor as a user writes it."""
    return 1 / (1 + step)


@dataclasses.dataclass(frozen=True)
class Case:
    """A schedule and what it claims.

    Attributes:
        name: what tests call it.
        make: makes a new schedule, the same each time.
        epochs: how long the conformance model is trained under it.
        equals_stock: it claims to be `fit` without a schedule, bit for bit.
        has_stages: it trains one block after another under heads, so that the logs say which `stage` it is.
        takes_any_model: it installs nothing, so it takes whatever `fit` takes, also a model with its own train_step.
        alone: no other schedule trains its models, and whatever one can do with a model is tried on them afterwards.
        thorough: the fast tests leave it to the thorough ones.
    """

    name: str
    make: Callable[[], layerwise.Schedule]
    epochs: int = 4
    equals_stock: bool = False
    has_stages: bool = False
    takes_any_model: bool = False
    alone: bool = False
    thorough: bool = False

    def __str__(self):
        return self.name


SCHEDULES = (
    Case("simultaneous", Simultaneous, equals_stock=True, takes_any_model=True),
    Case("one block", lambda: BlockCoordinate(blocks=1), equals_stock=True, thorough=True),
    Case("cyclic", lambda: BlockCoordinate(every=2)),
    Case(
        "shuffled, reset",
        lambda: BlockCoordinate(order="shuffled", every=3, state="reset"),
        thorough=True,
    ),
    Case(
        "random, epochs",
        lambda: BlockCoordinate(order="random", every="epoch", seed=3),
        thorough=True,
    ),
    Case("drop", lambda: BlockCoordinate(every=3, state="drop", always=["block_2"]), alone=True),
    Case("sweeps", lambda: BlockCoordinate(order="reverse", sweep_each_batch=True)),
    Case("shared programs", lambda: BlockCoordinate(max_programs=2), thorough=True),
    Case("greedy", GreedyLayerwise, has_stages=True),
    Case(
        "greedy, fine-tuned",
        lambda: GreedyLayerwise(head="mlp", epochs_per_block=1, finetune_epochs=1),
        epochs=4,
        has_stages=True,
        alone=True,
        thorough=True,
    ),
    Case("gauss-southwell", lambda: BlockCoordinate(order="gauss_southwell", every=2)),
    Case(
        "gauss-southwell by parameter",
        lambda: BlockCoordinate(order="gauss_southwell_rms", every="epoch", state="reset"),
        thorough=True,
    ),
    Case("rates of one", lambda: Simultaneous(rates={0: 1}), equals_stock=True, thorough=True),
    Case(
        "rates", lambda: BlockCoordinate(rates={1: 0.5, 2: fading}, order="shuffled"), thorough=True
    ),
    Case("a user's", LastTwoTakeTurns),
    Case("local losses", LocalLosses, has_stages=True, thorough=True),
    Case("LISA", lambda: Lisa(n_between=1, every=3), thorough=True),
    Case("FreezeOut", lambda: FreezeOut(steps=30), thorough=True),
)


def every_schedule(claims=lambda case: True):
    """Return the decorator that runs a test on every schedule of the list that claims something."""
    marks = {True: [pytest.mark.thorough], False: []}
    cases = [pytest.param(c, marks=marks[c.thorough], id=c.name) for c in SCHEDULES if claims(c)]
    return pytest.mark.parametrize("case", cases)


def named(name):
    """Return the case of that name."""
    (found,) = [case for case in SCHEDULES if case.name == name]
    return found


def net():
    """Return the net of all promises: three blocks with batch normalization and dropout, whose tracing is counted."""
    return normalized_mlp(depth=DEPTH - 1, dropout=0.3, first=Counts(name="counts"))


def adamw():
    """Return an optimizer that moves a block on a zero gradient (weight decay), and looks at all gradients at once (the
    norm that clips) and at the count of steps (a cosine).
    """
    rate = keras.optimizers.schedules.CosineDecay(0.02, 100)
    return keras.optimizers.AdamW(rate, weight_decay=0.05, global_clipnorm=0.5)


def new_model():
    """Return a new model of all promises."""
    return compiled(net(), adamw(), metrics=["accuracy"])


def model_for(case, twin=False):
    """Return the model that a schedule trains, as it was made; `twin`: another one, in which nothing of that is left."""
    if case.alone:
        return new_model()
    return pooled(net, adamw, twin, metrics=("accuracy",))


def fitted(model, *callbacks, epochs, **arguments):
    """Train in a fixed order of batches, five an epoch, and return the history."""
    x, y = vectors(BATCHES * BATCH)
    arguments = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **arguments).history


class Watch(keras.callbacks.Callback):
    """Keeps the optimizer, its count and the bytes of its slots at every batch, and the weights after every epoch."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.held, self.epochs, self.seen, self.counts = schedule, [], [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.seen.append(self.model.optimizer)

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.model.optimizer)
        self.counts.append(int(self.model.optimizer.iterations))
        if self.schedule is not None:
            self.held.append(self.schedule.optimizer_state_bytes())

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((values(self.model.weights), values(self.model.optimizer.variables)))


@dataclasses.dataclass
class Next:
    """What becomes of a model when it is used further: copies of arrays."""

    start: list  # its state before
    evaluated: list
    trained: list  # what train_on_batch returned
    weights: list
    slots: list


def next_steps(model):
    """Evaluate a model, train it on one batch, and return the `Next`."""
    x, y = vectors(8, seed=2)
    return Next(
        start=values([*model.variables, *model.optimizer.variables]),
        evaluated=model.evaluate(x, y, verbose=0),
        trained=[float(each) for each in model.train_on_batch(x, y)],
        weights=values(model.weights),
        slots=values(model.optimizer.variables),
    )


@dataclasses.dataclass
class Run:
    """One training of the model, and all that was seen of it: arrays are copies, taken when it ended."""

    model: keras.Model
    schedule: layerwise.Schedule | None
    start: list  # the state before it, for `put_back`
    history: dict
    epochs: list  # (weights, optimizer variables) after each epoch
    held: list  # bytes of optimizer slots after each batch
    counts: list  # the optimizer's count after each batch
    seen: list  # the model's optimizer before and after each batch
    snapshots: Snapshots
    optimizer: keras.optimizers.Optimizer  # what compile made of it, before fit
    variables: list = dataclasses.field(init=False)
    slots: list = dataclasses.field(init=False)
    heads: list = dataclasses.field(init=False)
    attributes: list = dataclasses.field(init=False)
    visits: object = dataclasses.field(init=False)  # a frame: tests may train the schedule further
    next: Next | None = None  # how the model went on, where the next schedule trains it

    def __post_init__(self):
        self.variables = values(self.model.variables)
        self.slots = values(self.model.optimizer.variables)
        self.heads = head_values(self.schedule)
        self.attributes = attributes(self.model)
        self.visits = None if self.schedule is None else self.schedule.visits


def head_values(schedule):
    """Return the values of all heads of a schedule, in order."""
    heads = {} if schedule is None else schedule.heads
    return [value for k in sorted(heads) for value in values(heads[k].variables)]


@functools.cache
def whole(case):
    """Train under a schedule without interruption; the same Run for all tests of a process."""
    run = _run(model_for(case), case.make(), case.epochs)
    run.next = None if case.alone else next_steps(run.model)
    return run


@functools.cache
def stock(epochs=4):
    """Train the same model without a schedule."""
    return _run(new_model(), None, epochs)


def _run(model, schedule, epochs):
    model.evaluate(*vectors(BATCH), verbose=0)  # what that leaves on a model is there already
    optimizer, start = model.optimizer, state_of(model)
    snapshots, watch = Snapshots(), Watch(schedule)
    callbacks = [snapshots, watch] if schedule is None else [schedule, snapshots, watch]
    history = fitted(model, *callbacks, epochs=epochs)
    return Run(
        model=model,
        schedule=schedule,
        start=start,
        history=history,
        epochs=watch.epochs,
        held=watch.held,
        counts=watch.counts,
        seen=watch.seen,
        snapshots=snapshots,
        optimizer=optimizer,
    )


@functools.cache
def cut_off(case):
    """Train under a schedule until an error in the last but one epoch.

    Returns:
        The model if no other schedule trains it, else how it went on (a `Next`); the folder of a copy of the backup, made
        at that moment: what a kill would have left; and the epoch.
    """
    folder = Path(tempfile.mkdtemp(prefix="layerwise_tests_"))
    model, schedule, epoch = model_for(case), case.make(), case.epochs - 2
    callbacks = [schedule, keras.callbacks.BackupAndRestore(folder / "backup")]
    callbacks = callbacks if schedule_first(case) else callbacks[::-1]

    def fail():
        shutil.copytree(folder / "backup", folder / "left")
        raise InterruptedError

    try:
        fitted(model, *callbacks, AtBatch(epoch, 2, fail), epochs=case.epochs)
    except InterruptedError:
        return model if case.alone else next_steps(model), folder / "left", epoch
    raise AssertionError("it was not cut off")


def schedule_first(case):
    """Whether the schedule stands before BackupAndRestore when the run is cut off; when it is resumed it is the reverse."""
    return SCHEDULES.index(case) % 2 == 0
