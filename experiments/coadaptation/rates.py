"""One learning rate for the whole net against one for each block, all tuned by as many trials."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd
import scipy.stats

import layerwise
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.linearity.nets import IMAGES, images
from experiments.linearity.training import compiled, train
from layerwise.comparison import intervals
from layerwise.diagnostics import Step, compounding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETS = ("tanh 32-32", "tanh 24-24-24-24")
WAYS = ("one rate", "layer-wise decay", "trust ratios", "free factors")
STEPS = 300
TRIALS, TUNING_SEEDS = 24, (100, 101)
LOWEST, HIGHEST = (
    0.1,
    10.0,
)  # of the rate, and of a free factor; the decay is the square root of such a number


def cases(scale: str) -> dict[str, dict]:
    """Every net and way."""
    nets, seeds, trials = (NETS, 10, TRIALS) if scale == "full" else (NETS[:1], 2, 4)
    return {
        f"{net}, {way}, {trials} trials, {seeds} seeds": {"net": net, "way": way, "trials": trials, "seeds": seeds}
        for net in nets for way in WAYS
    }  # fmt: skip


def measure(net: str, way: str, trials: int, seeds: int) -> list[dict]:
    """Rows: the training loss of each trial on the tuning seeds, and of the best trial on seeds of its own."""
    x, y = images()
    model = compiled(net, keras.optimizers.SGD(1.0))
    rows = []
    for number, trial in enumerate(draws(way, len(model.layers), trials)):
        for seed in TUNING_SEEDS:
            rows.append({"phase": "tune", "trial": number, **run(model, x, y, way, trial, seed)})
    losses = pd.DataFrame(rows).groupby("trial")["loss"].max()
    best = int(losses.idxmin())
    trial = draws(way, len(model.layers), trials)[best]
    for seed in range(seeds):
        rows.append({"phase": "measure", "trial": best, **run(model, x, y, way, trial, seed)})
    return rows


def draws(way: str, n_blocks: int, trials: int) -> np.ndarray:
    """What is tried: a learning rate, and what the way's factors are made of.

    Numbers are drawn by a Sobol sequence, evenly over the logarithms; the first number of a trial is the rate.

    Example:
    >>> from experiments.coadaptation.rates import draws
    >>> draws("one rate", 3, 8).shape, draws("layer-wise decay", 3, 8).shape, draws("free factors", 3, 8).shape
    ((8, 1), (8, 2), (8, 4))
    """
    size = {"one rate": 1, "trust ratios": 1, "layer-wise decay": 2, "free factors": 1 + n_blocks}[
        way
    ]
    units = scipy.stats.qmc.Sobol(size, rng=0).random_base2(int(np.ceil(np.log2(trials))))[:trials]
    return LOWEST * (HIGHEST / LOWEST) ** units


def run(
    model: keras.Model, x: np.ndarray, y: np.ndarray, way: str, trial: Sequence[float], seed: int
) -> dict:
    """The loss after so many steps with the rates of a trial; infinite where it diverged."""
    start_again(model, seed)
    model.optimizer.learning_rate = trial[0]
    factors = factors_of(way, trial, Step(model, x, y) if way == "trust ratios" else None, len(model.layers))  # fmt: skip
    schedule = layerwise.Simultaneous(rates=dict(enumerate(map(float, factors))))
    train(model, x, y, STEPS, [schedule])
    loss = float(model.test_on_batch(x, y))
    row = {"seed": seed, "rate": float(trial[0]), "loss": loss if np.isfinite(loss) else np.inf}
    return row | {f"factor {k}": float(factor) for k, factor in enumerate(factors)}


def factors_of(way: str, trial: Sequence[float], step: Step | None, n_blocks: int) -> np.ndarray:
    """A factor of the learning rate for each block, input side first.

    The trust ratio of LARS is the norm of a block's weights over that of its gradient; here that of the start, over the
    geometric mean of all blocks.

    Source: You, Gitman and Ginsburg, Large batch training of convolutional networks (arXiv 1708.03888).
    """
    if way == "layer-wise decay":
        return np.sqrt(trial[1]) ** np.arange(n_blocks - 1, -1, -1)
    if way == "free factors":
        return np.asarray(trial[1:])
    if way == "trust ratios":
        ratios = compounding(step).set_index("block")["trust_ratio"].drop("all").to_numpy()
        return ratios / scipy.stats.gmean(ratios)
    return np.ones(n_blocks)


def answer(rows: pd.DataFrame) -> str:
    """Whether a rate for each block trains further than one for all."""
    measured = rows[rows["phase"] == "measure"]
    header = [
        "net",
        "way",
        "rate",
        "factors, input side first",
        "training loss",
        "over that of one rate",
    ]
    lines, words = [], []
    for net, cell in measured.groupby("net", sort=False):
        one = cell[cell["way"] == "one rate"].set_index("seed")["loss"]
        for way, own in cell.groupby("way", sort=False):
            ratio = own.set_index("seed")["loss"] / one
            factors = own.filter(like="factor ").median().dropna()
            lines.append(
                [net, way, f"{own['rate'].iloc[0]:.3g}", ", ".join(f"{factor:.2g}" for factor in factors),
                 with_interval(own["loss"]), with_interval(ratio)]
            )  # fmt: skip
            if way != "one rate":
                _, low, high = intervals.mean(ratio)
                verdict = "better" if high < 1 else "worse" if low > 1 else "not told apart from it"
                words.append(f"{way} on {net} {with_interval(ratio)} times its loss ({verdict})")
    trials = rows[rows["phase"] == "tune"].groupby(["net", "way"])["trial"].nunique().max()
    text = f"""**One rate for all against one for each block**, after {STEPS} steps of full-batch gradient descent,
each way tuned by
{trials} trials: {"; ".join(words)}."""
    limits = f"""The training loss on {IMAGES} digits is what is tuned and compared, so that this is about
optimization alone; means
over {measured["seed"].nunique()} seeds that were not tuned on, 95 % intervals of paired ratios. Trials are the same
number for
each way, and free factors have the most to find with them. Adam, whose rates adapt by themselves, is not among the ways."""
    return "\n\n".join([text, markdown_table(header, lines), limits])


def draw(rows: pd.DataFrame) -> "Figure":
    """The loss of each trial by its rate, and that of the best on other seeds."""
    import seaborn as sns
    from matplotlib.figure import Figure

    nets = list(dict.fromkeys(rows["net"]))
    figure = Figure(figsize=(5 * len(nets), 4.2), layout="constrained")
    colors = dict(zip(WAYS, sns.color_palette("colorblind"), strict=False))
    for axis, net in zip(
        figure.subplots(1, len(nets), squeeze=False, sharey=True)[0], nets, strict=True
    ):
        for way, own in rows[rows["net"] == net].groupby("way", sort=False):
            tried = own[(own["phase"] == "tune") & np.isfinite(own["loss"])]
            axis.plot(tried["rate"], tried["loss"], ".", color=colors[way], alpha=0.4)
            best = own[own["phase"] == "measure"]
            axis.plot(
                best["rate"].iloc[0],
                best["loss"].mean(),
                "o",
                color=colors[way],
                markersize=9,
                label=f"{way}, best",
            )
        axis.set(xscale="log", yscale="log", xlabel="learning rate (before factors)", title=net)
        axis.legend(fontsize=8)
        axis.set_ylabel(f"training loss after {STEPS} steps")
    return figure


PART = Part("One rate for the whole net, or one for each block?", cases, measure, draw, answer)
