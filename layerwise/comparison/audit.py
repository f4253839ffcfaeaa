"""Audit: what the frames of a comparison cannot claim."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from layerwise.comparison import settings, tuning
from layerwise.comparison.frames import KEY, TASK
from layerwise.comparison.intervals import LEAST_RUNS

MOST = 1.1  # of what is spent under equal FLOPs: the largest over the smallest


def audit(runs: pd.DataFrame) -> list[str]:
    """One sentence for each finding; an empty list where there is none.

    Findings are: a cell of which no tuning run finished, or nothing was measured; a cell that was tuned to an edge of what
    was tried, or for which one learning rate was tried, or one finished; a cell whose fastest setting in the tuning runs
    was not measured; a cell whose intervals rest on fewer than five finished runs; a run whose FLOPs are off those that
    were planned by more than a tenth; and a task of equal FLOPs of which one schedule spent over 1.1 times what another
    did.

    Args:
        runs: The frame `runs`.

    Example:
    >>> import pandas as pd
    >>> from layerwise.comparison import frames
    >>> from layerwise.comparison.audit import audit
    >>> row = dict(dataset="d", model="m", schedule="s", optimizer="o", regularizer="none", seed=0)
    >>> audit(frames.run_frame([row | dict(phase="tune", status="failed", learning_rate=0.1)]))
    ['d, m, o, s: no tuning run finished', 'd, m, o, s: nothing was measured']
    """
    findings = []
    for key, cell in runs.groupby(KEY, sort=False):
        row = dict(zip(KEY, key, strict=True))
        name = _name(row[name] for name in (*TASK, "schedule"))
        for finding in [
            *_missing(cell),
            *_edges(cell),
            *_unmeasured(cell),
            *_few(cell),
            *_unplanned(cell),
        ]:
            findings.append(f"{name}: {finding}")
    return [*findings, *unequal(runs)]


def unequal(runs: pd.DataFrame) -> Iterator[str]:
    """The tasks of equal FLOPs of which one schedule spent, in the mean of its runs, over `MOST` times what another did."""
    equal = runs[(runs["budget"] == "flops") & (runs["phase"] == "measure")]
    finished = equal[equal["status"] == "finished"]
    for key, task in finished.groupby(TASK, sort=False):
        spent = task["flops"].astype("float64").groupby(task["schedule"], sort=False).mean()
        spent = spent.dropna()
        if len(spent) and spent.max() > MOST * spent.min():
            yield (
                f"{_name(key)}: {spent.idxmax()} spent {spent.max() / spent.min():.2f} times the FLOPs of "
                f"{spent.idxmin()}, equal FLOPs allow {MOST}"
            )


def _name(words):
    return ", ".join(word for word in words if word != "none")


def _missing(cell):
    if not ((cell["phase"] == "tune") & (cell["status"] == "finished")).any():
        yield "no tuning run finished"
    if not (cell["phase"] == "measure").any():
        yield "nothing was measured"


def _edges(cell):
    tune = cell[cell["phase"] == "tune"]
    tried = tune["learning_rate"].unique()
    finished = tune[tune["status"] == "finished"]["learning_rate"].unique()
    if len(finished) == 1:
        which = "tried" if len(tried) == 1 else f"of {len(tried)} tried that finished"
        yield f"learning_rate {finished[0]:g} was the only one {which}"
    for what, value in tuning.at_the_edge(cell).items():
        purpose, _, argument = what.partition(": ")
        yield f"tuned for {purpose} to {argument} {value:g}, an edge of what was tried"


def _unmeasured(cell):
    if not tuning.is_fastest_measured(cell):
        fastest = settings.in_words(tuning.tuned(cell, "cost"))
        yield f"the fastest in tuning, {fastest}, was not measured"


def _few(cell):
    measured = cell[cell["phase"] == "measure"]
    finished = measured["status"] == "finished"
    counted: dict[str, int] = {}
    for setting, counts in zip(settings.settings_of(measured), finished, strict=True):
        words = settings.in_words(setting)
        counted[words] = counted.get(words, 0) + counts
    for words, count in counted.items():
        if count < LEAST_RUNS:
            runs = "1 measured run" if count == 1 else f"{count} measured runs"
            yield f"{runs} finished with {words}, intervals need {LEAST_RUNS}"


def _unplanned(cell):
    planned = cell[(cell["budget"] == "flops") & (cell["status"] == "finished")]
    ratios = (
        planned["flops"].astype("float64") / planned["planned_flops"].astype("float64")
    ).dropna()
    if len(ratios) and (ratios.max() > MOST or ratios.min() < 1 / MOST):
        worst = ratios.iloc[np.argmax(np.abs(np.log(ratios)))]
        yield f"a run spent {worst:.2f} times the FLOPs that were planned for it"
