"""The command line of all experiments: list, run, plot, table."""

import argparse
import importlib
import sys
from pathlib import Path

# What each asks, and the module that carries it out: add_arguments(parser), run(options),
# plot(options) and, where there is one, table(options).
EXPERIMENTS = {
    "convergence": (
        "How fast does each schedule reach the same accuracy, and how well does it generalize?",
        "experiments.comparing",
    ),
    "cost": (
        "What does a step that moves one block cost in time, memory and compilation?",
        "experiments.cost.command",
    ),
}


def main(arguments=None):
    """Carries out a command line; `None`: the one that the process was called with."""
    options = _parser().parse_args(arguments)
    try:
        options.carry_out(options)
    except (ValueError, FileNotFoundError, RuntimeError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("\ninterrupted: what was over is kept; the same command goes on from there")


def show_experiments(options):
    """Prints what there is to run."""
    for name, (question, _) in EXPERIMENTS.items():
        print(f"{name}: {question}")


def run(options):
    """Carries out one experiment."""
    _module(options.name).run(options)


def show(options):
    """Draws the figures, or prints the tables, of one experiment or of all that have results."""
    names = [options.name] if options.name else list(EXPERIMENTS)
    missing = []
    for name in names:
        options.name = name
        carry_out = getattr(_module(name), options.what, None)
        try:
            if carry_out is not None:
                carry_out(options)
        except FileNotFoundError as error:
            missing.append(str(error))
    if len(missing) == len(names):
        raise FileNotFoundError("; ".join(missing))


def _module(name):
    return importlib.import_module(EXPERIMENTS[name][1])


def _parser():
    parser = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the experiments, and what each asks")
    listing.set_defaults(carry_out=show_experiments)
    running = commands.add_parser("run", help="carry out an experiment and draw its figures")
    names = running.add_subparsers(required=True, metavar="NAME", dest="name")
    for name, (question, _) in EXPERIMENTS.items():
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
        _module(name).add_arguments(one)
    for what, text in (
        ("plot", "every figure again, from the frames; nothing is trained"),
        ("table", "the answer as Markdown, from the frames"),
    ):
        command = commands.add_parser(what, help=text)
        command.set_defaults(carry_out=show, what=what)
        command.add_argument("name", nargs="?", choices=EXPERIMENTS, help="all, if left out")
        _add_results(command)
    return parser


def _add_results(parser):
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="where frames and figures are; else results/"
    )
