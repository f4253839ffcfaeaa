"""The command line of all experiments: list, run, plot, table, readme, report."""

import argparse
import importlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from experiments.harness import readme
from experiments.harness.experiment import Experiment

# The modules that expose an `EXPERIMENT`. An experiment is called as the module, or the folder, in `experiments/`.
MODULES = (
    "experiments.convergence",
    "experiments.orders",
    "experiments.forgetting",
    "experiments.depth",
    "experiments.cost.experiment",
    "experiments.coadaptation.experiment",
    "experiments.linearity.experiment",
    "experiments.dependence.experiment",
    "experiments.interplay.experiment",
    "experiments.published.experiment",
)
NAMES = tuple(module.split(".")[1] for module in MODULES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carries out a command line; `None`: the one that the process was called with."""
    options = _parser().parse_args(arguments)
    try:
        options.carry_out(options)
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        sys.exit("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]))
    except KeyboardInterrupt as error:
        kept = getattr(error, "__notes__", ["What was over is kept: the same command goes on."])
        sys.exit("\n".join(["\ninterrupted", *kept]))


def experiment(name: str) -> Experiment:
    """The experiment of that name."""
    return importlib.import_module(MODULES[NAMES.index(name)]).EXPERIMENT


def show_experiments(options: Namespace) -> None:
    """Prints what there is to run."""
    for name in NAMES:
        print(f"{name}: {experiment(name).question}")


def run(options: Namespace) -> None:
    """Carries out one experiment."""
    experiment(options.name).run(options)


def show(options: Namespace) -> None:
    """Draws the figures, or prints the tables, of one experiment or of all that have results."""
    names = [options.name] if options.name else NAMES
    missing = []
    for name in names:
        options.name = name
        try:
            getattr(experiment(name), options.what)(options)
        except FileNotFoundError as error:
            missing.append(str(error))
    if len(missing) == len(names):
        raise FileNotFoundError("; ".join(missing))


def write_readme(options: Namespace) -> None:
    """Writes the tables of a README again, from the answers."""
    print(f"{options.file}: {'written' if readme.write(options.file) else 'nothing new'}")


def write_report(options: Namespace) -> None:
    """Writes results/README.md and results/index.html from the answers and frames."""
    from experiments.harness.report import (
        overview,
        page,
    )  # reads frames: not needed by what measures

    root = options.results or Path("results")
    for write in (overview.write, page.write):
        print(f"written: {write(root)}")


def _parser() -> ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the experiments, and what each asks")
    listing.set_defaults(carry_out=show_experiments)
    running = commands.add_parser("run", help="carry out an experiment and draw its figures")
    names = running.add_subparsers(required=True, metavar="NAME", dest="name")
    for name in NAMES:
        question = experiment(name).question
        one = names.add_parser(
            name,
            help=question,
            description=question,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        one.set_defaults(carry_out=run)
        one.add_argument(
            "--scale",
            choices=("quick", "full"),
            default="quick",
            help="quick takes minutes, full is everything",
        )
        _add_results(one)
        experiment(name).add_arguments(one)
    for what, text in (
        ("plot", "every figure again, from the frames; nothing is trained"),
        ("table", "the answer as Markdown, from the frames"),
    ):
        command = commands.add_parser(what, help=text)
        command.set_defaults(carry_out=show, what=what, audit=False)
        command.add_argument("name", nargs="?", choices=NAMES, help="all, if left out")
        _add_results(command)
        if what == "table":
            command.add_argument(
                "--audit",
                action="store_true",
                help="name what the frames cannot claim; fail if there is any",
            )
    writing = commands.add_parser("readme", help="the tables of README.md again, from the answers")
    writing.set_defaults(carry_out=write_readme)
    writing.add_argument("file", nargs="?", type=Path, default=Path("README.md"))
    reporting = commands.add_parser(
        "report", help="README.md and index.html of the results, from the answers and frames"
    )
    reporting.set_defaults(carry_out=write_report)
    _add_results(reporting)
    return parser


def _add_results(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="where frames and figures are; else results/"
    )
