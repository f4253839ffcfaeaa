"""The straight line against the loss: predicted and actual change, and gradients that have turned when others moved."""

from typing import TYPE_CHECKING

import keras
import pandas as pd

from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.linearity.nets import IMAGES, images
from experiments.linearity.training import compiled, train
from layerwise.comparison import intervals
from layerwise.diagnostics import Step, gauss_seidel, linearization

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETS = ("tanh 16-16", "tanh 16-16-16-16")
MOMENTS = (1, 100, 1000)
RATES = (0.01, 0.1, 1.0, 3.0, 10.0)
TRAINED_AT = 0.5


def cases(scale: str) -> dict[str, dict]:
    """Two depths."""
    seeds = 10 if scale == "full" else 2
    return {f"{net}, {seeds} seeds": {"net": net, "seeds": seeds} for net in NETS}


def measure(net: str, seeds: int) -> list[dict]:
    """Rows: at each moment, for a step at each rate, of each block and of all, what was predicted and what came."""
    x, y = images()
    model = compiled(net, keras.optimizers.SGD(TRAINED_AT))
    rows = []
    for seed in range(seeds):
        start_again(model, seed)
        done = 0
        for moment in MOMENTS:
            train(model, x, y, moment - done)
            done = moment
            for rate in RATES:
                model.optimizer.learning_rate = rate
                found = of_step(Step(model, x, y)).assign(seed=seed, step=moment, rate=rate)
                rows += found.to_dict("records")
            model.optimizer.learning_rate = TRAINED_AT
    return rows


def of_step(step: Step) -> pd.DataFrame:
    """One row a set of blocks, single ones called by their numbers: what `linearization` and `gauss_seidel` find."""
    line = linearization(step, multiples=[1.0])
    both = line.merge(gauss_seidel(step), on="block", how="left").drop(columns="multiple")
    numbers = {name: str(number) for number, name in enumerate(step.names)}
    return both.assign(block=both["block"].replace(numbers))


def _with_depth(rows, rate):
    """Whether gradients turn more often in the net of most layers than in that of fewest."""
    shares = rows.groupby(["net", "seed"])["sign_changes"].mean().unstack("net")
    few, most = sorted(shares.columns, key=lambda net: net.count("-"))[:: len(shares.columns) - 1]
    more, low, high = intervals.mean(100 * (shares[most] - shares[few]))
    worse = "it did get worse" if low > 0 else "it got better" if high < 0 else "it got no worse"
    return (
        f"With more layers {worse} here: at rate {rate:g} {shares[few].mean():.0%} of the weights' gradients turned in the "
        f"net {few}, {shares[most].mean():.0%} in {most} ({more:+.1f} [{low:+.1f}, {high:+.1f}] points; means over "
        f"the moments {', '.join(map(str, MOMENTS))})."
    )


def answer(rows: pd.DataFrame) -> str:
    """How wrong the line is, and how often a gradient has turned."""
    whole = rows[rows["block"] == "all"].assign(share=lambda r: r["actual"] / r["predicted"])
    alone = rows[rows["cosine"].notna() & (rows["block"] != "0")]
    turned = alone.assign(turned=alone["cosine"] < 0)
    low, middle, high = RATES[0], 1.0, RATES[-1]
    early, late = (
        whole[whole["step"] == moment].groupby("rate")["share"].mean()
        for moment in (MOMENTS[0], MOMENTS[-1])
    )
    first, last = (turned[turned["step"] == moment] for moment in (MOMENTS[0], MOMENTS[-1]))
    signs, backwards = (first.groupby("rate")[name].mean() for name in ("sign_changes", "turned"))
    later = last.groupby("rate")["sign_changes"].mean()[high]
    lowered = [
        (own["actual"] < 0).mean()
        for _, own in whole[whole["rate"] == high].groupby("step")
        if own["step"].iloc[0] in (MOMENTS[0], MOMENTS[-1])
    ]
    text = f"""**The straight line is right for short steps, and wrong for long ones: after the first step of training,
{signs[low]:.2%} of the weights' gradients turn sign once the blocks before theirs took a step at rate {low:g}, and
{signs[high]:.0%} at rate {high:g}.** A step at rate {low:g} then changes the loss by {early[low]:.1%} of what the
straight line predicts, one at {middle:g} by {early[middle]:.0%}, one at {high:g} by {early[high]:.0%} (100 %: the line is
exact; below 0: the loss rises). After
{MOMENTS[-1]} steps it is {late[low]:.1%}, {late[middle]:.0%} and {late[high]:.0%}: which step is short depends on where
training is (means over {whole["net"].nunique()} nets and {whole["seed"].nunique()} seeds; by net in the table).

"Weight 129" does meet this: after the first step of training, when the blocks before its own have moved, a weight's
gradient has the other sign in {signs[low]:.2%} of cases at rate {low:g}, in {signs[middle]:.1%} at rate {middle:g} and
in {signs[high]:.0%} at rate {high:g}. A whole block's gradient points backwards (its cosine with the one of before is
below 0) in {backwards[low]:.1%}, {backwards[middle]:.1%} and {backwards[high]:.0%} of cases. All blocks together lower
the loss in {lowered[0]:.0%} of the nets by a step at rate {high:g}. After {MOMENTS[-1]} steps {later:.1%} of the weights
turn at that rate, and {lowered[1]:.0%} of the nets get better."""
    text += f"\n\n{_with_depth(alone[alone['rate'] == high], high)}"
    header = ["net", "step", *(f"rate {rate:g}" for rate in RATES)]
    lines = [
        [
            net,
            str(step),
            *(with_interval(own["share"], factor=100) for _, own in cell.groupby("rate")),
        ]
        for (net, step), cell in whole.groupby(["net", "step"], sort=False)
    ]
    depth = ["net", "block", *(f"rate {rate:g}" for rate in RATES)]

    def of_seeds(own):
        return own.groupby("seed")["sign_changes"].mean()

    turns = [
        [
            net,
            block,
            *(with_interval(of_seeds(own), factor=100) for _, own in cell.groupby("rate")),
        ]
        for (net, block), cell in alone.groupby(["net", "block"], sort=False)
    ]
    limits = f"""Full-batch gradient descent at rate {TRAINED_AT:g} on {IMAGES} digits; at each moment a step at each
rate is looked at, not taken. Intervals are 95 % over seeds, in the second table of means over moments. Block 0 is next to
the input; it moves first, so that its gradient is never stale."""
    return "\n\n".join(
        [text, "Actual change of the loss, in % of the predicted one:", markdown_table(header, lines),
         "Weights whose gradient has turned sign after the blocks before have moved, in %:",
         markdown_table(depth, turns), limits]
    )  # fmt: skip


def draw(rows: pd.DataFrame) -> "Figure":
    """Actual over predicted change by rate and moment; and by block the share of weights whose gradient has turned."""
    import seaborn as sns
    from matplotlib.figure import Figure

    nets = list(dict.fromkeys(rows["net"]))
    figure = Figure(figsize=(5 * len(nets), 7.5), layout="constrained")
    axes = figure.subplots(2, len(nets), squeeze=False, sharey="row")
    rates = sns.color_palette("viridis", rows["rate"].nunique())
    for column, net in zip(axes.T, nets, strict=True):
        own = rows[rows["net"] == net]
        for step, cell in own[own["block"] == "all"].groupby("step"):
            share = (cell["actual"] / cell["predicted"]).groupby(cell["rate"])
            column[0].plot(
                share.mean().index,
                100 * share.mean(),
                "o-",
                label="after 1 step" if step == 1 else f"after {step} steps",
            )
            column[0].fill_between(
                share.mean().index, 100 * share.min(), 100 * share.max(), alpha=0.2
            )
        column[0].axhline(100, color="0.4", linestyle="--", label="as predicted")
        column[0].axhline(0, color="crimson", linestyle=":", label="below: the loss rises")
        column[0].set(xscale="log", xlabel="learning rate", title=net, ylim=(-150, 130))
        column[0].legend(fontsize=8)
        for (rate, cell), color in zip(
            own[own["sign_changes"].notna()].groupby("rate"), rates, strict=True
        ):
            share = 100 * cell.groupby("block")["sign_changes"].mean()
            column[1].plot(share.index, share, "o-", color=color, label=f"rate {rate:g}")
        column[1].set(xlabel="block (0: next to the input, moves first)")
        column[1].legend(fontsize=8)
    axes[0, 0].set_ylabel("change of the loss, % of what the\nline predicts (mean, all seeds)")
    axes[1, 0].set_ylabel(
        "weights whose gradient has turned after the\nblocks before moved, %, mean of all moments"
    )
    return figure


PART = Part(
    "How wrong is the straight line, and how often does a gradient turn?",
    cases,
    measure,
    draw,
    answer,
)
