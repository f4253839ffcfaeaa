"""How much the scale of the initial weights matters, with batch normalization and without."""

import functools
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.interplay.grid import OPTIMIZERS, SCALES, SCHEDULES, network, rates_of
from experiments.interplay.measures import COLUMNS, each, scored
from layerwise.comparison import Comparison

FOLDER = "start"
NORMALIZED, PLAIN = "batch norm", "none"
FACTORS = {"quick": (0.1, 1.0, 10.0), "full": (0.1, 0.3, 1.0, 3.0, 10.0)}
RATES = {"quick": 4, "full": 8}  # learning rates tried at least


def scaled(
    shape: Sequence[int], n_classes: int, factor: float, regularizer: str = PLAIN
) -> keras.Sequential:
    """The network of the other comparisons, its initial kernels times `factor`."""
    return network(shape, n_classes, regularizer, factor=factor)


def compare(
    scale: str, dataset: str, data: layerwise.Data, n_classes: int, results: Path, jobs: int = 1
) -> Comparison:
    """Trains the network from weights of every scale, all layers at once, with every optimizer, tuned for each."""
    settings = SCALES[scale]
    shape = data.train[0].shape[1:]
    return layerwise.compare(
        {
            name_of(factor): functools.partial(scaled, shape, n_classes, factor)
            for factor in FACTORS[scale]
        },
        {dataset: data},
        schedules={"simultaneous": SCHEDULES["simultaneous"]},
        optimizers={name: OPTIMIZERS[name] for name in settings["optimizers"]},
        regularizers=(PLAIN, NORMALIZED),
        learning_rates={
            name: rates_of(PLAIN, name, RATES[scale]) for name in settings["optimizers"]
        },
        tuning_seeds=settings["tuning_seeds"],
        seeds=settings["seeds"],
        epochs=settings["epochs"],
        experiment="interplay",
        results=results,
        jobs=jobs,
    )


def name_of(factor: float) -> str:
    """What the frames call a network by the scale of its initial weights.

    Example:
    >>> from experiments.interplay.start import name_of
    >>> name_of(0.3)
    'weights times 0.3'
    """
    return f"weights times {factor:g}"


def sensitivity(runs: pd.DataFrame) -> pd.DataFrame:
    """By how much less the test score depends on the scale of the initial weights with batch normalization: `what, value,
    low, high`, two rows an optimizer.

    What depends is the best mean of a scale less the worst, of each seed; a diverged run has score 0. "rate tuned": at the
    rate that is best for each scale, over the measured seeds. "one rate": at the rate that is best for weights as they
    usually are, over the tuning seeds (where that rate was not tried with others, at the nearest one that was).
    """
    if runs.empty:
        return pd.DataFrame(columns=COLUMNS)
    found = {}
    for optimizer, own in runs.groupby("optimizer", sort=False):
        reaches = {
            "rate tuned": _reach(scored(own)),
            "one rate": _reach(at_one_rate(own[own["phase"] == "tune"])),
        }
        for how, reach in reaches.items():
            if {NORMALIZED, PLAIN} <= set(reach):
                found[f"{optimizer}, {how}"] = (reach[NORMALIZED] - reach[PLAIN]).dropna()
    return each(found)


def at_one_rate(tuning: pd.DataFrame) -> pd.DataFrame:
    """Of the tuning runs of one optimizer those whose rate is nearest to the best one for weights as they usually are."""
    kept = []
    for _, own in tuning.groupby("regularizer", sort=False):
        usual = own[own["model"] == name_of(1.0)]
        means = usual.groupby("learning_rate")["best_validation_score"].mean()
        rate = means.idxmax()
        for _, cell in own.groupby("model", sort=False):
            distance = np.abs(np.log(cell["learning_rate"] / rate))
            kept.append(cell[distance <= distance.min() + 1e-9])
    return pd.concat(kept)


def _reach(runs):
    """The best score of a scale of the weights less the worst: a row a seed, a column with and without normalization."""
    scores = runs.assign(test_score=runs["test_score"].fillna(0.0)).pivot_table(
        index="seed", columns=["regularizer", "model"], values="test_score"
    )
    by_regularizer = scores.T.groupby(level="regularizer")
    return (by_regularizer.max() - by_regularizer.min()).T
