"""cost: every part on every backend in a process of its own, then figures and the answer from the rows."""

import importlib.util
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from experiments.cost.part import PARTS, Part, load
from experiments.cost.process import measured
from experiments.harness import answers, figures, markdown, rows
from experiments.harness.experiment import Experiment, results_folder

QUESTION = "What does a step that moves one block cost in time, memory and compilation?"
BACKENDS = ("tensorflow", "jax", "torch")
GPU_BACKENDS = ("jax", "torch")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=BACKENDS,
        help=f"if left out: {' '.join(BACKENDS)}; on a GPU {' '.join(GPU_BACKENDS)}",
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="where to measure")
    parser.add_argument(
        "--dtype",
        choices=("float32", "mixed_bfloat16"),
        default="float32",
        help="Keras' dtype policy",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        metavar="PART",
        help="what to measure",
    )


def run(options: Namespace) -> None:
    """Measures each part on each backend, adds what was found to the rows, draws and answers."""
    backends = options.backend or (GPU_BACKENDS if options.device == "gpu" else BACKENDS)
    check_installed(backends, options.only)
    folder = results_folder(options, "cost")
    print(f"cost, {options.scale}, on the {options.device}; tables and figures go to {folder}/")
    for backend in backends:
        for part in options.only:
            start = time.perf_counter()
            found = measured(part, backend, options.scale, options.device, options.dtype)
            rows.add(folder, part, found)
            print(f"{backend}: {part}, {time.perf_counter() - start:.0f} s", flush=True)
    plot(options)


def plot(options: Namespace) -> None:
    """Draws every figure and writes the answer again, from the rows."""
    folder = results_folder(options, "cost")
    found = measured_parts(folder)
    for part, own in found:
        for name, figure in part.figures.items():
            for path in figures.draw(folder, name, own, figure):
                print(f"drawn: {path}")
    print(f"written: {answers.write(folder, answer(folder, found))}")


def table(options: Namespace) -> None:
    """Prints the answer as Markdown, from the rows."""
    folder = results_folder(options, "cost")
    print(answer(folder, measured_parts(folder)))


def measured_parts(folder: Path) -> list[tuple[Part, pd.DataFrame]]:
    """Every part with its rows.

    Raises:
        FileNotFoundError: Nothing was measured.
    """
    found = [(load(part), rows.read(folder, part)) for part in PARTS]
    if all(own.empty for _, own in found):
        raise FileNotFoundError(
            f"no tables of cost in {folder}/. Run it first: python -m experiments run cost"
        )
    return found


def answer(folder: Path, found: list[tuple[Part, pd.DataFrame]]) -> str:
    """What was found in short, the figures that are drawn, and headline ratios: a row a number, a column a backend.

    Args:
        folder: Where the figures are.
        found: Of `measured_parts`.
    """
    columns: dict[str, list[tuple[str, str]]] = {}
    for part, own in found:
        for place, here in own.groupby(list(rows.IDENTITY), sort=False):
            columns.setdefault(", ".join(place), []).extend(part.answer(here))
    sentences = [f"- {said}" for part, own in found for said in part.short(own)]
    names = [name for part, _ in found for name in part.figures]
    drawn = [path for name in names for path in sorted(folder.glob(f"{name}*.png"))]
    scales = dict.fromkeys(scale for _, own in found for scale in own["scale"].dropna())
    paragraphs = [
        f"# {QUESTION}",
        *(["**In short**", "\n".join(sentences)] if sentences else []),
        *(f"![{path.stem.replace('-', ' ')}]({path.name})" for path in drawn),
        markdown.table(columns),
        f"Medians, with quartiles in brackets, at {' and '.join(scales)} scale; each row of the CSV files names its "
        "device, versions, scale and commit. From `python -m experiments run cost`, with `--scale`, `--device`, `--dtype`, "
        "`--backend` and `--only` (a CSV file is a part) as the rows say. What this cannot show: the seconds of another "
        "machine; those of a shared one change by tens of percent from day to day, and both sides of a ratio were measured "
        "in one run.",
    ]
    return "\n\n".join(paragraphs)


def check_installed(backends: Sequence[str], parts: Sequence[str]) -> None:
    """Raises `ValueError` where a backend, or what the parts compare with, is not installed."""
    missing = [name for name in backends if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"not installed: {', '.join(missing)}. Install the backends (pip install -e '.[jax,torch]'), or name those "
            "that are there: --backend tensorflow"
        )
    if "baselines" in parts and not all(map(importlib.util.find_spec, ("torch", "badam"))):
        raise ValueError(
            "the baselines include badam, which needs torch, and one of them is not installed: pip install -e "
            "'.[torch,baselines]', or measure other parts: --only "
            f"{' '.join(part for part in PARTS if part != 'baselines')}"
        )


EXPERIMENT = Experiment(
    question=QUESTION,
    add_arguments=add_arguments,
    run=run,
    plot=plot,
    table=table,
)
