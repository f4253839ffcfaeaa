"""Depth: do the blocks' moves add up or cancel, do small changes compound, and which learning rates are stable?"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.coadaptation.deep_nets import (
    DEPTHS,
    FRACTIONS,
    KINDS,
    MOMENTS,
    TRAINED,
    TRAINED_AT,
    WIDTH,
    measure,
    weights,
    width_of,
)
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.linearity.nets import IMAGES
from layerwise.comparison import intervals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = ("equal width", "equally many weights")
HALF = 0.5  # the fraction of the largest stable rate at which nets are compared
MUCH = 0.05  # a difference of additivity, with its whole interval, that is called out


def cases(scale: str) -> dict[str, dict]:
    """Every kind and depth, of equal width and with equally many weights."""
    seeds, depths = (10, DEPTHS) if scale == "full" else (2, DEPTHS[:2])
    found = {}
    for depth in depths:
        for width in sorted({WIDTH, width_of(depth)}):
            for kind in KINDS if scale == "full" else tuple(KINDS)[:1]:
                name = f"{kind}, {depth} layers of {width}, before and in training, {seeds} seeds"
                found[name] = {"kind": kind, "depth": depth, "width": width, "seeds": seeds}
    return found


def of_size(rows: pd.DataFrame, size: str) -> pd.DataFrame:
    """The rows of the nets of equal width, or of those with equally many weights; the deepest are both."""
    widths = WIDTH if size == SIZES[0] else rows["depth"].map(width_of)
    return rows[rows["width"] == widths]


def changes(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """How much higher a column is in the deepest nets than in the shallowest, one row a case.

    A case is a kind, a size, and a moment of training under a schedule. `median, low, high` are of the differences, seed
    by seed.
    """
    found = []
    for size in SIZES:
        keys = ["kind", "trained", "sweeps"]
        for _, cell in of_size(rows[rows["fraction"] == HALF], size).groupby(keys, sort=False):
            by_depth = cell.pivot(index="seed", columns="depth", values=column)
            change = by_depth[by_depth.columns.max()] - by_depth[by_depth.columns.min()]
            found.append(intervals.median(change))
    return pd.DataFrame(found, columns=["median", "low", "high"])


def trends(rows: pd.DataFrame, column: str) -> dict[str, int]:
    """In how many of all cases a column is higher, and lower, in the deepest nets: the interval is off 0."""
    found = changes(rows, column)
    higher, lower = int((found["low"] > 0).sum()), int((found["high"] < 0).sum())
    return {"higher": higher, "lower": lower, "all": len(found)}


def answer(rows: pd.DataFrame) -> str:
    """What changes with depth."""
    rows = rows.assign(gain=rows["cyclic"] / rows["simultaneous"])
    shallow, deep = rows["depth"].min(), rows["depth"].max()
    start = rows[rows["trained"] == "not yet"]

    def both(of, column, form):
        """The medians of the shallowest and the deepest nets, for each size."""
        texts = []
        for size in SIZES:
            medians = of_size(of, size).groupby("depth")[column].median().reindex([shallow, deep])
            texts.append(f"{medians[shallow]:{form}} and {medians[deep]:{form}} ({size})")
        return ", ".join(texts)

    half = start[start["fraction"] == HALF]
    by_fraction = "; ".join(
        f"at {fraction:g} of it {both(start[start['fraction'] == fraction], 'additivity', '.0%')}"
        for fraction in FRACTIONS
    )
    harm = (rows.dropna(subset="fraction").set_index("fraction")["additivity"] < 0).groupby(level=0)
    rate, adds, goes = (trends(rows, name) for name in ("simultaneous", "additivity", "reversed"))
    product, gain, stale = (trends(rows, name) for name in ("compounded", "gain", "stale"))
    later = "; ".join(
        f"under {trained} training {_by_kind(_at_the_end(rows[rows['depth'] == deep], trained))}"
        for trained in TRAINED
    )
    much = int((changes(rows, "additivity")["high"] < -MUCH).sum())
    text = f"""**The deeper the net, the smaller the learning rate that it bears when all blocks move at once: from
{shallow} to {deep} layers it is lower in {_of(rate, "lower")} of net and training and higher in
{rate["higher"]}. Even at half of it blocks of the deeper net undo more of each other's work in {_of(adds, "lower")}, by
more than {100 * MUCH:g} points in {much}.** Below, pairs
of numbers are medians for {shallow} and for {deep} layers before training; cases are of all moments.

*Which rates are stable?* At the start, by the linear theory at the measured Hessian, the largest stable rate is
{both(half, "simultaneous", ".3g")} where all blocks move at once. One block at a time, in order, bears
{both(half, "gain", ".3g")} times that rate, for as many gradients as there are layers, so
{both(half.assign(each=half["gain"] / half["depth"]), "each", ".2g")} times for each gradient: with depth this advantage is
larger in {_of(gain, "higher")} and smaller in {gain["lower"]}. Drawn in a new order each sweep it bears
{both(half.assign(shuffled=half["shuffled"] / half["simultaneous"]), "shuffled", ".3g")} times; in reverse order the theory
gives the same as in order.

*Do moves cancel?* Before training one step of all blocks lowers the loss by this share of what the blocks' separate steps
add up to: {by_fraction}. After
{MOMENTS[-1]} sweeps of training, at {HALF:g} of the rate that is then the largest stable one, it is, in nets of {deep}
layers, {later}. The joint step and the separate ones disagree on whether the loss falls in
{", ".join(f"{share:.1%} of the steps at {fraction:g} of it" for fraction, share in harm.mean().items())}.

*Do small changes compound?* If every block changes by its relative update, their product changes by
{both(half, "compounded", ".2%")} at the start, at {HALF:g} of the largest stable rate; with depth this is more in
{_of(product, "higher")} and less in {product["lower"]}. {_compounds(product)} Over the rate, that is for steps of the same
rate, it is {both(half.assign(per=half["compounded"] / half["simultaneous"]), "per", ".2g")}.

*Do weights turn back?* After such a step, {both(half, "reversed", ".1%")} of the weights would move back in the next
one; with depth more in {_of(goes, "higher")} and fewer in {goes["lower"]}. Once the blocks before theirs have moved,
{both(half, "stale", ".1%")} of the weights have a gradient of the other sign; with depth more in {_of(stale, "higher")}
and fewer in {stale["lower"]}.

{_diverged(rows)}"""
    widths = ", ".join(f"{width_of(n)} ({n} layers)" for n in sorted(rows["depth"].unique()))
    limits = f"""{IMAGES} digits, full batch, plain gradient descent, squared error. Equal width: layers of {WIDTH} units.
Equally many weights: widths {widths}, about {weights(max(DEPTHS), WIDTH):,} weights each; the nets of {max(DEPTHS)} layers
are both. Medians over {rows["seed"].nunique()} seeds with 95 % intervals. Additivity: the joint change of the loss over the
sum of the changes of each block alone; 1: they add up, between 0 and 1: they partly cancel, below 0: one is a gain and the
other a loss. The steps looked at move all blocks at once and are not taken. Training is at {TRAINED_AT:g} of the schedule's
own largest stable rate, measured anew at each moment ({", ".join(map(str, MOMENTS))} sweeps; in a sweep every block moves
once, so that one block at a time takes as many gradients as there are layers). A case is a kind of net, equal width or
equally many weights, and a moment of training under a schedule; cases are told apart by intervals of the median difference
between the deepest and the shallowest nets, seed by seed, not corrected for how many they are;
a difference of more than {100 * MUCH:g} points is so with its whole interval."""
    return "\n\n".join([text, table(rows), limits])


def _of(counts, which):
    return f"{counts[which]} of {counts['all']} cases"


def _by_kind(of):
    """The median additivity of each kind of net."""
    medians = of.groupby("kind", sort=False)["additivity"].median()
    return ", ".join(f"{adds:.0%} ({kind})" for kind, adds in medians.items())


def _compounds(product):
    begin = "So at the same fraction of the rate that a net bears, small changes compound"
    if product["higher"] > product["lower"]:
        return f"{begin} more in deep nets in more cases than they compound less."
    if product["higher"] < product["lower"]:
        return f"{begin} less in deep nets in more cases than they compound more."
    return f"{begin} neither more nor less in deep nets, as far as is shown."


def _at_the_end(rows, trained):
    return rows[
        (rows["trained"] == trained) & (rows["sweeps"] == MOMENTS[-1]) & (rows["fraction"] == HALF)
    ]


def _diverged(rows):
    """How many runs diverged in training, by schedule and kind."""
    lost = rows[np.isinf(rows["loss"])]
    runs = rows[rows["trained"] == "not yet"].groupby(["case", "seed"]).ngroups
    of = []
    for trained in TRAINED:
        own = lost[lost["trained"] == trained]
        which = ", ".join(
            f"{len(cell)} with {kind}, {depth} layers of {width}"
            for (kind, depth, width), cell in own.groupby(["kind", "depth", "width"], sort=False)
        )
        of.append(f"{len(own)} of {runs} trained {trained}{f' ({which})' if which else ''}")
    tail = "; they count up to the moment before" if len(lost) else ""
    return (
        f"Runs that diverged in training, at {TRAINED_AT:g} of the rate that the linear theory allows: "
        f"{'; '.join(of)}{tail}."
    )


def table(rows: pd.DataFrame) -> str:
    """A line for each net, before training and at its end under each schedule."""
    header = ["net", "layers", "width", "trained", "left of the runs", "largest stable rate", "cyclic, in it",
              *(f"additivity at {fraction:g} of it" for fraction in FRACTIONS), f"compounded at {HALF:g}, %",
              f"turn back at {HALF:g}, %", f"gradient turned at {HALF:g}, %"]  # fmt: skip
    lines = []
    for (kind, depth, width), net in rows.groupby(["kind", "depth", "width"], sort=False):
        for trained, sweeps in (("not yet", 0), *((trained, MOMENTS[-1]) for trained in TRAINED)):
            cell = net[(net["trained"] == trained) & (net["sweeps"] == sweeps)].dropna(
                subset="fraction"
            )
            at = cell[cell["fraction"] == HALF]
            shown = [at["simultaneous"], at["gain"]]
            shown += [own["additivity"] for _, own in cell.groupby("fraction")]
            shown += [100 * at[name] for name in ("compounded", "reversed", "stale")]
            numbers = [with_interval(values, of=intervals.median) for values in shown]
            numbers += [""] * (len(header) - 5 - len(numbers))
            state = f"{sweeps} sweeps, {trained}" if sweeps else trained
            left = f"{at['seed'].nunique()} of {net['seed'].nunique()}"
            lines.append([kind, str(depth), str(width), state, left, *numbers])
    return markdown_table(header, lines)


def draw(rows: pd.DataFrame) -> "Figure":
    """By depth, at equal width: the largest stable rates, and how far moves of blocks add up and compound."""
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(rows["kind"]))
    start = rows[(rows["trained"] == "not yet") & (rows["fraction"] == HALF)]
    states = {"before training": start} | {
        f"after {MOMENTS[-1]} sweeps, {words}": _at_the_end(rows, trained)
        for trained, words in zip(TRAINED, ("all at once", "one after the other"), strict=True)
    }
    ways = {
        "all blocks at once": start.assign(value=start["simultaneous"]),
        "one block after the other": start.assign(value=start["cyclic"]),
    }
    panels = [
        ("Largest stable rate\n(higher: larger steps are safe)", ways, "value", 1),
        ("Blocks' moves add up\n(1: fully, 0: they cancel)", states, "additivity", 1),
        ("Changes compounded, %\n(higher: small changes grow)", states, "compounded", 100),
    ]
    figure = Figure(figsize=(3.3 * len(kinds) + 2.6, 2.7 * len(panels) + 0.9), layout="constrained")
    axes = figure.subplots(len(panels), len(kinds), squeeze=False, sharex=True, sharey="row")
    for (label, lines, name, factor), row in zip(panels, axes, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            for (what, of), style in zip(lines.items(), ("-o", "--s", ":^"), strict=False):
                own = of_size(of[of["kind"] == kind], SIZES[0])
                by_depth = {n: intervals.median(factor * v) for n, v in own.groupby("depth")[name]}
                center, low, high = zip(*by_depth.values(), strict=True)
                axis.plot(list(by_depth), center, style, markersize=5, label=what)
                axis.fill_between(list(by_depth), low, high, alpha=0.15)
            axis.grid(alpha=0.3)
        row[0].set_ylabel(label)
        if name == "additivity":
            for axis in row:
                axis.axhline(0, color="crimson", linewidth=0.8)
        else:
            row[0].set_yscale("log")
        row[-1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    for axis, kind in zip(axes[0], kinds, strict=True):
        axis.set_title(f"{kind} nets")
    for axis in axes[-1]:
        axis.set_xscale("log")
        axis.set_xticks(DEPTHS, labels=map(str, DEPTHS))
        axis.set_xticks([], minor=True)
        axis.set_xlabel("layers")
    figure.suptitle(
        f"Layers of equal width, medians of {rows['seed'].nunique()} seeds with 95 % intervals; "
        f"steps at {HALF:g} of the largest stable rate of all blocks at once"
    )
    return figure


PART = Part("Do moves cancel or compound as nets grow deeper?", cases, measure, draw, answer)
