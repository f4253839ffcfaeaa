"""Experiment: one question, and what answers it."""

import dataclasses
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A question and what the command line can do about it. Its module exposes it as `EXPERIMENT`.

    Attributes:
        question: What it asks, in one sentence.
        add_arguments: Gives the parser of `run` its arguments beside --scale and --results.
        run: Measures what is not in the results yet, then does what `plot` does.
        plot: Draws every figure and writes `answer.md`, from the frames; nothing is trained.
        table: Prints the answer as Markdown, from the frames.
    """

    question: str
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], None]
    plot: Callable[[Namespace], None]
    table: Callable[[Namespace], None]


def results_folder(options: Namespace, name: str) -> Path:
    """The folder `name` of the results: below `results` for the full scale; what is quick does not write over it."""
    if options.results is None and getattr(options, "scale", "full") != "full":
        return Path("results") / options.scale / name
    return (options.results or Path("results")) / name
