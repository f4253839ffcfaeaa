"""interplay: which claims about regularization and optimizers hold, under each schedule."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from experiments.harness import answers, comparisons
from experiments.harness.data import load
from experiments.harness.devices import side_by_side
from experiments.harness.experiment import Experiment
from experiments.harness.markdown import markdown_table
from experiments.interplay import figures, start
from experiments.interplay.claims import CLAIMS, Measured, in_short
from experiments.interplay.grid import REGULARIZATIONS, SCALES, compare
from experiments.interplay.measures import scored, tuned_away
from experiments.interplay.variance import FACTORS, effects, table_of, what_matters
from layerwise.comparison import frames, tuning
from layerwise.comparison.files import write_atomically

QUESTION = "Do schedule, optimizer and regularization change what is best of each other, and which claims about them hold?"
LIMITS = (
    "other networks and data: this is a small dense net on small images, where regularization has little to win. The scale "
    "of the initial weights was varied with all layers moving at once alone. That techniques must be tuned together is "
    "judged by the learning rate alone, and of regularizations by batch normalization alone. A verdict whose interval ends "
    "near zero may turn with another way to average, or without one of the schedules or optimizers."
)


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    comparisons.add_data_arguments(parser)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=[*map(_folder_name, REGULARIZATIONS), start.FOLDER],
        metavar="PART",
        help="regularizations, as their folders are called, or start: initial weights of several scales",
    )


def run(options: Namespace) -> None:
    """Trains what is not in the results yet, draws the figure and writes the answer."""
    dataset, data, n_classes = load(options.data, options.subset, options.test_subset)
    root = (options.results or comparisons.default_results(dataset, options.scale)) / "interplay"
    parts = {_folder_name(name): name for name in SCALES[options.scale]["regularizations"]}
    everything = [*parts, start.FOLDER]
    for part in comparisons.known("only", options.only or everything, everything):
        folder = root / part
        print(f"interplay, {options.scale}: {dataset}, {part}; frames go to {folder}/", flush=True)
        given = options.scale, dataset, data, n_classes, folder, options.jobs or side_by_side()
        start.compare(*given) if part == start.FOLDER else compare(parts[part], *given)
    if any((root / part / "runs.csv").exists() for part in parts):
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
    kept = ((root, read(root)) for root in _roots(options))
    answers.show(
        options,
        (
            (
                root,
                pd.concat([found.runs, found.starts], ignore_index=True),
                functools.partial(answer, found, _commands(root, found.runs)),
            )
            for root, found in kept
        ),
    )


def read(root: Path) -> Measured:
    """The runs and what was probed, of all regularizations, and the runs from weights of several scales."""
    folders = [root / _folder_name(name) for name in REGULARIZATIONS]
    folders = [folder for folder in folders if (folder / "runs.csv").exists()]
    starts = root / start.FOLDER
    return Measured(
        pd.concat([frames.read(folder)[0] for folder in folders], ignore_index=True),
        pd.concat([frames.read_probes(folder) for folder in folders], ignore_index=True),
        frames.read(starts)[0] if (starts / "runs.csv").exists() else pd.DataFrame(),
    )


def answer(found: Measured, commands: str) -> str:
    """The claims with their verdicts, what explains the scores, what the frames cannot show, and what trained them."""
    header, lines = ["claim", "verdict", "what was measured", "mean [95 % interval]"], []
    numbers, runs = judged(found), found.runs
    for name, claim in CLAIMS.items():
        rows = numbers[numbers["claim"] == name]
        lines.append([claim.says, claim.verdict(rows), claim.number, _numbers(rows)])
    explained = effects(scored(runs[runs["optimizer"] != "AdamW"]))
    measured, tuned = runs[runs["phase"] == "measure"], runs[runs["phase"] == "tune"]
    cells = runs.groupby(list(FACTORS))
    edges = [edge for _, cell in cells if (edge := tuning.at_the_edge(cell))]
    at = "; ".join(
        f"{what.partition(': ')[2]} {value:g}" for edge in edges for what, value in edge.items()
    )
    seeds = measured.groupby(list(FACTORS))["seed"].nunique().min()
    parts = [
        f"# {QUESTION}",
        "Each schedule was tuned by itself with each optimizer and each regularization: rate and strength, by a grid of as "
        "many settings everywhere, which grows where the best lies at an edge. "
        f"{len(tuned)} tuning runs, {len(measured)} measured ones ({seeds} seeds a cell), "
        f"on {' and '.join(runs['dataset'].unique())} by {' and '.join(runs['backend'].unique())}.",
        "**In short**",
        "\n".join(
            f"- {said}"
            for said in (
                *in_short({line[0]: line[1] for line in lines}),
                *_apart(numbers),
                *what_matters(explained),
            )
        ),
        "![Each claim by what was measured of it](claims.png)",
        markdown_table(header, lines),
        "A cell is a schedule with an optimizer; a claim with a number for each cell holds where it does in all of them, "
        "one with a single number where it does in their mean. What cannot be told is neither shown nor refuted: the "
        "interval holds 0, and how wide it is says what could hide in it. AdamW has its own default decay of 0.004 "
        "wherever no decay is tuned, and with decoupled decay Adam and AdamW are the same optimizer and the same runs. "
        "Scores and losses are as they are (0.01: a point of "
        f"accuracy). {_starts(found.starts)}Intervals of a claim's cells cover all of them at once (Bonferroni), of "
        "many cells the table has the least and the largest mean; `claims.csv` has each cell. "
        f"{tuned_away(runs)}",
        "![Test score by schedule, optimizer and regularization](interplay.png)",
        "How much of the differences between the medians of the figure each choice explains, alone and together with "
        "another (choices that interact explain more than the sum of what each explains alone; without AdamW, which "
        "differs from Adam by its default decay alone). A cell counts once, so that luck in its tuning counts as chance:",
        table_of(explained),
        f"What this cannot show: {LIMITS}",
        f"From {commands}; `python -m experiments table interplay --audit` names what the frames cannot claim: "
        f"{len(edges)} of {cells.ngroups} cells were tuned to an edge of what was tried{f' ({at})' if edges else ''}.",
    ]
    return "\n\n".join(parts)


def judged(found: Measured) -> pd.DataFrame:
    """What decides each claim: `claim`, `what`, `value`, `low`, `high` (or NaN); a row a cell, or one over all cells."""
    rows = [claim.measure(found).assign(claim=name) for name, claim in CLAIMS.items()]
    return pd.concat([own for own in rows if len(own)], ignore_index=True)


def _apart(numbers):
    """What a learning rate costs that was tuned for something else, in a few sentences."""
    lost = numbers[numbers["claim"] == "together"].dropna(subset=["low"])
    if lost.empty:
        return
    clear = lost["high"] < 0
    said = ["Must techniques be tuned together?"]
    if clear.any():
        costs = "; ".join(_costs(lost[clear]))
        said.append(
            f"A learning rate that is carried over without tuning costs validation score, in points: {costs}."
        )
    else:
        said.append("No learning rate that was carried over costs validation score beyond chance.")
    if not clear.all():
        said.append(f"Within chance: {'; '.join(_costs(lost[~clear]))}.")
    yield f"{' '.join(said)} (Of other regularizations it cannot be told: that rate was not tried with them.)"


def _costs(lost):
    for row in lost.itertuples():
        yield f"{row.what} {-100 * row.value:.2f} [{-100 * row.high:.2f}, {-100 * row.low:.2f}]"


def _starts(starts):
    if starts.empty:
        return ""
    factors = starts["model"].str.removeprefix("weights times ").astype("float64")
    return (
        f"Initial weights were {factors.min():g} to {factors.max():g} times as large as usual in {len(starts)} runs more, "
        'of all layers at once: "rate tuned" is at the rate that is best for each scale, "one rate" at the one that is '
        "best for the usual scale, with normalization and without each its own; each is a cell of that claim. A run "
        "that diverged has score 0. "
    )


def _numbers(rows):
    rows = rows.dropna(subset=["low"])
    if len(rows) > 3:
        reach = f"{rows['value'].min():.2g} to {rows['value'].max():.2g}"
        return f"{len(rows)} cells: {reach}"
    return "; ".join(
        f"{row.what}: {row.value:.2g} [{row.low:.2g}, {row.high:.2g}]" for row in rows.itertuples()
    )


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


def _commands(root, runs):
    """The commands that trained what is in the folders."""
    folders = sorted(path.parent for path in root.glob("*/runs.csv"))
    return comparisons.commands(folders, runs["backend"])


def _show(root):
    found = read(root)
    judged(found).dropna(subset=["low"]).to_csv(root / "claims.csv", index=False)
    drawn = {"claims": figures.claims(judged(found)), "interplay": figures.scores(found.runs)}
    for name, figure in drawn.items():
        path = root / f"{name}.png"
        write_atomically(path, functools.partial(figure.savefig, format="png", dpi=150))
        print(f"drawn: {path}")
    print(f"written: {answers.write(root, answer(found, _commands(root, found.runs)))}")


EXPERIMENT = Experiment(
    question=QUESTION, add_arguments=add_arguments, run=run, plot=plot, table=table
)
