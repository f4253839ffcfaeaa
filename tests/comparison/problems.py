"""A tiny problem, and frames made up by hand, that the comparison's tests share."""

import keras
import numpy as np

import layerwise
from layerwise.comparison import frames
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.planner import Planner

SCHEDULES = {
    "simultaneous": layerwise.Simultaneous,
    "shuffled, 1 step": lambda: layerwise.BlockCoordinate(order="shuffled"),
    "greedy": layerwise.GreedyLayerwise,
}


def data(n=60, folds=3, seed=0):
    """Return Data of n + n/2 + n/3 vectors of 5 in 3 classes that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 5)).astype("float32")
    y = (x @ rng.normal(size=(5, 3))).argmax(axis=1).astype("int32")
    ends = n, n + n // 2, n + n // 2 + n // 3
    parts = [(x[a:b], y[a:b]) for a, b in zip((0, *ends), ends, strict=False)]
    return layerwise.Data(*parts, folds=folds)


def net(dropout=0.2):
    """Return three dense blocks with batch normalization and dropout; logits."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(8),
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(8, "tanh"),
            keras.layers.Dense(3),
        ]
    )


def grid(schedules=SCHEDULES, optimizer=keras.optimizers.Adam, model=net, **arguments):
    """Return a Grid of one task."""
    defaults = {
        "experiment": "test",
        "datasets": {"vectors": arguments.pop("data", None) or data()},
        "models": {"net": model},
        "schedules": schedules,
        "optimizers": {"optimizer": optimizer},
        "regularizers": ("none",),
        "learning_rates": {"optimizer": (0.01, 0.03)},
        "tuning_seeds": 1,
        "seeds": 2,
        "epochs": 3,
        "batch_size": 16,
        "budget": "epochs",
    }
    return Grid(**(defaults | arguments))


def cell(schedule, model="net", dataset="vectors", regularizer="none"):
    """Return the cell of a schedule in `grid()`."""
    return Cell(dataset, model, regularizer, "optimizer", schedule)


def run(trainer, learning_rate, seed):
    """Carry out a run of a trainer with a learning rate, as planned."""
    setting = {"learning_rate": learning_rate}
    return trainer.run(setting, seed, Planner(trainer.grid).plan(trainer.cell, setting))


def curve(outcome):
    """Return all that a run measured but its seconds, as plain numbers."""
    return [
        (e.epoch, e.update, e.examples, e.flops, *(v for pair in e.scores.values() for v in pair))
        for e in outcome.evaluations
    ]


def run_row(schedule, seed, phase="measure", learning_rate=0.1, **values):
    """Return a row of `runs` with some values given."""
    row = {
        "experiment": "made up",
        "dataset": "digits",
        "model": "mlp",
        "optimizer": "Adam",
        "regularizer": "none",
        "schedule": schedule,
        "seed": seed,
        "phase": phase,
        "learning_rate": learning_rate,
        "status": "finished",
        "error": "",
        "metric": "accuracy",
        "direction": "max",
        "tuned_for": "score" if phase == "measure" else None,
        "run_id": f"{schedule}-{seed}-{phase}-{learning_rate}",
        "reached": values.get("epochs_to_target") is not None,
    }
    return row | values


def made_up(schedules=("simultaneous", "cyclic, 1 step", "greedy"), seeds=4, epochs=6):
    """Return `(runs, curves)` with every kind of outcome: a miss, a divergence, a failure."""
    rng = np.random.default_rng(0)
    rows, curves = [], []
    for place, schedule in enumerate(schedules):
        for phase, first, count, rates in (
            ("tune", 1000, 2, (0.01, 0.1, 1.0)),
            ("measure", 0, seeds, (0.1,)),
        ):
            for rate in rates:
                for seed in range(first, first + count):
                    row = run_row(schedule, seed, phase, rate, target=0.9, compile_seconds=0.5)
                    row |= {"updates": 10 * epochs * (1 + place), "train_seconds": 1.0}
                    row |= {"flops": 10_000 * epochs, "epochs": epochs}
                    lost = "diverged" if (place == 1 and seed == 1) or rate == 1.0 else "finished"
                    lost = "failed" if place == 2 and seed == 2 else lost
                    row |= {"status": lost}
                    accuracies = np.sort(rng.uniform(0.3, 0.97, epochs + 1))
                    steps = np.arange(epochs + 1) * 10 * (1 + place)
                    stop = {"finished": epochs + 1, "diverged": 3, "failed": 0}[lost]
                    for epoch in range(stop):
                        for split in ("train", "validation", "test"):
                            diverged = lost == "diverged" and epoch == stop - 1
                            curves.append(
                                {
                                    "run_id": row["run_id"],
                                    "epoch": epoch,
                                    "update": steps[epoch],
                                    "examples": epoch * 320,
                                    "flops": steps[epoch] * 1000,
                                    "train_seconds": steps[epoch] / 100,
                                    "split": split,
                                    "loss": np.nan if diverged else 1 - accuracies[epoch],
                                    "score": accuracies[epoch],
                                }
                            )
                    if stop:
                        row |= {"best_epoch": stop - 1, "best_validation_score": accuracies[-1]}
                        row |= {"best_validation_loss": 1 - accuracies[-1]}
                    if lost == "finished":
                        for split, shift in (("train", 0.02), ("validation", 0.0), ("test", -0.01)):
                            row[f"{split}_score"] = accuracies[-1] + shift
                            row[f"{split}_loss"] = 1 - row[f"{split}_score"]
                        row["score_gap"] = row["train_score"] - row["test_score"]
                        row["generalization_gap"] = row["test_loss"] - row["train_loss"]
                        row["area_under_curve"] = accuracies[1:].mean()
                        hits = np.flatnonzero(accuracies >= 0.9)
                        if len(hits) and not (place == 2 and seed == 3):
                            row |= {
                                "reached": True,
                                "epochs_to_target": hits[0],
                                "updates_to_target": steps[hits[0]],
                                "flops_to_target": steps[hits[0]] * 1000,
                                "seconds_to_target": steps[hits[0]] / 100,
                            }
                    rows.append(row)
    return frames.run_frame(rows), frames.curve_frame(curves)
