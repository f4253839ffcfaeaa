"""Experiments that are comparisons of schedules: their arguments, and how they run."""

import argparse
import fnmatch
import functools
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import layerwise
from experiments.harness import answers
from experiments.harness.data import load
from experiments.harness.experiment import Experiment
from layerwise.comparison import Comparison
from layerwise.comparison.audit import audit
from layerwise.comparison.budget import BUDGETS

# Below this many training examples, smaller batches: an epoch still has a dozen steps.
FEW_EXAMPLES = 5000


def experiment(
    question: str,
    define: Callable[..., dict],
    answer: Callable[[Comparison], str] = Comparison.table,
) -> Experiment:
    """An experiment that trains one comparison for each data set.

    Args:
        question: What it asks.
        define: `(scale, shape of an example, number of classes, epochs=None) -> arguments of layerwise.compare`.
        answer: What the comparison says to the question, in Markdown.
    """
    return Experiment(
        question=question,
        add_arguments=add_arguments,
        run=functools.partial(run, define=define, answer=answer),
        plot=functools.partial(plot, answer=answer),
        table=functools.partial(table, answer=answer),
    )


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    parser.add_argument(
        "--data",
        default="digits",
        metavar="SOURCE",
        help="digits, mnist, fashion_mnist, cifar10, or FILE.npz with the arrays x_train, y_train, "
        "x_test, y_test",
    )
    parser.add_argument(
        "--subset", type=_positive, metavar="N", help="use N of the images not for testing"
    )
    parser.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="processes side by side"
    )
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
    parser.add_argument("--models", nargs="+", metavar="MODEL", help="such as mlp")
    parser.add_argument(
        "--budget",
        choices=BUDGETS,
        default="flops",
        help="what every schedule may spend of what the baseline spends",
    )
    for name in ("seeds", "tuning-seeds", "epochs", "batch-size"):
        parser.add_argument(f"--{name}", type=_positive, metavar="N", help="instead of the scale's")


def run(
    options: Namespace, define: Callable[..., dict], answer: Callable[[Comparison], str]
) -> None:
    """Trains what is not in the results yet, draws the figures and writes the answer."""
    start = time.perf_counter()
    dataset, data, n_classes = load(options.data, options.subset)
    shape = data.train[0].shape[1:]
    definition = _chosen(define(options.scale, shape, n_classes, epochs=options.epochs), options)
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
        jobs=options.jobs,
        cluster=options.cluster,
        budget=options.budget,
        **definition,
    )
    paths = comparison.plot(folder)
    print(f"\n{comparison}")
    print("\n".join(f"drawn: {path}" for path in paths))
    print(f"written: {answers.write(folder, answer(comparison))}")
    print(f"{len(comparison.runs)} runs, {time.perf_counter() - start:.0f} s in all")


def plot(options: Namespace, answer: Callable[[Comparison], str]) -> None:
    """Draws every figure and writes the answer again, from the frames."""
    for folder, comparison in _kept(options):
        for path in comparison.plot(folder):
            print(f"drawn: {path}")
        print(f"written: {answers.write(folder, answer(comparison))}")


def table(options: Namespace, answer: Callable[[Comparison], str]) -> None:
    """Prints the answer as Markdown, from the frames; with --audit, what the frames cannot claim.

    Raises:
        ValueError: The audit found something.
    """
    found = 0
    for folder, comparison in _kept(options):
        if not getattr(options, "audit", False):
            print(f"### {folder}\n\n{answer(comparison)}")
            continue
        findings = audit(comparison.runs)
        found += len(findings)
        print(f"### {folder}: {len(findings) or 'no'} findings")
        print("".join(f"- {finding}\n" for finding in findings))
    if found:
        raise ValueError(f"the audit has {found} findings: these frames do not carry all they show")


def default_results(dataset: str, scale: str) -> Path:
    """`results` for the full digits, which the README shows; else a folder of its own below it."""
    name = "-".join(part for part in (dataset, scale) if part not in ("digits", "full"))
    return Path("results") / name


def _chosen(definition: dict, options: Namespace) -> dict:
    """The definition with what the command line narrows down or sets."""
    if options.only:
        names = list(definition["schedules"])
        kept = [name for name in names[1:] if any(fnmatch.fnmatch(name, p) for p in options.only)]
        if not kept:
            raise ValueError(
                f"--only {' '.join(options.only)} matches none of: {'; '.join(names[1:])}."
            )
        definition["schedules"] = {
            name: definition["schedules"][name] for name in (names[0], *kept)
        }
    if options.models:
        unknown = sorted(set(options.models) - set(definition["models"]))
        if unknown:
            raise ValueError(
                f"--models {' '.join(unknown)}: at this scale and for this data there are "
                f"{', '.join(definition['models'])}."
            )
        definition["models"] = {name: definition["models"][name] for name in options.models}
    for name in ("seeds", "tuning_seeds"):
        if getattr(options, name) is not None:
            definition[name] = getattr(options, name)
    return definition


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
