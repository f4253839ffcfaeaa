"""What the tuning runs decide: each schedule's learning rate, and the target."""

import numpy as np
import pandas as pd

# So far below what the tuned baseline can do: a schedule need not match its best epoch.
MARGIN = 0.01


def tuned_learning_rate(runs: pd.DataFrame) -> float:
    """The learning rate of one cell: best mean of best validation accuracy over the tuning seeds.

    A run that diverged or failed counts as accuracy 0. Ties go to the lower loss at the best
    epochs, then to the smaller rate.

    Args:
        runs: The rows of `runs` of one cell.

    Example:
    >>> import pandas as pd
    >>> from layerwise.comparison.tuning import tuned_learning_rate
    >>> runs = pd.DataFrame({
    ...     "phase": "tune", "status": ["finished", "finished", "diverged"],
    ...     "learning_rate": [0.1, 0.3, 1.0], "best_validation_accuracy": [0.8, 0.9, 0.95],
    ...     "best_validation_loss": [0.5, 0.4, 0.3],
    ... })
    >>> tuned_learning_rate(runs)
    0.3
    """
    tune = runs[runs["phase"] == "tune"]
    usable = tune["status"] == "finished"
    scores = tune.assign(
        accuracy=tune["best_validation_accuracy"].where(usable, 0.0),
        loss=tune["best_validation_loss"].where(usable, np.inf),
    ).groupby("learning_rate")[["accuracy", "loss"]]
    order = scores.mean().reset_index()
    order = order.sort_values(["accuracy", "loss", "learning_rate"], ascending=[False, True, True])
    return float(order["learning_rate"].iloc[0])


def target_of(runs: pd.DataFrame) -> float | None:
    """The target of a task: the tuned baseline's median best validation accuracy in the tuning
    runs, less one point.

    Args:
        runs: The rows of `runs` of the baseline's cell.

    Returns:
        A validation accuracy, or None where no run of the tuned baseline finished.
    """
    tune = runs[(runs["phase"] == "tune") & (runs["learning_rate"] == tuned_learning_rate(runs))]
    best = tune.loc[tune["status"] == "finished", "best_validation_accuracy"]
    return None if best.empty else float(best.median()) - MARGIN


def at_the_edge(runs: pd.DataFrame) -> bool:
    """Whether the tuned learning rate is the smallest or largest of those tried."""
    tune = runs[runs["phase"] == "tune"]
    rates = sorted(tune["learning_rate"].unique())
    chosen = len(rates) > 1 and tune["status"].eq("finished").any()
    return bool(chosen) and tuned_learning_rate(runs) in (rates[0], rates[-1])
