"""published: do the diagnostics measure what papers report of training?"""

import dataclasses
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import pandas as pd

from experiments.harness import answers
from experiments.harness.experiment import Experiment, results_folder
from experiments.published import facts
from layerwise.comparison import frames

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUESTION = "Do the diagnostics measure what papers report of training?"


@dataclasses.dataclass(frozen=True)
class Fact:
    """What a paper reports, and how it is measured here.

    Attributes:
        source: The paper.
        claim: What it says.
        measure: `Namespace -> rows`.
        verdict: What the last rows say to the claim, in words.
    """

    source: str
    claim: str
    measure: Callable[[Namespace], list[dict]]
    verdict: Callable[[pd.DataFrame], str]


def near(rows: pd.DataFrame) -> str:
    """The last values beside the expected ones."""
    words = []
    for (data, setting), group in rows.groupby(["data", "setting"], sort=False):
        last = group.iloc[-1]
        words.append(
            f"{last['value']:.4g} of {last['expected']:.4g} ({data}, {setting}, after {last['step']} steps)"
        )
    return "; ".join(words)


def mean_share(rows: pd.DataFrame) -> str:
    """The mean share over training."""
    return "; ".join(
        f"{100 * group['value'].mean():.1f} % on average, {100 * group['value'].iloc[-1]:.1f} % at the last step ({data})"
        for data, group in rows.groupby("data", sort=False)
    )


def ordering(rows: pd.DataFrame) -> str:
    """The kinds of layers from flat to sharp at the first step measured, each over the flattest, with standard errors."""
    first = rows[rows["step"] == rows["step"].min()].sort_values("value")
    least = first["value"].iloc[0]
    kinds = zip(first["setting"], first["value"] / least, first["error"] / least, strict=True)
    shown = " < ".join(f"{kind} {ratio:.3g} ± {error:.1g}" for kind, ratio, error in kinds)
    return f"{shown} (after {first['step'].iloc[0]} steps, over the flattest)"


def _edge(options):
    rows = facts.edge(facts.digits(), (500, 1000, 1500, 2000, 2500, 3000), width=64, rate=0.4)
    if options.cifar10 is not None:
        images = facts.from_file(options.cifar10, 5000)
        rows += facts.edge(images, (1, 5, 10, 25, 50, 100, 200, 300), width=200, rate=0.2)
    return rows


def _adaptive_edge(options):
    return facts.adaptive_edge(facts.digits(), (100, 250, 500, 1000), width=64, rate=0.001)


def _hurting(options):
    at = (50, 100, 200, 500, 1000)
    images = facts.digits(1500) if options.mnist is None else facts.from_file(options.mnist)
    return facts.hurting(images, at)


def _kinds(options):
    return facts.kinds_of_layers((200, 400, 800))


FACTS = {
    "edge of stability": Fact(
        "Cohen et al., arXiv 2103.00065",
        "Full-batch gradient descent drives the largest eigenvalue of the Hessian to 2 / rate.",
        _edge,
        near,
    ),
    "adaptive edge of stability": Fact(
        "Cohen et al., arXiv 2207.14484",
        "Full-batch Adam drives the largest eigenvalue of the preconditioned Hessian to 38 / rate.",
        _adaptive_edge,
        near,
    ),
    "parameters that hurt": Fact(
        "Lan et al., arXiv 1909.01440",
        "In a given step about half of the parameters move so that the loss rises.",
        _hurting,
        mean_share,
    ),
    "sharpness by kind of layer": Fact(
        "Wang et al., The sharpness disparity principle in transformers (ICML 2025)",
        "Early in a transformer's training normalization layers are far sharper than attention and embeddings.",
        _kinds,
        ordering,
    ),
}


def add_arguments(parser: ArgumentParser) -> None:
    """The arguments of `run` beside --scale and --results."""
    for name, text in (
        ("mnist", "the parameters that hurt, as in the paper; without it on scikit-learn's digits"),
        ("cifar10", "the edge of stability, as in the paper, beside that on digits"),
    ):
        parser.add_argument(
            f"--{name}", type=Path, metavar="FILE.npz", help=f"with x_train and y_train: {text}"
        )
    parser.add_argument(
        "--only", nargs="+", choices=list(FACTS), default=list(FACTS), metavar="FACT"
    )


def run(options: Namespace) -> None:
    """Measures the facts, in place of what was measured of them on the same data before; draws and answers."""
    folder = results_folder(options, "published")
    for name in options.only:
        start = time.perf_counter()
        found = pd.DataFrame(FACTS[name].measure(options))
        found = found.assign(fact=name, backend=keras.backend.backend(), **frames.provenance())
        old = read(folder)
        if len(old):
            same = (old["fact"] == name) & old["data"].isin(found["data"])
            found = pd.concat([old[~same], found], ignore_index=True)
        frames.write(folder, published=found)
        print(f"{name}, {time.perf_counter() - start:.0f} s", flush=True)
    plot(options)


def read(folder: Path) -> pd.DataFrame:
    """What was measured so far."""
    path = folder / "published.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def plot(options: Namespace) -> None:
    """Draws the figure and writes the answer, from the rows."""
    folder = results_folder(options, "published")
    text = answer(folder)
    figure(read(folder)).savefig(folder / "published.png", dpi=150)
    print(f"written: {answers.write(folder, text)}")


def table(options: Namespace) -> None:
    """Prints the answer as Markdown, from the rows."""
    print(answer(results_folder(options, "published")))


def answer(folder: Path) -> str:
    """One row a fact: what the paper says, and what was measured.

    Raises:
        FileNotFoundError: Nothing was measured.
    """
    rows = read(folder)
    if rows.empty:
        raise FileNotFoundError(
            f"no rows of published in {folder}/. Run it first: python -m experiments run published"
        )
    lines = [
        f"# {QUESTION}",
        "",
        "**In short.** What papers report of training was measured again by `layerwise.diagnostics`, on small nets: what "
        "was found stands beside what was expected.",
        "",
    ]
    lines += ["| what the paper says | source | measured here |", "| --- | --- | --- |"]
    for name, fact in FACTS.items():
        own = rows[rows["fact"] == name]
        if len(own):
            lines.append(f"| {fact.claim} | {fact.source} | {fact.verdict(own)} |")
    lines += [
        "",
        "![The values over the steps, and dashed what the paper expects](published.png)",
        "",
        "From `python -m experiments run published --scale full --mnist mnist.npz --cifar10 cifar10.npz`. What this cannot "
        "show: that the facts hold for large nets; each was measured on the net that its row names.",
    ]
    return "\n".join(lines)


def figure(rows: pd.DataFrame) -> "Figure":
    """A panel for each fact: the values over the steps with their errors, dashed what the paper expects."""
    import seaborn as sns
    from matplotlib.figure import Figure

    names = [name for name in FACTS if name in set(rows["fact"])]
    drawn = Figure(figsize=(4.2 * len(names), 4.2), layout="constrained")
    for axis, name in zip(drawn.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        own = rows[rows["fact"] == name]
        own = own.assign(
            what=[f"{d}, {s}" for d, s in zip(own["data"], own["setting"], strict=True)]
        )
        palette = dict(
            zip(dict.fromkeys(own["what"]), sns.color_palette("colorblind"), strict=False)
        )
        sns.lineplot(own, x="step", y="value", hue="what", palette=palette, marker="o", ax=axis)
        for what, group in own.groupby("what", sort=False):
            axis.errorbar(
                group["step"], group["value"], group["error"], fmt="none", ecolor=palette[what]
            )
            if group["expected"].notna().all():
                axis.axhline(group["expected"].iloc[0], color=palette[what], linestyle="--")
        axis.set(title=name, xlabel="Training step", ylabel=own["measure"].iloc[0])
        axis.set(**({"ylim": (0, 1)} if "share" in own["measure"].iloc[0] else {"yscale": "log"}))
        axis.legend(title=None, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    drawn.suptitle("What papers report (dashed), measured by layerwise.diagnostics")
    return drawn


EXPERIMENT = Experiment(
    question=QUESTION,
    add_arguments=add_arguments,
    run=run,
    plot=plot,
    table=table,
)
