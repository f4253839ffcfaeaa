"""Part: one part of a question, measured case by case; and an experiment that is made of parts."""

import dataclasses
import functools
import importlib
import re
import textwrap
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import pandas as pd

from experiments.harness import answers
from experiments.harness.experiment import Experiment, results_folder
from layerwise.comparison import frames, intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_BOLD = re.compile(r"\*\*(.+?)\*\*", re.DOTALL)
# The end of a line before a word that Markdown reads as the mark of a list, a quotation or a heading.
_MARK = re.compile(r"\n(?=(?:[-+*>]|#+|\d+[.)])\s)")


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a question. Its module exposes it as `PART`.

    Attributes:
        title: What it asks, as the heading of its answer.
        cases: `scale -> {name of a case: arguments of measure}`. What a case measures depends on its arguments alone.
        measure: `arguments -> rows` of a case; the first columns of every row are the arguments.
        draw: Its figure, from all its rows.
        answer: What the rows say, in Markdown.
    """

    title: str
    cases: Callable[[str], dict[str, dict]]
    measure: Callable[..., list[dict]]
    draw: Callable[[pd.DataFrame], "Figure"]
    answer: Callable[[pd.DataFrame], str]


def experiment(name: str, question: str, parts: Sequence[str], opening: str) -> Experiment:
    """An experiment whose parts are the modules of those names in its folder.

    Args:
        name: The folder in `experiments/`, and in the results.
        question: What it asks, in one sentence.
        parts: The names of the modules, in the order of the answer.
        opening: How the answer begins: the question as people ask it.
    """
    loaded = functools.partial(_parts, name, parts)
    return Experiment(
        question=question,
        add_arguments=functools.partial(_add_arguments, parts=parts),
        run=functools.partial(_run, load=loaded, opening=opening),
        plot=functools.partial(_plot, name=name, load=loaded, opening=opening),
        table=lambda options: print(answer(results_folder(options, name), name, loaded(), opening)),
    )


def answer(folder: Path, name: str, parts: dict[str, Part], opening: str) -> str:
    """The question, the answer in short, and under the heading of each part its answer, figure and command.

    In short are the first sentences in bold of each part that was measured.

    Raises:
        FileNotFoundError: Nothing was measured.
    """
    short: list[str] = []
    texts: list[str] = []
    for part_name, part in parts.items():
        rows = read(folder, part_name)
        if len(rows):
            said = wrapped(part.answer(rows))
            short += [f"- {' '.join(found.split())}" for found in _BOLD.findall(said)[:1]]
            command = answers.on_backend(
                f"python -m experiments run {name} --scale full --only {part_name}", rows["backend"]
            )
            texts += [
                f"## {part.title}",
                said,
                f"![{part.title}]({part_name}.png)",
                f"From `{part_name}.csv` ({len(rows)} rows), which `{command}` measures.",
            ]
    if not texts:
        raise FileNotFoundError(
            f"no rows of {name} in {folder}/. Run it first: python -m experiments run {name}"
        )
    return "\n\n".join([opening, "**In short**", "\n".join(short), *texts])


def wrapped(text: str, width: int = 120) -> str:
    r"""Markdown whose paragraphs are wrapped anew, however numbers have lengthened their lines; tables stay.

    Example:
    >>> from experiments.harness.parts import wrapped
    >>> wrapped("one\ntwo three\n\n| a |\n| - |", width=8)
    'one two\nthree\n\n| a |\n| - |'

    No line begins with what would make it an item of a list or a heading:
    >>> wrapped("one + two", width=4)
    'one +\ntwo'
    """
    wrap = functools.partial(
        textwrap.fill, width=width, break_long_words=False, break_on_hyphens=False
    )
    paragraphs = text.split("\n\n")
    return "\n\n".join(
        one if one.startswith("|") else _MARK.sub(" ", wrap(one)) for one in paragraphs
    )


def read(folder: Path, part: str) -> pd.DataFrame:
    """The rows of a part; none where it was not measured."""
    path = folder / f"{part}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["case"])


def measure(folder: Path, name: str, part: Part, scale: str) -> None:
    """Measures the cases of a part that are not in its rows yet; each is on disk as soon as it is over."""
    for case, arguments in part.cases(scale).items():
        rows = read(folder, name)
        if case in set(rows["case"]):
            continue
        start = time.perf_counter()
        found = pd.DataFrame(
            [{"case": case, **arguments, **row} for row in part.measure(**arguments)]
        )
        found = found.assign(backend=keras.backend.backend(), scale=scale, **frames.provenance())
        frames.write(folder, **{name: pd.concat([rows, found]) if len(rows) else found})
        print(f"{name}: {case}, {time.perf_counter() - start:.0f} s", flush=True)


def with_interval(
    values: Iterable[float],
    digits: int = 3,
    factor: float = 1,
    of: Callable[[list[float]], tuple[float, float, float]] = intervals.mean,
) -> str:
    """A mean over seeds (or what `of` computes) with its 95 % interval, as an answer shows it.

    Example:
    >>> from experiments.harness.parts import with_interval
    >>> with_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    '3 [1.04, 4.96]'
    >>> with_interval([0.5, 0.7])
    '0.6'
    """
    center, low, high = (factor * number for number in of(list(values)))
    ends = "" if pd.isna(low) else f" [{low:.{digits}g}, {high:.{digits}g}]"
    return f"{center:.{digits}g}{ends}"


def load(name: str, part: str) -> Part:
    """A part of an experiment, by the names of its folder and module."""
    return importlib.import_module(f"experiments.{name}.{part}").PART


def _parts(name, parts):
    return {part: load(name, part) for part in parts}


def _add_arguments(parser: ArgumentParser, parts):
    parser.add_argument(
        "--only", nargs="+", choices=parts, default=parts, metavar="PART", help="what to measure"
    )


def _run(options: Namespace, load, opening):
    folder = results_folder(options, options.name)
    for name, part in load().items():
        if name in options.only:
            measure(folder, name, part, options.scale)
    _plot(options, options.name, load, opening)


def _plot(options, name, load, opening):
    folder = results_folder(options, name)
    text = answer(folder, name, load(), opening)
    for part_name, part in load().items():
        rows = read(folder, part_name)
        if len(rows):
            path = folder / f"{part_name}.png"
            part.draw(rows).savefig(path, dpi=130)
            print(f"drawn: {path}")
    print(f"written: {answers.write(folder, text)}")
