"""interplay: which claims about regularization and optimizers hold, under each schedule."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import statsmodels.formula.api
from statsmodels.stats.anova import anova_lm

from experiments.harness import answers, comparisons
from experiments.harness.data import load
from experiments.harness.experiment import Experiment
from experiments.harness.markdown import markdown_table
from experiments.interplay.claims import CLAIMS, scored
from experiments.interplay.grid import REGULARIZATIONS, SCALES, compare
from layerwise.comparison import frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUESTION = "Do schedule, optimizer and regularization change what is best of each other, and which claims about them hold?"
LIMITS = (
    "other networks and data: this is a small dense net on small images, where regularization has little to win; a "
    "sensitivity to initialization beyond that of its seeds, since the scale of the initial weights was not varied."
)
FACTORS = ("schedule", "optimizer", "regularizer")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    comparisons.add_data_arguments(parser)


def run(options: Namespace) -> None:
    """Trains what is not in the results yet, draws the figure and writes the answer."""
    dataset, data, n_classes = load(options.data, options.subset)
    root = (options.results or comparisons.default_results(dataset, options.scale)) / "interplay"
    for name in SCALES[options.scale]["regularizations"]:
        folder = root / _folder_name(name)
        print(f"interplay, {options.scale}: {dataset}, {name}; frames go to {folder}/", flush=True)
        compare(name, options.scale, dataset, data, n_classes, folder, options.jobs)
    _show(root)


def plot(options: Namespace) -> None:
    """Draws the figure and writes the answer again, from the frames."""
    for root in _roots(options):
        _show(root)


def table(options: Namespace) -> None:
    """Prints the answer as Markdown; with --audit, what the frames cannot claim.

    Raises:
        ValueError: The audit found something.
    """
    kept = ((root, *read(root)) for root in _roots(options))
    answers.show(
        options,
        ((root, runs, functools.partial(answer, runs, probes)) for root, runs, probes in kept),
    )


def read(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs and what was probed, of all regularizations."""
    folders = [path.parent for path in root.glob("*/runs.csv")]
    names = [_folder_name(name) for name in REGULARIZATIONS]
    folders.sort(key=lambda folder: names.index(folder.name))
    return (
        pd.concat([frames.read(folder)[0] for folder in folders], ignore_index=True),
        pd.concat([frames.read_probes(folder) for folder in folders], ignore_index=True),
    )


def answer(runs: pd.DataFrame, probes: pd.DataFrame) -> str:
    """The claims with their verdicts, what explains the scores, and what the frames cannot show."""
    header, lines = ["claim", "verdict", "measured: mean [95 % interval]"], []
    for claim in CLAIMS.values():
        rows = claim.measure(runs, probes).dropna(subset=["low"])
        numbers = "; ".join(
            f"{row['what']}: {row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
            for _, row in rows.iterrows()
        )
        lines.append([claim.says, claim.verdict(rows), numbers])
    measured, tuned = runs[runs["phase"] == "measure"], runs[runs["phase"] == "tune"]
    seeds = measured.groupby(list(FACTORS))["seed"].nunique().min()
    parts = [
        f"# {QUESTION}",
        "Each schedule was tuned by itself with each optimizer and each regularization: rate and strength, on as many "
        f"settings everywhere. {len(tuned)} tuning runs, {len(measured)} measured ones ({seeds} seeds a cell), "
        f"on {' and '.join(runs['dataset'].unique())} by {' and '.join(runs['backend'].unique())}.",
        markdown_table(header, lines),
        "![Test score by schedule, optimizer and regularization](interplay.png)",
        effects(scored(runs)),
        f"What this cannot show: {LIMITS}",
        "From `python -m experiments run interplay --scale full`.",
    ]
    return "\n\n".join(parts)


def effects(runs: pd.DataFrame) -> str:
    """Which factors, and which pairs of them, explain the test scores: an analysis of variance (statsmodels, type II)."""
    several = [name for name in FACTORS if runs[name].nunique() > 1]
    finished = runs[runs["status"] == "finished"]
    terms = [f"C({name})" for name in several]
    pairs = [f"{a}:{b}" for i, a in enumerate(terms) for b in terms[i + 1 :]]
    model = statsmodels.formula.api.ols(f"test_score ~ {' + '.join([*terms, *pairs])}", finished)
    found = anova_lm(model.fit(), typ=2)
    total = found["sum_sq"].sum()
    lines = []
    for name, row in found.iterrows():
        words = str(name).replace("C(", "").replace(")", "").replace(":", " with ")
        f, p = (f"{row['F']:.3g}", f"{row['PR(>F)']:.2g}") if np.isfinite(row["F"]) else ("", "")
        words = words.replace("Residual", "seeds and the rest")
        lines.append([words, f"{row['sum_sq'] / total:.1%}", f, p])
    return markdown_table(
        ["what explains the test score", "share of its variance", "F", "p"], lines
    )


def figure(runs: pd.DataFrame) -> Figure:
    """A heat map a schedule: the mean test score by regularization and optimizer."""
    import seaborn as sns
    from matplotlib.figure import Figure

    own = scored(runs)
    schedules = list(dict.fromkeys(own["schedule"]))
    percent = "accuracy" in frames.metric_of(own)
    means = own.groupby(list(FACTORS), sort=False)["test_score"].mean() * (100 if percent else 1)
    drawn = Figure(
        figsize=(2 + 3.6 * len(schedules), 1.6 + 0.42 * own["regularizer"].nunique()),
        layout="constrained",
    )
    axes = drawn.subplots(1, len(schedules), squeeze=False, sharey=True)[0]
    for axis, schedule in zip(axes, schedules, strict=True):
        table = means.xs(schedule, level="schedule").unstack("optimizer", sort=False)
        sns.heatmap(
            table,
            annot=True,
            fmt=".1f" if percent else ".3g",
            cmap="viridis",
            cbar=axis is axes[-1],
            vmin=means.quantile(0.1),
            vmax=means.max(),
            ax=axis,
            annot_kws={"fontsize": 8},
        )
        axis.set(title=schedule, xlabel=None, ylabel=None)
    metric = frames.metric_of(own).replace("_", " ")
    drawn.suptitle(
        f"Test {metric}{', %' if percent else ''}: mean over seeds, each cell tuned by itself"
    )
    return drawn


def _folder_name(regularization):
    return regularization.replace(", ", "_").replace(" ", "_")


def _roots(options: Namespace) -> Iterator[Path]:
    root = options.results or Path("results")
    found = sorted({path.parents[1] for path in root.rglob("interplay/*/runs.csv")})
    if not found:
        raise FileNotFoundError(
            f"there are no frames of interplay under {root}/: python -m experiments run interplay"
        )
    yield from found


def _show(root):
    runs, probes = read(root)
    path = root / "interplay.png"
    drawn = figure(runs)
    frames.write_atomically(path, lambda to: drawn.savefig(to, format="png", dpi=150))
    print(f"drawn: {path}\nwritten: {answers.write(root, answer(runs, probes))}")


EXPERIMENT = Experiment(
    question=QUESTION, add_arguments=add_arguments, run=run, plot=plot, table=table
)
