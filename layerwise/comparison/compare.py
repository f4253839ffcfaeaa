"""compare: the comparison of schedules as a function, and the checks of its arguments."""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from layerwise.comparison import audit, frames, tuning
from layerwise.comparison.clusters import check_cluster, cluster_workers
from layerwise.comparison.data import Data
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.journal import Journal
from layerwise.comparison.lock import alone_in
from layerwise.comparison.record import Record, in_words
from layerwise.comparison.result import Comparison
from layerwise.comparison.streams import Streams
from layerwise.comparison.workers import local_workers
from layerwise.diagnostics import Probe
from layerwise.schedules import BlockCoordinate, GreedyLayerwise, Simultaneous
from layerwise.schedules.base import Schedule

SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "simultaneous": Simultaneous,
    "block-coordinate": BlockCoordinate,
    "greedy": GreedyLayerwise,
}
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adam": lambda learning_rate: keras.optimizers.Adam(learning_rate)
}


def compare(
    models: Callable[..., keras.Model] | Mapping[str, Callable[..., keras.Model]],
    data: Data | Mapping[str, Data],
    schedules: Mapping[str, Callable[[], Schedule]] = SCHEDULES,
    optimizers: Mapping[str, Callable[..., keras.optimizers.Optimizer]] = OPTIMIZERS,
    regularizers: Sequence[str] = ("none",),
    learning_rates: Sequence[float] | Mapping[str, Sequence[float]] = (
        1e-4,
        3e-4,
        1e-3,
        3e-3,
        1e-2,
    ),
    tuning_seeds: int = 1,
    seeds: int = 5,
    epochs: int = 20,
    batch_size: int = 64,
    target: float | None = None,
    *,
    loss: Any = None,
    metric: Any = None,
    budget: str = "flops",
    search: Mapping[str, Sequence[Any]] | None = None,
    tuner: str = "grid",
    n_trials: int | None = None,
    class_weight: Mapping[int, float] | None = None,
    callbacks: Callable[[], list[keras.callbacks.Callback]] | None = None,
    probes: Sequence[Callable[[], Probe]] = (),
    experiment: str = "comparison",
    results: str | Path | None = None,
    jobs: int = 1,
    cluster: str | None = None,
    first_seed: int = 0,
    timed: int = 0,
    verbose: int = 1,
) -> Comparison:
    """Trains models under several schedules, so that the difference between them can be believed.

    *Equal arithmetic.* The first schedule, the baseline, trains for `epochs`; every other for as many batches as cost
    the same FLOPs, counted from the compiled programs before anything is trained; the last epoch is then cut short.

    *Equal tuning.* Every schedule has the same number of settings x tuning seeds, on seeds that are not measured again.
    Where the best setting lies at an edge of the grid, the grid extends itself, at most three times a side. Two settings
    are chosen: for score (the best mean of best validation scores) and for cost (the least median of the FLOPs to the
    target); where they differ, both are measured.

    *One target.* All schedules of a task (dataset, model, regularizer, optimizer) share one, set by the tuning runs of
    the tuned baseline before anything is measured: their median best validation score, less two standard errors of such
    a score, or a hundredth of it, whichever is more. Where validation parts differ (`Data(folds=...)`) each has a target of
    its own, as one part is harder than another: give so many tuning seeds that the baseline meets each part. Before its
    first epoch no model reaches it, and a run that diverges never does.

    *Pairs.* For a seed every schedule starts from the same weights and meets the same batches in the same order. The
    test part is reported and never used to choose.

    An epoch has whole batches only; which examples are left over changes with the order. Evaluations, one before
    training and one after each epoch, and first-call compilation are not training time. Data that fits stays on the device:
    an epoch is one call, which gathers its batches, unless one of `callbacks` hears of single batches, or the model has
    convolutions and runs on a CPU by JAX, where such a call is slower. Losses are without regularizers. A greedy stage is
    evaluated through its own head.

    Args:
        models: A callable `() -> uncompiled keras.Model`, or `{"name": callable}`.
        data: A `Data`, or `{"name": Data}`.
        schedules: `{"name": () -> schedule}`; the first is the baseline.
        optimizers: `{"name": learning_rate -> keras optimizer}`. A callable with a second argument `steps` is given the
            batches of the run, so that a cosine spans the whole run under every schedule: `lambda learning_rate, steps:
            keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(learning_rate, steps))`.
        regularizers: Names; where there is more than one, models are called with
            `regularizer=name`.
        learning_rates: What is tried; a tuple for all optimizers, or `{"optimizer": tuple}`.
        tuning_seeds: Seeds for each learning rate tried.
        seeds: Seeds with the tuned learning rate.
        epochs: Epochs of the baseline, and of every run under `budget="epochs"`.
        batch_size: Examples a batch.
        target: Validation score to reach, in the metric's units; `None`: from the tuned baseline.
        loss: A Keras loss, its name, or a function; `None`: what fits the model's outputs and the targets.
        metric: What the score is: a Keras metric, its name, or a function. A metric that is not Keras' own has an
            attribute `direction`, "max" or "min". `None`: accuracy for labels and one-hot rows, binary accuracy for
            targets of 0 and 1, perplexity for sequences of labels, mean absolute error for numbers.
        budget: What every schedule may spend of what the baseline spends in `epochs`: "flops"; "seconds", by measured
            seconds an Update; or "epochs", which is no equal cost.
        search: What is tuned beside the learning rate, or in its place: `{"schedule.every": (1, 10), "optimizer.momentum":
            (0.5, 0.9), "model.width": (64, 128), "learning_rate": ...}`. A schedule or optimizer without such an argument
            has learning rates as much denser. Models take the argument by name.
        tuner: "grid" tries every combination; "optuna" as many settings as Optuna asks for (the tree-structured Parzen
            estimator), one after another, within the ranges of the numbers that were given: the first half for the best
            score, the rest for the least cost.
        n_trials: Settings that "optuna" tries for each schedule; `None`: as many as the grid would have.
        class_weight: `{label: weight}`, as for `fit`.
        callbacks: `() -> list` of Keras callbacks for each run, the same each time: their attributes are part of what a
            run is known by. Their logs hold `val_loss` and `val_<metric>`, of which `EarlyStopping` and the like have to be
            told the `mode`. Frames hold the weights at the ends of epochs, not those that a callback restores at last.
        probes: Callables `() -> layerwise.Probe`: each measured run has new ones, and what they measured is
            `comparison.probes`, the Probe's frame with a column `run_id` before it. Their time is no training time.
        experiment: A name that goes with every row.
        results: A folder for frames, written as runs end. With runs of the same comparison in it,
            only the others are carried out. `None` keeps all in memory.
        jobs: Processes side by side, which share the cores: their seconds disturb one another (`timed`). Rows are those of
            one process, on JAX to rounding where the number of threads decides how a sum is split.
        cluster: "dask://HOST:PORT" of a Dask scheduler, or "ray://HOST:PORT" of a Ray client server: runs go to all
            its workers, one at a time to each; to one for each GPU where there are GPUs. layerwise, the modules that models
            come from and the same KERAS_BACKEND have to be there; the data is sent once to each worker.
        first_seed: Runs are measured on the seeds from this one on, and tuned on others: another number tries a conclusion
            on new weights, orders and tuning runs.
        timed: How often a measured run of each schedule is trained again when all runs are over, alone in this process and
            in turn with those of the other schedules: `comparison.timings`. The seconds in summary, table and figures are
            then theirs (medians), which no other run disturbs. Nothing else should run on the machine meanwhile.
        verbose: 1 shows progress, 0 nothing.

    Returns:
        A `Comparison`.

    Raises:
        ValueError: For an argument that makes no comparison, or a folder that holds another one.
        TypeError: For models, data, schedules, optimizers, a loss or a metric that are not what they should be.
        RuntimeError: Another comparison is writing to the folder.
        ConnectionError: No cluster answers at the address.
        ImportError: The library of the cluster, or Optuna, is missing.

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
    search = dict(search or {})
    learning_rates = search.pop("learning_rate", learning_rates)
    # A str is left as it is, to be refused.
    names: Any = regularizers if isinstance(regularizers, str) else tuple(regularizers)
    grid = Grid(
        experiment=experiment,
        datasets=data if isinstance(data, Mapping) else {"data": data},
        models={getattr(models, "__name__", "model"): models} if callable(models) else models,
        schedules=schedules,
        optimizers=optimizers,
        regularizers=names,
        learning_rates=_rates(learning_rates, optimizers),
        tuning_seeds=tuning_seeds,
        seeds=seeds,
        epochs=epochs,
        batch_size=batch_size,
        target=target,
        loss=loss,
        metric=metric,
        budget=budget,
        search=search,
        tuner=tuner,
        n_trials=n_trials,
        class_weight=class_weight,
        callbacks=callbacks,
        probes=tuple(probes) if isinstance(probes, Iterable) else probes,
        first_seed=first_seed,
    )
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"jobs must be an int of at least 1, got {jobs!r}.")
    if isinstance(timed, bool) or not isinstance(timed, int) or timed < 0:
        raise ValueError(f"timed must be an int of at least 0, got {timed!r}.")
    check_cluster(cluster, jobs)
    for source in (dataset.source for dataset in grid.datasets.values()):
        if (jobs > 1 or cluster) and isinstance(source, Streams):
            source.check_workers()
    grid.check()
    with contextlib.ExitStack() as stack:
        if results is not None:
            folder = Path(results)
            stack.enter_context(alone_in(folder))
            journal = Journal(folder / "unfinished")
        else:
            folder, journal = None, Journal(stack.enter_context(tempfile.TemporaryDirectory()))
        workers = cluster_workers(grid, cluster) if cluster else local_workers(grid, jobs)
        if timed and workers.environment != frames.environment():
            raise ValueError(
                f"runs are timed in this process, on {frames.environment()}, and the workers are on {workers.environment}: "
                "leave timed out, or start this process where they are."
            )
        record = Record(grid, journal, stack.enter_context(workers), folder)
        try:
            comparison = record.complete(verbose, timed)
        except BaseException as error:  # also Ctrl-C
            error.add_note(
                "Without results=FOLDER nothing is kept."
                if folder is None
                else f"Every run that was over is kept in {folder}: the same call goes on from there."
            )
            raise
    _warn(comparison.runs)
    return comparison


def _warn(runs):
    """Warns of runs that failed and of learning rates that were tuned too narrowly."""
    failed = runs[runs["status"] == "failed"]
    if len(failed):
        warnings.warn(
            f"{len(failed)} of {len(runs)} runs failed. The first, {in_words(failed.iloc[0])}: "
            f"{failed['error'].iloc[0]} The others: comparison.runs[['schedule', 'error']].",
            stacklevel=3,
        )
    edges = [
        f"{Cell.of(dict(zip(frames.KEY, key, strict=True)))} ({purpose} {value})"
        for key, rows in runs.groupby(frames.KEY, sort=False)
        for purpose, value in tuning.at_the_edge(rows).items()
    ]
    if edges:
        warnings.warn(
            "What was tuned lies at the edge of what was tried, so that a better value may lie "
            f"beyond: {'; '.join(edges)}. Try more.",
            stacklevel=3,
        )
    if unequal := list(audit.unequal(runs)):
        warnings.warn(
            f"Not all schedules spent what the baseline did: {'; '.join(unequal)}. A schedule of fixed stages, or a "
            "callback that stops training, may allow no better: give more epochs, or compare with budget='epochs'.",
            stacklevel=3,
        )


def _rates(learning_rates, optimizers):
    if isinstance(learning_rates, np.ndarray):
        learning_rates = learning_rates.tolist()
    if not isinstance(learning_rates, (Mapping, tuple, list)):
        raise TypeError(
            f"learning_rates must be a tuple of numbers, or a dict of them by optimizer, got {learning_rates!r}."
        )
    if not isinstance(learning_rates, Mapping):
        return {name: _numbers(learning_rates) for name in optimizers}
    if set(learning_rates) != set(optimizers):
        raise ValueError(
            f"learning_rates has entries for {sorted(learning_rates)}, optimizers are "
            f"{sorted(optimizers)}. Give "
            "one tuple for all, or one for each optimizer."
        )
    return {name: _numbers(learning_rates[name]) for name in optimizers}


def _numbers(rates):
    """Numbers as JSON knows them, of NumPy's, too."""
    return tuple(float(rate) if isinstance(rate, np.number) else rate for rate in rates)
