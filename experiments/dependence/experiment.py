"""dependence: weights depend on each other; is the gradient still the steepest direction, and is that why pictures work?"""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import layerwise
from experiments.dependence import picture_answer, pictures, quadratics, slices
from experiments.dependence.answer import QUESTION, answer
from experiments.harness import answers, comparisons
from experiments.harness.data import load
from experiments.harness.experiment import Experiment

NAME = "dependence"
PARTS = ("quadratics", "slices", "pictures")


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    parser.add_argument("--data", default="digits", metavar="SOURCE", help="as for convergence")
    parser.add_argument(
        "--subset",
        type=int,
        metavar="N",
        help="use N of the images not for testing, and N of those for it",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="instead of the scale's")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")


def run(options: Namespace) -> None:
    """Measures what is not in the results yet, draws and answers."""
    name, data, n_classes = load(options.data, options.subset)
    data = cut(data, options.subset)
    folder = (options.results or comparisons.default_results(name, options.scale)) / NAME
    print(f"{NAME}, {options.scale}: {name}, {data}; to {folder}/", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "command.json").write_text(json.dumps(_command(options)) + "\n")
    if "quadratics" in options.only:
        quadratics.run(folder)
    if "pictures" in options.only:
        pictures.run(folder, name, data, n_classes, options.scale, options.seeds)
    if "slices" in options.only:
        slices.run(folder, data, n_classes, options.scale, options.seeds)
    _draw(folder)


def plot(options: Namespace) -> None:
    """Draws every figure and writes the answer again, from the frames."""
    for folder in _kept(options):
        _draw(folder)


def table(options: Namespace) -> None:
    """Prints the answer as Markdown, from the frames."""
    for folder in _kept(options):
        print(f"### {folder}\n\n{answer(folder)}")


def cut(data: layerwise.Data, count: int | None) -> layerwise.Data:
    """Data with at most `count` images for testing, the first ones."""
    if count is None:
        return data
    x, y = data.test
    return layerwise.Data(data.train, data.validation, (x[:count], y[:count]), data.folds)


def _draw(folder):
    from experiments.dependence import figures  # matplotlib loads with the first figure

    drawn = {}
    if len(quadratic := slices.read(folder, "quadratics")):
        more = [slices.read(folder, name) for name in ("balls", "ways")]
        drawn["two-weights"] = figures.two_weights(quadratic, *more)
    if len(planes := slices.read(folder, "planes")):
        drawn["slices"] = figures.slices(planes, slices.read(folder, "directions"))
    if (folder / "runs.csv").exists():
        drawn["pictures"] = figures.pictures(picture_answer.rows_of(folder))
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")
        print(f"drawn: {folder / name}.png")
    print(f"written: {answers.write(folder, answer(folder))}")


def _kept(options) -> Iterator[Path]:
    """The folders below the results that hold frames of this experiment."""
    root = options.results or Path("results")
    folders = sorted(path.parent for path in root.rglob(f"{NAME}/command.json"))
    if not folders:
        raise FileNotFoundError(
            f"there are no frames of {NAME} under {root}/: python -m experiments run {NAME}"
        )
    yield from folders


def _command(options):
    """What was typed, as the answer shows it."""
    words = ["python -m experiments run", NAME, f"--scale {options.scale}"]
    if options.data != "digits":
        words.append(f"--data {options.data}")
    words += [
        f"--{name} {value}" for name in ("subset", "seeds") if (value := getattr(options, name))
    ]
    return " ".join(words)


EXPERIMENT = Experiment(
    question=QUESTION,
    add_arguments=add_arguments,
    run=run,
    plot=plot,
    table=table,
)
