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
TRIALS, TUNING_SEEDS = 24, tuple(range(100, 105))
LOWEST, HIGHEST = 0.1, 10.0  # of the rate, of a free factor, and of the factor from block to block
EDGE = 0.1  # how much of the range, of logarithms, counts as its end


def cases(scale: str) -> dict[str, dict]:
    """Every net and way."""
    nets, seeds, trials = (NETS, 10, TRIALS) if scale == "full" else (NETS[:1], 2, 4)
    found = {}
    for net in nets:
        for way in WAYS:
            name = f"{net}, {way}, {trials} trials on {len(TUNING_SEEDS)} seeds, {seeds} seeds"
            found[name] = {"net": net, "way": way, "trials": trials, "seeds": seeds}
    return found


def measure(net: str, way: str, trials: int, seeds: int) -> list[dict]:
    """Rows: the training loss of each trial on the tuning seeds, and of the best trial on seeds of its own.

    Best is the trial whose worst seed has the lowest loss: one that diverges on any seed is beaten by any that does not.
    """
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
        return trial[1] ** np.arange(n_blocks - 1, -1, -1)
    if way == "free factors":
        return np.asarray(trial[1:])
    if way == "trust ratios":
        ratios = compounding(step).set_index("block")["trust_ratio"].drop("all").to_numpy()
        return ratios / scipy.stats.gmean(ratios)
    return np.ones(n_blocks)


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each net and way other than one rate: its losses over those of one rate, seed by seed.

    `ratio, low, high` are about the seeds on which neither diverged; `verdict` is better, worse, or no difference shown. A
    way that diverges more often than one rate is never called better, and one that diverges less often never worse.
    """
    found = []
    for net, cell in rows[rows["phase"] == "measure"].groupby("net", sort=False):
        losses = cell.pivot(index="seed", columns="way", values="loss")
        lost = np.isinf(losses)
        for way in [way for way in WAYS[1:] if way in losses]:
            ratios = (losses[way] / losses[WAYS[0]])[~lost[way] & ~lost[WAYS[0]]]
            ratio, low, high = intervals.geometric_mean(ratios)
            more = int(lost[way].sum()) - int(lost[WAYS[0]].sum())
            verdict = "no difference shown"
            if high < 1 and more <= 0:
                verdict = "better"
            elif low > 1 and more >= 0:
                verdict = "worse"
            row = {"net": net, "way": way, "ratios": list(ratios), "ratio": ratio}
            found.append(row | {"low": low, "high": high, "verdict": verdict})
    return pd.DataFrame(found)


def at_the_end(rows: pd.DataFrame) -> list[str]:
    """The best trials of which a number lies close to an end of what was tried, in words."""
    found = []
    for (net, way), own in rows[rows["phase"] == "measure"].groupby(["net", "way"], sort=False):
        tried = rows[(rows["net"] == net) & (rows["way"] == way)]["trial"].nunique()
        trial = draws(way, 2 + net.count("-"), tried)[int(own["trial"].iloc[0])]
        places = np.log(trial / LOWEST) / np.log(HIGHEST / LOWEST)
        factors = ["the decay"]
        if way == "free factors":
            factors = [f"the factor of block {k}" for k in range(len(trial) - 1)]
        ends = [
            f"{name} near the {'largest' if place > 0.5 else 'smallest'} tried"
            for name, place in zip(["the rate", *factors], places, strict=False)
            if not EDGE < place < 1 - EDGE
        ]
        found += [f"{way} on {net} ({', '.join(ends)})"] if ends else []
    return found


def answer(rows: pd.DataFrame) -> str:
    """Whether a rate for each block trains further than one for all."""
    measured, against = rows[rows["phase"] == "measure"], compared(rows)
    ratios = {(row.net, row.way): row.ratios for row in against.itertuples()}
    said = {(row.net, row.way): row.verdict for row in against.itertuples()}
    header = ["net", "way", "rate", "factors, input side first", "training loss", "diverged",
              "over that of one rate", "verdict"]  # fmt: skip
    lines = []
    for (net, way), own in measured.groupby(["net", "way"], sort=False):
        finite = own["loss"][np.isfinite(own["loss"])]
        factors = own.filter(like="factor ").median().dropna()
        ratio = (
            with_interval(ratios[net, way], of=intervals.geometric_mean)
            if (net, way) in ratios
            else "1"
        )
        lines.append(
            [net, way, f"{own['rate'].iloc[0]:.3g}", ", ".join(f"{factor:.3g}" for factor in factors),
             with_interval(finite, of=intervals.geometric_mean), f"{len(own) - len(finite)} of {len(own)}",
             ratio, said.get((net, way), "")]
        )  # fmt: skip
    tuned = rows[rows["phase"] == "tune"]
    trials = tuned.groupby(["net", "way"])["trial"].nunique().max()
    diverged = int(np.isinf(measured["loss"]).sum())
    treated = (
        f"{diverged} of the {len(measured)} measured runs diverged; they are in no mean and no ratio, and a way with "
        "more of them than one rate is not called better"
        if diverged
        else f"None of the {len(measured)} measured runs diverged"
    )
    ends = at_the_end(rows)
    edge = (
        f"The best trial lies at the end of what was tried, so that more might be gained beyond, with {'; '.join(ends)}."
        if ends
        else "No best trial lies at the end of what was tried."
    )
    text = f"""**{_verdict(against)}** That is after {STEPS} steps of full-batch gradient descent, each way tuned by
{trials} trials on
{tuned["seed"].nunique()} seeds. Layer-wise decay gives each block a fixed multiple of the rate of the block after it, trust
ratios (LARS) give each block a rate in proportion to the norm of its weights over that of its gradient at the start, and
free factors are tuned one by one.

{edge}"""
    limits = f"""The training loss on {IMAGES} digits is what is tuned and compared, so that this is about
optimization alone. Geometric means over {measured["seed"].nunique()} seeds that were not tuned on, with 95 % intervals;
ratios are paired by seed.
{treated}. The best trial is that whose worst tuning seed is best. Trials are the same number for each way, and free factors
have the most to find with them. Adam, whose rates adapt by themselves, is not among the ways."""
    return "\n\n".join([text, markdown_table(header, lines), limits])


def _verdict(against):
    """The first sentence: in which cases of net and way a rate for each block trains further."""
    counts = against["verdict"].value_counts()
    better, worse, all_of_them = counts.get("better", 0), counts.get("worse", 0), len(against)
    over = f"{against['ratio'].min():.2g} to {against['ratio'].max():.2g} times"
    where = f"in all {all_of_them} cases of tanh net and way of choosing the rates"
    if better == all_of_them:
        return (
            f"A learning rate for each block beats one for the whole net {where}: the training loss is {over} that with "
            "one rate."
        )
    if worse == all_of_them:
        return (
            f"One learning rate for the whole net beats one for each block {where}: the training loss of the latter is "
            f"{over} that with one rate."
        )
    return (
        f"Of {all_of_them} cases of tanh net and way of choosing the rates, a learning rate for each block beats one "
        f"for the whole net in {better} and loses in {worse}, and no difference is shown in "
        f"{all_of_them - better - worse}: the training loss is {over} that with one rate."
    )


def draw(rows: pd.DataFrame) -> "Figure":
    """The training loss of each way on the seeds that it was not tuned on; a run that diverged has no point."""
    import seaborn as sns
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    measured = rows[rows["phase"] == "measure"]
    nets = list(dict.fromkeys(measured["net"]))
    figure = Figure(figsize=(5 * len(nets), 2.8), layout="constrained")
    axes = figure.subplots(1, len(nets), squeeze=False, sharey=True)[0]
    for axis, net in zip(axes, nets, strict=True):
        for place, (way, color) in enumerate(
            zip(WAYS, sns.color_palette("colorblind"), strict=False)
        ):
            losses = measured.loc[measured["net"].eq(net) & measured["way"].eq(way), "loss"]
            finite = losses[np.isfinite(losses)]
            if finite.empty:
                continue
            mean, low, high = intervals.geometric_mean(finite)
            axis.plot(finite, [place] * len(finite), ".", color=color, alpha=0.4)
            axis.errorbar(
                mean, place, xerr=[[mean - low], [high - mean]], fmt="o", color=color, capsize=4
            )
        axis.set(xscale="log", xlabel=f"training loss after {STEPS} steps", title=net)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_yticks(range(len(WAYS)), WAYS)
    axes[0].invert_yaxis()
    figure.suptitle(
        "Small: a seed that was not tuned on. Large: their geometric mean, with its 95 % interval"
    )
    return figure


PART = Part("One rate for the whole net, or one for each block?", cases, measure, draw, answer)
