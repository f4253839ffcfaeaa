"""Dropout: better optimization, or regularization? With and without, at equal epochs and at equal training loss."""

from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.published.facts import digits
from layerwise.comparison import intervals
from layerwise.diagnostics import Step, interaction

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHARES = (0.0, 0.25, 0.5)  # of units that are dropped
TRAINED, ALL = 500, 1797  # images that are trained on; those after them test
EPOCHS, EVERY, BATCH, RATE = 60, 4, 50, 0.002


def cases(scale: str) -> dict[str, dict]:
    """One a share of dropped units."""
    seeds = 10 if scale == "full" else 2
    return {
        f"dropout {share:g}, {seeds} seeds": {"share": share, "seeds": seeds} for share in SHARES
    }


def measure(share: float, seeds: int) -> list[dict]:
    """Rows: for each seed and moment of training, losses without dropping, and how the blocks' moves add up with it."""
    data = digits(ALL)
    x, y, test_x, test_y = data.x[:TRAINED], data.y[:TRAINED], data.x[TRAINED:], data.y[TRAINED:]
    model, rows = compiled(share), []
    for seed in range(seeds):
        start_again(model, seed)
        for epoch in range(0, EPOCHS + 1, EVERY):
            if epoch:
                model.fit(x, y, batch_size=BATCH, epochs=EVERY, verbose=0)
            row = {"seed": seed, "epoch": epoch}
            row["train_loss"], _ = map(float, model.test_on_batch(x, y))
            row["test_loss"], row["test_accuracy"] = map(float, model.test_on_batch(test_x, test_y))
            if epoch in (EVERY, EPOCHS):
                row["additivity"] = float(interaction(Step(model, x, y))["additivity"].iloc[0])
            rows.append(row)
    return rows


def compiled(share: float) -> keras.Model:
    """Two hidden layers of 64 ReLUs, each with dropout, under Adam."""
    hidden = [keras.layers.Dense(64, "relu", kernel_initializer="he_normal") for _ in range(2)]
    drops = [keras.layers.Dropout(share) for _ in hidden]
    layers = [layer for pair in zip(hidden, drops, strict=True) for layer in pair]
    model = keras.Sequential([keras.Input((64,)), *layers, keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss=loss, metrics=["accuracy"])
    return model


def at_equal_training_loss(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a run: epochs, test loss and accuracy where its training loss is that which every run of its seed reached.

    Between two moments the logarithm of the training loss is taken to fall along a straight line.
    """
    found = []
    for seed, own in rows.groupby("seed"):
        level = own.groupby("share")["train_loss"].min().max()
        for share, run in own.groupby("share"):
            reached = int(np.argmax(run["train_loss"] <= level))
            pair = run.iloc[max(reached - 1, 0) : reached + 1].sort_values("train_loss")
            row = {"seed": seed, "share": share, "level": level}
            for name in ("epoch", "test_loss", "test_accuracy"):
                row[name] = np.interp(np.log(level), np.log(pair["train_loss"]), pair[name])
            found.append(row)
    return pd.DataFrame(found)


def answer(rows: pd.DataFrame) -> str:
    """Is it optimization or regularization, in numbers."""
    end, equal = rows[rows["epoch"] == EPOCHS], at_equal_training_loss(rows)
    shares = sorted(rows["share"].unique())
    losses = {share: end[end["share"] == share].set_index("seed") for share in shares}
    slower = losses[shares[-1]]["train_loss"].mean() / losses[0]["train_loss"].mean()
    told, told_there = _verdicts(end, shares), _verdicts(equal, shares)
    gains = [
        f"with {share:g} dropped, {with_interval(_gain(end, share))}, {_told(told[share])}, after as many epochs and "
        f"{with_interval(_gain(equal, share))}, {_told(told_there[share])}, at the same training loss"
        for share in shares[1:]
    ]
    text = f"""**As an optimizer dropout is {"worse" if slower > 1 else "better"}: after {EPOCHS} epochs the training
loss with
{shares[-1]:g} dropped (measured without dropping) is {slower:.3g} times that without; at the same training loss it
{_regularizes([word for word, _ in told_there.values()])}.** The test loss, less that without
dropout, is {"; ".join(gains)} (below 0: dropout is better; p values are after Holm's
correction over the shares). What is gained after as many epochs, but not at the same
training
loss, is what training less far would gain too; what is gained at the same training loss is regularization beyond that.

{_broken(losses)}"""
    header = ["dropped", "train loss", "test loss", "gap", "test accuracy, %", "epochs to the equal training loss",
              "test loss there", "additivity early", "additivity at the end"]  # fmt: skip
    lines = []
    for share in shares:
        run, there = end[end["share"] == share], equal[equal["share"] == share]
        early = rows[(rows["share"] == share) & (rows["epoch"] == EVERY)]
        lines.append(
            [f"{share:g}", with_interval(run["train_loss"]), with_interval(run["test_loss"]),
             with_interval(run["test_loss"] - run["train_loss"]), with_interval(run["test_accuracy"], factor=100),
             with_interval(there["epoch"]), with_interval(there["test_loss"]),
             _additivity(early), _additivity(run)]
        )  # fmt: skip
    limits = f"""Additivity is the joint change of the loss over the sum of the changes when each block moves alone (1:
they add up; below 0: together they do harm), on all training images with one mask. Means, of
additivity medians, over
{rows["seed"].nunique()} seeds with 95 % intervals; {TRAINED} digits trained on,
{ALL - TRAINED} to test; Adam at {RATE:g} for all, which was not tuned, and no tuned weight decay to compare with."""
    return "\n\n".join([text, markdown_table(header, lines), limits])


def _regularizes(found):
    """Whether dropout is better where the training loss is the same, from what is told of each share."""
    better, worse = found.count("better"), found.count("worse")
    if better:
        return f"tests better at {better} of {len(found)} shares of dropped units, which stopping earlier would not do"
    rest = f", and worse in {worse}" if worse else ""
    return (
        f"tests clearly better at none of {len(found)} shares of dropped units{rest}: nothing was seen that stopping "
        "earlier would not bring"
    )


def _broken(ends):
    """Whether blocks get in each other's way less with dropout, from how far their moves are from adding up at the end."""
    away = {share: (1 - own["additivity"]).abs() for share, own in ends.items()}
    said = []
    for share, dropped in ends.items():
        if not share:
            continue
        _, low, high = intervals.mean(list(away[0] - away[share]))
        way = "less" if low > 0 else "more" if high < 0 else "neither clearly less nor more"
        said.append(f"{share:g} dropped: {way}, {_additivity(dropped)}")
    return (
        "Does dropout break co-adaptation: do blocks get in each other's way less? With "
        f"{'; '.join(said)}; without dropout {_additivity(ends[0])}. These are the joint change of the loss in a step over "
        "the sum of the changes when each block moves alone (1: they add up), at the end, where training losses differ."
    )


def _additivity(rows):
    return with_interval(rows["additivity"], of=intervals.median)


def _gain(rows, share):
    """The test loss of a share less that without dropout, by seed."""
    ours, none = (rows[rows["share"] == one].set_index("seed")["test_loss"] for one in (share, 0))
    return ours - none


def _verdicts(rows, shares):
    """Whether each share tests better than none, and p, by paired t tests after Holm's correction over the shares."""
    gains = {share: _gain(rows, share) for share in shares[1:]}
    corrected = intervals.holm([intervals.p_value(gain) for gain in gains.values()])
    told = {}
    for (share, gain), p in zip(gains.items(), corrected, strict=True):
        clear = "better" if gain.mean() < 0 else "worse"
        told[share] = clear if p < 0.05 else "not told from 0", p
    return told


def _told(verdict):
    word, p = verdict
    return f"{word}, p = {p:.2g}"


def draw(rows: pd.DataFrame) -> "Figure":
    """Losses over the epochs, and the test loss over the training loss."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (share, own), color in zip(
        rows.groupby("share"), sns.color_palette("colorblind"), strict=False
    ):
        mean = own[own["epoch"] > 0].groupby("epoch")[["train_loss", "test_loss"]].mean()
        left.plot(
            mean.index, mean["train_loss"], "--", color=color, label=f"dropout {share:g}, train"
        )
        left.plot(mean.index, mean["test_loss"], "-", color=color, label=f"dropout {share:g}, test")
        for name in mean:
            found = own[own["epoch"] > 0].groupby("epoch")[name]
            ends = [intervals.mean(values)[1:] for _, values in found]
            left.fill_between(mean.index, *zip(*ends, strict=True), color=color, alpha=0.15)
        right.plot(
            mean["train_loss"],
            mean["test_loss"],
            "-o",
            color=color,
            markersize=4,
            label=f"dropout {share:g}",
        )
    left.set(yscale="log", xlabel="epoch", ylabel="loss, without dropping", title="At equal epochs")
    right.set(xscale="log", yscale="log", xlabel="training loss (training goes to the right)")
    right.set(title="At equal training loss (lower is better)", ylabel="test loss")
    right.invert_xaxis()
    for axis in (left, right):
        axis.legend(fontsize=8)
    return figure


PART = Part("Is dropout better optimization, or regularization?", cases, measure, draw, answer)
