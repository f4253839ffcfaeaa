"""Figures of a comparison: each a function of its frames, none of which trains."""

import re
from pathlib import Path

import pandas as pd

from layerwise.comparison import frames
from layerwise.comparison.figures import (
    convergence,
    cost,
    generalization,
    sensitivity,
    style,
    survival,
    time_to_target,
)
from layerwise.comparison.figures.scene import Scene
from layerwise.comparison.files import write_atomically

FIGURES = {
    "cost": cost.figure,
    "convergence-score": convergence.score,
    "convergence-loss": convergence.loss,
    "generalization": generalization.figure,
    "learning-rate": sensitivity.figure,
    "time-to-target": time_to_target.figure,
    "survival": survival.figure,
}


def draw(runs: pd.DataFrame, curves: pd.DataFrame, baseline: str, folder: str | Path) -> list[Path]:
    """Draws every figure for every task (dataset, model, regularizer, optimizer) as PNG files.

    Args:
        runs: The frame `runs`.
        curves: The frame `curves`.
        baseline: The name of the baseline schedule.
        folder: Where the files go; made if it is not there.

    Returns:
        The paths, in the order of the tasks.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with style.theme():
        for task, rows in runs.groupby(frames.TASK, sort=False):
            scene = Scene(task, rows, curves, baseline, runs)
            words = [re.sub(r"[^\w.]+", "_", part) for part in task if part != "none"]
            for name, figure in FIGURES.items():
                drawn = figure(scene)
                if drawn is None:
                    continue
                path = folder / f"{'-'.join([name, *words])}.png"
                write_atomically(path, drawn.savefig, format="png")
                paths.append(path)
    return paths
