"""Depth: do the blocks' moves add up or cancel, do small changes compound, and which learning rates are stable?"""

from typing import TYPE_CHECKING

import pandas as pd

from experiments.coadaptation.deep_nets import (
    DEPTHS,
    FRACTIONS,
    KINDS,
    ORDERS,
    WIDTH,
    measure,
    width_of,
)  # fmt: skip
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.linearity.nets import IMAGES

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cases(scale: str) -> dict[str, dict]:
    """Every kind and depth, of equal width and with equally many weights."""
    seeds, depths = (10, DEPTHS) if scale == "full" else (2, DEPTHS[:1])
    found = {}
    for depth in depths:
        for width in sorted({WIDTH, width_of(depth)}):
            for kind in KINDS:
                name = f"{kind}, {depth} layers of {width}, before and in training, {seeds} seeds"
                found[name] = {"kind": kind, "depth": depth, "width": width, "seeds": seeds}
    return found


def answer(rows: pd.DataFrame) -> str:
    """What changes with depth."""
    shallow, deep = rows["depth"].min(), rows["depth"].max()
    at = rows[rows["fraction"] == FRACTIONS[1]].copy()
    for order in ORDERS[1:]:
        at[f"{order} gain"] = at[order] / at["simultaneous"]
    mean = at.groupby("depth")[["simultaneous", "cyclic gain", "additivity", "compounded"]].mean()
    own = rows.groupby(["depth", "fraction"])["additivity"].mean()
    rates, adds = mean["simultaneous"], mean["additivity"]
    lower = "lowers" if rates[deep] < rates[shallow] else "does not lower"
    cancel = "more" if adds[deep] < adds[shallow] else "no more"
    text = f"""**Depth {lower} the learning rate that can be borne; at the same fraction of it the blocks' moves cancel
{cancel}.** The mean of the largest stable rate is {rates[shallow]:.3g} for {shallow} layers and {rates[deep]:.3g}
for {deep}
(linear theory at the measured Hessian). At {FRACTIONS[1]:g} of it the joint step brings {adds[shallow]:.0%} of the
sum of what
the blocks bring alone with {shallow} layers, and {adds[deep]:.0%} with {deep}; at a tenth of it {own[shallow, 0.1]:.0%} and
{own[deep, 0.1]:.0%}.

Do small changes compound? If every block changes by its relative update, their product changes by
{mean["compounded"][shallow]:.1%} with {shallow} layers, and by {mean["compounded"][deep]:.1%} with {deep}, at that rate.

Moving one block at a time bears {mean["cyclic gain"][shallow]:.2f} times the rate with {shallow} layers, and
{mean["cyclic gain"][deep]:.2f} times with {deep}, for as many gradients as there are layers."""
    header = ["net", "layers", "after", "largest stable rate", "cyclic, in it", "reverse, in it",
              *(f"additivity at {fraction:g} of it" for fraction in FRACTIONS), "compounded"]  # fmt: skip
    lines = []
    for (kind, depth, moment), cell in rows.groupby(["kind", "depth", "moment"], sort=False):
        half = at[(at["kind"] == kind) & (at["depth"] == depth) & (at["moment"] == moment)]
        lines.append(
            [kind, str(depth), f"{moment} steps", with_interval(half["simultaneous"]),
             with_interval(half["cyclic gain"]), with_interval(half["reverse gain"]),
             *(with_interval(own["additivity"]) for _, own in cell.groupby("fraction")),
             with_interval(half["compounded"])]
        )  # fmt: skip
    limits = f"""Layers of {WIDTH} units, {IMAGES} digits, full batch, plain gradient descent, squared error; means over
{rows["seed"].nunique()} seeds with 95 % intervals. Additivity: the joint change of the loss over the sum of the changes of
each block alone; 1: they add up, below 0: together they do harm. The training between the moments is at half the largest
stable rate, all blocks at once. Equal parameters instead of equal width, and training under the other schedules, were not
measured."""
    return "\n\n".join([text, markdown_table(header, lines), limits])


def draw(rows: pd.DataFrame) -> "Figure":
    """By depth: the largest stable rate of each schedule, and additivity at each fraction of it."""
    import seaborn as sns
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(rows["kind"]))
    figure = Figure(figsize=(3.6 * len(kinds) + 1.5, 6.6), layout="constrained")
    axes = figure.subplots(2, len(kinds), squeeze=False, sharex=True, sharey="row")
    own = rows[rows["moment"] == rows["moment"].max()]
    for column, kind in zip(axes.T, kinds, strict=True):
        cell = own[own["kind"] == kind]
        for order, style in zip(ORDERS, ("-o", "--s", ":^"), strict=True):
            mean = cell.groupby("depth")[order].mean()
            column[0].plot(mean.index, mean, style, label=order)
        shades = sns.color_palette("viridis", len(FRACTIONS))
        for (fraction, of), color in zip(cell.groupby("fraction"), shades, strict=True):
            over = of.groupby("depth")["additivity"].agg(["mean", "min", "max"])
            column[1].plot(
                over.index, over["mean"], "-o", color=color, label=f"at {fraction:g} of it"
            )
            column[1].fill_between(over.index, over["min"], over["max"], color=color, alpha=0.2)
        column[1].axhline(0, color="crimson", linestyle=":")
        column[0].set(title=kind, xscale="log", yscale="log")
        column[1].set(xlabel="layers", xticks=DEPTHS, xticklabels=DEPTHS)
    axes[0, 0].set_ylabel("largest stable learning rate")
    axes[1, 0].set_ylabel("additivity (1: moves add up,\nbelow 0: together they do harm)")
    for row in axes:
        row[-1].legend(fontsize=8)
    figure.suptitle(
        f"After {rows['moment'].max()} steps: mean (and range) of {rows['seed'].nunique()} seeds"
    )
    return figure


PART = Part("Do moves cancel or compound as nets grow deeper?", cases, measure, draw, answer)
