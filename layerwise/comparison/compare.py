"""compare: the comparison of schedules as a function, and the checks of its arguments."""

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras

from layerwise.comparison import frames, tuning
from layerwise.comparison.data import Data
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.journal import Journal
from layerwise.comparison.record import Record, in_words
from layerwise.comparison.result import Comparison
from layerwise.schedules import BlockCoordinate, GreedyLayerwise, Simultaneous
from layerwise.schedules.base import Schedule

SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "simultaneous": Simultaneous,
    "block-coordinate": BlockCoordinate,
    "greedy": GreedyLayerwise,
}
OPTIMIZERS: dict[str, Callable[[float], keras.optimizers.Optimizer]] = {
    "adam": lambda learning_rate: keras.optimizers.Adam(learning_rate)
}


def compare(
    models: Callable[..., keras.Model] | Mapping[str, Callable[..., keras.Model]],
    data: Data | Mapping[str, Data],
    schedules: Mapping[str, Callable[[], Schedule]] = SCHEDULES,
    optimizers: Mapping[str, Callable[[float], keras.optimizers.Optimizer]] = OPTIMIZERS,
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
    loss: str | keras.losses.Loss | None = None,
    experiment: str = "comparison",
    results: str | Path | None = None,
    jobs: int = 1,
    verbose: int = 1,
) -> Comparison:
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
        datasets=data if isinstance(data, Mapping) else {"data": data},
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
        folder = Path(results)
        comparison = Record(grid, Journal(folder / "unfinished"), folder).complete(jobs, verbose)
    else:
        with tempfile.TemporaryDirectory() as unfinished:
            comparison = Record(grid, Journal(unfinished)).complete(jobs, verbose)
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
        f"{Cell.of(dict(zip(frames.KEY, key, strict=True)))} ({tuning.tuned_learning_rate(rows):g})"
        for key, rows in runs.groupby(frames.KEY, sort=False)
        if tuning.at_the_edge(rows)
    ]
    if edges:
        warnings.warn(
            "The tuned learning rate lies at the edge of those tried, so that a better one "
            f"may lie beyond, in {len(edges)} "
            f"cells: {'; '.join(edges)}. Try more learning_rates.",
            stacklevel=3,
        )


def _rates(learning_rates, optimizers):
    if not isinstance(learning_rates, (Mapping, tuple, list)):
        raise TypeError(
            f"learning_rates must be a tuple of numbers, or a dict of them by optimizer, got {learning_rates!r}."
        )
    if not isinstance(learning_rates, Mapping):
        return {name: tuple(learning_rates) for name in optimizers}
    if set(learning_rates) != set(optimizers):
        raise ValueError(
            f"learning_rates has entries for {sorted(learning_rates)}, optimizers are "
            f"{sorted(optimizers)}. Give "
            "one tuple for all, or one for each optimizer."
        )
    return {name: tuple(learning_rates[name]) for name in optimizers}
