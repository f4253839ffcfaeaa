"""dependence: weights depend on each other; is the gradient still the steepest direction, and is that why pictures work?"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import layerwise
from experiments.dependence import pictures
from experiments.harness import comparisons
from experiments.harness.data import load
from experiments.harness.experiment import Experiment

NAME = "dependence"
PARTS = ("quadratics", "slices", "pictures")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    parser.add_argument("--data", default="digits", metavar="SOURCE", help="as for convergence")
    parser.add_argument(
        "--subset", type=int, metavar="N", help="use N of the images not for testing, and N of those for it"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="instead of the scale's")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")


def run(options: Namespace) -> None:
    """Measures what is not in the results yet, draws and answers."""
    name, data, n_classes = load(options.data, options.subset)
    data = cut(data, options.subset)
    folder = (options.results or comparisons.default_results(name, options.scale)) / NAME
    print(f"{NAME}, {options.scale}: {name}, {data}; to {folder}/", flush=True)
    if "pictures" in options.only:
        pictures.run(folder, name, data, n_classes, options.scale, options.seeds)


def cut(data: layerwise.Data, count: int | None) -> layerwise.Data:
    """Data with at most `count` images for testing, the first ones."""
    if count is None:
        return data
    x, y = data.test
    return layerwise.Data(data.train, data.validation, (x[:count], y[:count]), data.folds)


EXPERIMENT = Experiment(
    question="Weights depend on each other: is the gradient still the steepest direction, and why does it work on pictures?",
    add_arguments=add_arguments,
    run=run,
    plot=run,
    table=run,
)
