"""What the tuning runs decide: each schedule's settings, for cost and for score, and the target."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from layerwise.comparison import frames, settings, tpe
from layerwise.comparison.grid import Cell, Grid
from layerwise.comparison.seeds import seeds_of
from layerwise.comparison.settings import Setting

PURPOSES = ("score", "cost")
# The target lies below what the tuned baseline can do by so many standard errors of a score, and by this share of it.
STANDARD_ERRORS, SHARE = 2.0, 0.01


def tuned(runs: pd.DataFrame, purpose: str) -> Setting:
    """The setting of one cell that is best in the tuning runs.

    For "score": the best mean of best validation scores; a run that diverged or failed counts as infinitely bad. For
    "cost": the least median of the FLOPs to the target; a miss counts as infinite. Ties go to the other purpose's
    order, then to the lower loss at the best epochs, then to the smaller learning rate.

    Args:
        runs: The rows of `runs` of one cell, with their target.
        purpose: "score" or "cost".

    Example:
    >>> import pandas as pd
    >>> from layerwise.comparison.tuning import tuned
    >>> runs = pd.DataFrame({
    ...     "phase": "tune", "status": ["finished", "finished", "diverged"],
    ...     "metric": "accuracy", "direction": "max", "learning_rate": [0.1, 0.3, 1.0],
    ...     "best_validation_score": [0.8, 0.9, 0.95], "best_validation_loss": [0.5, 0.4, 0.3],
    ...     "flops_to_target": [100, 300, None],
    ... })
    >>> tuned(runs, "score"), tuned(runs, "cost")
    ({'learning_rate': 0.3}, {'learning_rate': 0.1})
    """
    return _best(_outcomes(runs), purpose)


def _best(outcomes, purpose):
    first = ["score", "cost"] if purpose == "score" else ["cost", "score"]
    order = outcomes.sort_values([*first, "loss", "learning_rate"], kind="stable")
    return settings.setting_of(order.iloc[0])


def targets_of(runs: pd.DataFrame, parts: int = 1) -> tuple[float, ...] | None:
    """The targets of a task, one for each validation part, as one part is harder than another: the median best validation
    score there in the tuning runs of the baseline, as tuned for score, less a margin: two standard errors of such a score,
    or a hundredth of it, whichever is more.

    Args:
        runs: The rows of `runs` of the baseline's cell.
        parts: Validation parts, of which the run of seed s has the one at `s % parts`.

    Returns:
        Validation scores; a part that none of these runs had goes by all of them. None where no run of the tuned baseline
        finished.
    """
    tune = runs[(runs["phase"] == "tune") & _has(runs, tuned(runs, "score"))]
    finished = tune[tune["status"] == "finished"]
    if finished.empty:
        return None
    of_part = dict(iter(finished.groupby(finished["seed"] % parts)))
    return tuple(_below(of_part.get(part, finished)) for part in range(parts))


def _below(finished):
    best = float(finished["best_validation_score"].median())
    error = finished["best_validation_score_error"].astype("float64").median()
    margin = np.nanmax([STANDARD_ERRORS * error, SHARE * abs(best)])
    return best - frames.sign_of(finished) * float(margin)


def next_trials(
    grid: Grid, cell: Cell, runs: pd.DataFrame, targets: Sequence[float] | None
) -> list[tuple[Setting, int]]:
    """The tuning runs that a cell needs next: first the grid, then the neighbours of the best, also beyond the edges of the
    grid; or the setting that Optuna asks for.

    Args:
        grid: The grid.
        cell: One of its cells.
        runs: Its tuning runs, all that were needed so far, with their target.
        targets: The targets; `None` where there are none (yet): the grid then grows for the score alone.
    """
    if grid.tuner == "optuna":
        return _asked(grid, cell, runs, targets)
    if runs.empty:
        return grid.trials(cell)
    if not (runs["status"] == "finished").any():
        return []
    chosen = [tuned(runs, purpose) for purpose in (PURPOSES if targets is not None else ("score",))]
    tried = {settings.key_of(one): one for one in settings.settings_of(runs)}
    more = settings.extensions(grid.values(cell), list(tried.values()), chosen)
    more = [setting for setting in more if grid.allows(cell, setting)]
    return list(itertools.product(more, seeds_of(grid, "tune")))


def _asked(grid, cell, runs, targets):
    """The first half is asked for what has the best score, the rest for what is cheapest to the target: the baseline's own
    is that of its runs so far.
    """
    outcomes = pd.DataFrame() if runs.empty else _outcomes(runs, sort=False)
    count = grid.n_settings(cell)
    if len(outcomes) >= count:
        return []
    purpose = "score" if targets is None or len(outcomes) < -(-count // 2) else "cost"
    tried = [(settings.setting_of(row), float(row[purpose])) for _, row in outcomes.iterrows()]
    setting = tpe.ask(grid.values(cell), tried, count)
    if setting is None:
        return []
    return [(setting, seed) for seed in seeds_of(grid, "tune")]


def chosen(runs: pd.DataFrame, targets: Sequence[float] | None) -> dict[str, Setting]:
    """`{purpose: setting}` to measure: one entry where the best setting for the score is the best for cost, too."""
    found = {"score": tuned(runs, "score")}
    if targets is not None:
        cost = tuned(runs, "cost")
        if settings.key_of(cost) != settings.key_of(found["score"]):
            found["cost"] = cost
    return found


def at_the_edge(runs: pd.DataFrame) -> dict[str, Any]:
    """`{"purpose: argument": value}` of what was chosen at an edge of what it was compared with; `{}` if nothing was.

    Args:
        runs: The rows of `runs` of one cell.
    """
    tune, found = runs[runs["phase"] == "tune"], {}
    if not (tune["status"] == "finished").any():
        return {}
    outcomes = _outcomes(tune)
    tried = settings.settings_of(outcomes)
    for purpose in PURPOSES if tune["flops_to_target"].notna().any() else ("score",):
        best = _best(outcomes, purpose)
        for name, value in best.items():
            if settings.at_edge(_compared(tried, best, name), value):
                found[f"{purpose}: {name}"] = value
    return found


def _compared(tried, best, name):
    """The values of one argument that the best setting was compared with: all else alike; where nothing is, all values."""
    alike = [one for one in tried if {**one, name: best[name]} == best]
    return {one[name] for one in (alike if len(alike) > 1 else tried) if name in one}


def of_purpose(runs: pd.DataFrame, purpose: str) -> pd.DataFrame:
    """The measured runs, of any cells, that were tuned for a purpose: all runs of a cell where one setting serves both."""
    measured = runs[runs["phase"] == "measure"]
    if measured["tuned_for"].nunique() < 2:
        return measured
    own = measured["tuned_for"] == purpose
    served = own.groupby([measured[name] for name in frames.KEY]).transform("any")
    return measured[own | ~served]


def is_fastest_measured(runs: pd.DataFrame) -> bool:
    """Whether the setting of one cell that was fastest to the target in tuning was measured, where any got there."""
    tune, measured = runs[runs["phase"] == "tune"], runs[runs["phase"] == "measure"]
    if tune["flops_to_target"].isna().all() or measured.empty:
        return True
    return bool(_has(measured, tuned(runs, "cost")).any())


def _outcomes(runs, sort=True):
    """What each setting of one cell came to in the tuning runs: a row a setting, with its `score`, `loss` and `cost`, the
    less the better; in the order in which they were tried if not sorted.
    """
    tune = runs[runs["phase"] == "tune"]
    usable = tune["status"] == "finished"
    sign = frames.sign_of(tune)
    columns = ["learning_rate", *settings.knobs_of(tune.columns)]
    score = -sign * tune["best_validation_score"].astype("float64")
    loss = tune["best_validation_loss"].astype("float64")
    measured = pd.DataFrame(
        {
            **{name: tune[name] for name in columns},
            "score": score.where(usable, np.inf),
            "loss": loss.where(usable, np.inf),
            "cost": tune["flops_to_target"].astype("float64").where(usable).fillna(np.inf),
        }
    )
    groups = measured.groupby(columns, dropna=False, sort=sort)
    return groups[["score", "loss"]].mean().join(groups["cost"].median()).reset_index()


def _has(runs, setting):
    key = settings.key_of(setting)
    return np.array([settings.key_of(own) == key for own in settings.settings_of(runs)], bool)
