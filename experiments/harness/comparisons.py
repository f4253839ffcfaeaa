"""Experiments that are comparisons of schedules: their arguments, and how they run."""

import argparse
import fnmatch
import functools
import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

import layerwise
from experiments.harness import answers, verdict
from experiments.harness.data import load
from experiments.harness.devices import MOST_PROCESSES, side_by_side
from experiments.harness.experiment import Experiment
from layerwise.comparison import Comparison
from layerwise.comparison.budget import BUDGETS
from layerwise.comparison.files import write_atomically
from layerwise.comparison.frames import TASK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Below this many training examples, smaller batches: an epoch still has a dozen steps.
FEW_EXAMPLES = 5000


def experiment(
    question: str,
    define: Callable[..., dict],
    findings: Callable[[Comparison, pd.DataFrame], list[str]],
    limits: str,
    figure: Callable[[pd.DataFrame], "Figure"] = verdict.figure,
    by_task: bool = True,
) -> Experiment:
    """An experiment that trains one comparison for each data set.

    Args:
        question: What it asks.
        define: `(scale, shape of an example, number of classes, epochs=None, optimizers=None) -> arguments of
            layerwise.compare`.
        findings: `(comparison, its verdicts (verdict.frame)) -> sentences`: what it says to the question.
        limits: What it cannot show.
        figure: Draws the verdicts.
        by_task: Whether every task has figures of its own.
    """
    drawing = functools.partial(draw, figure=figure, by_task=by_task)
    answer = functools.partial(page, question=question, findings=findings, limits=limits)
    return Experiment(
        question=question,
        add_arguments=add_arguments,
        run=functools.partial(run, define=define, answer=answer, drawing=drawing),
        plot=functools.partial(plot, answer=answer, drawing=drawing),
        table=functools.partial(table, answer=answer),
    )


def page(
    comparison: Comparison,
    folder: Path,
    question: str,
    findings: Callable[[Comparison, pd.DataFrame], list[str]],
    limits: str,
) -> str:
    """The answer in Markdown: sentences, the figure, verdicts over all tasks, and a table of each.

    Args:
        comparison: What the folder holds.
        folder: Where its frames are, and `settings.json`, which knows the commands.
        question: As for `experiment`.
        findings: As for `experiment`.
        limits: As for `experiment`.
    """
    rows, runs = verdict.frame(comparison), comparison.runs
    name = runs["experiment"].iloc[0]
    seeds = runs[runs["phase"] == "measure"].groupby("schedule", sort=False)["seed"].nunique()
    backends = " and ".join(runs["backend"].dropna().unique())
    budgets = " and ".join(f"equal {budget}" for budget in runs["budget"].dropna().unique())
    lines = [
        f"# {question}",
        "**In short**",
        "\n".join(f"- {sentence}" for sentence in findings(comparison, rows)),
        "**How it was measured**",
        f"On {' and '.join(runs['dataset'].unique())}, {runs.groupby(TASK).ngroups} tasks (a network with an optimizer). "
        f"Every schedule was tuned by itself, on {budgets}; {seeds.min()} paired seeds; {len(runs)} runs on "
        f"{backends}, {(runs['status'] == 'diverged').sum()} of them diverged. Beyond chance: a sign test (cost) or a "
        f"paired t test (score) below {verdict.LEVEL:g} after Holm's correction over the schedules of a task. Each part of "
        "the data that runs were validated on has a target of its own, below what tuned simultaneous training reaches "
        "there. In tables of tasks costs are of the setting tuned for cost, medians over seeds, a miss counting as "
        f"infinite, multiples paired by seed{verdict.ties(comparison)}; mean FLOPs count a run that missed up to the "
        "least that any run spent in all; generalization is of the setting tuned for score, means; intervals are of 95 %.",
        f"What this cannot show: {limits}",
        f"From {commands([folder], runs['backend'])}; `python -m experiments table {name} --audit` names what the frames "
        "cannot claim.",
        "![FLOPs to the target by schedule and task](verdict.png)",
        "**All tasks**",
        verdict.table(rows, comparison),
        *verdict.by_network(rows),
        comparison.table(),
    ]
    return "\n\n".join(lines)


def commands(folders: Iterable[Path], backends: Iterable[str]) -> str:
    """The commands that trained what folders hold, from their `settings.json`, on the backends of their runs."""
    paths = [path for folder in folders if (path := folder / "settings.json").exists()]
    sessions = [own for path in paths for own in json.loads(path.read_text())["sessions"]]
    found = answers.in_one(own["command"] for own in sessions if "command" in own)
    said = (f"`{answers.on_backend(command, backends)}`" for command in found)
    return " and ".join(said) or "an unknown command"


def draw(
    comparison: Comparison,
    folder: Path,
    figure: Callable[[pd.DataFrame], "Figure"] = verdict.figure,
    by_task: bool = True,
) -> list[Path]:
    """Draws the figure of the verdicts of a comparison, and those of each task."""
    path = folder / "verdict.png"
    drawn = figure(verdict.frame(comparison))
    write_atomically(path, lambda to: drawn.savefig(to, format="png", dpi=150))
    return [path, *(comparison.plot(folder) if by_task else ())]


def add_data_arguments(parser: ArgumentParser) -> None:
    """What to train on, and in how many processes."""
    parser.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="digits, mnist, fashion_mnist, cifar10, or FILE.npz with the arrays x_train, y_train, "
        "x_test, y_test",
    )
    for name, which in (("subset", "not for testing"), ("test-subset", "for testing")):
        parser.add_argument(
            f"--{name}", type=_positive, metavar="N", help=f"use N of the images {which}"
        )
    several = f"processes side by side; if left out one for each core, {MOST_PROCESSES} at most; on a GPU one in all"
    parser.add_argument("--jobs", type=_positive, metavar="N", help=several)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    add_data_arguments(parser)
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="dask://HOST:PORT or ray://HOST:PORT: runs go to all workers of this cluster",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="PATTERN",
        help="schedules beside the baseline, such as 'greedy*' '*, sweep'",
    )
    parser.add_argument("--models", nargs="+", metavar="PATTERN", help="such as mlp '*, plain, *'")
    parser.add_argument("--optimizers", nargs="+", metavar="PATTERN", help="such as Adam")
    parser.add_argument(
        "--budget",
        choices=BUDGETS,
        default="flops",
        help="what every schedule may spend of what the baseline spends",
    )
    alone = "how often a run of each schedule is timed alone when all runs are over, instead of the scale's"
    parser.add_argument("--timed", type=int, metavar="N", help=alone)
    for name in ("seeds", "tuning-seeds", "epochs", "batch-size"):
        parser.add_argument(f"--{name}", type=_positive, metavar="N", help="instead of the scale's")
    again = "measure on the seeds from N on and tune on others, to try a conclusion once more"
    parser.add_argument("--first-seed", type=_positive, metavar="N", help=again)


def run(
    options: Namespace,
    define: Callable[..., dict],
    answer: Callable[[Comparison, Path], str],
    drawing: Callable[[Comparison, Path], list[Path]],
) -> None:
    """Trains what is not in the results yet, draws the figures and writes the answer."""
    start = time.perf_counter()
    dataset, data, n_classes = load(options.data, options.subset, options.test_subset)
    shape = data.train[0].shape[1:]
    definition = _chosen(
        define(options.scale, shape, n_classes, options.epochs, options.optimizers), options
    )
    folder = options.results or default_results(dataset, options.scale)
    folder = folder / options.name
    print(f"{options.name}, {options.scale}: {dataset}, {data}")
    print(f"frames and figures go to {folder}/", flush=True)
    few = data.sizes["train"] < FEW_EXAMPLES
    comparison = layerwise.compare(
        data={dataset: data},
        experiment=options.name,
        batch_size=options.batch_size or (64 if few else 128),
        results=folder,
        jobs=options.jobs or (1 if options.cluster else side_by_side()),
        cluster=options.cluster,
        budget=options.budget,
        **definition,
    )
    paths = drawing(comparison, folder)
    print(f"\n{comparison}")
    print("\n".join(f"drawn: {path}" for path in paths))
    print(f"written: {answers.write(folder, answer(comparison, folder))}")
    print(f"{len(comparison.runs)} runs, {time.perf_counter() - start:.0f} s in all")


def plot(
    options: Namespace,
    answer: Callable[[Comparison, Path], str],
    drawing: Callable[[Comparison, Path], list[Path]],
) -> None:
    """Draws every figure and writes the answer again, from the frames."""
    for folder, comparison in _kept(options):
        for path in drawing(comparison, folder):
            print(f"drawn: {path}")
        print(f"written: {answers.write(folder, answer(comparison, folder))}")


def table(options: Namespace, answer: Callable[[Comparison, Path], str]) -> None:
    """Prints the answer as Markdown, from the frames; with --audit, what the frames cannot claim.

    Raises:
        ValueError: The audit found something.
    """
    answers.show(
        options,
        (
            (folder, comparison.runs, functools.partial(answer, comparison, folder))
            for folder, comparison in _kept(options)
        ),
    )


def default_results(dataset: str, scale: str) -> Path:
    """`results` for the full digits, which the README shows; else a folder of its own below it."""
    name = "-".join(part for part in (dataset, scale) if part not in ("digits", "full"))
    return Path("results") / name


def _chosen(definition: dict, options: Namespace) -> dict:
    """The definition with what the command line narrows down or sets."""
    if options.only:
        names = list(definition["schedules"])
        kept = known("only", options.only, names[1:])
        definition["schedules"] = {
            name: definition["schedules"][name] for name in (names[0], *kept)
        }
    if options.models:
        names = known("models", options.models, definition["models"])
        definition["models"] = {name: definition["models"][name] for name in names}
    for name in ("seeds", "tuning_seeds", "timed", "first_seed"):
        if getattr(options, name) is not None:
            definition[name] = getattr(options, name)
    return definition


def known(kind: str, patterns: Iterable[str], there_are: Iterable[str]) -> list[str]:
    """The names that the command line chooses by themselves or by patterns such as "greedy*", in the order of all.

    Raises:
        ValueError: A pattern matches none.
    """
    names, patterns = list(there_are), list(patterns)
    unknown = [pattern for pattern in patterns if not fnmatch.filter(names, pattern)]
    if unknown:
        raise ValueError(
            f"--{kind} {' '.join(unknown)}: at this scale and for this data there are {'; '.join(names)}."
        )
    return [name for name in names if any(fnmatch.fnmatch(name, p) for p in patterns)]


def _kept(options: Namespace) -> Iterator[tuple[Path, Comparison]]:
    """The folders below the results that hold runs of an experiment, and their comparisons."""
    root = options.results or Path("results")
    folders = [path.parent for path in sorted(root.rglob(f"{options.name}/runs.csv"))]
    if not folders:
        raise FileNotFoundError(
            f"there are no frames of {options.name} under {root}/: python -m experiments run "
            f"{options.name}"
        )
    for folder in folders:
        yield folder, Comparison.load(folder)


def _positive(text: str) -> int:
    value = int(text) if text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, got {text!r}")
    return value
