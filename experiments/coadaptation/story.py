"""The story of the question, step by step: do the weight and its input both turn sign, and does it go on for ever?"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.coadaptation.two_weights import TARGET, TOLERANCE, closed_form
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part

if TYPE_CHECKING:
    from matplotlib.figure import Figure

W, V = 0.1, 1.0
STEPS = 12
# The rate at which w alone hits the target in one step is 1 / (2 v^2), and v alone 1 / (2 w^2).
ALONE = (1 / (2 * V**2), 1 / (2 * W**2))
WAYS = {
    "both at once, rate for w": ("simultaneous", (ALONE[0], ALONE[0])),
    "both at once, rate for v": ("simultaneous", (ALONE[1], ALONE[1])),
    "both at once, each its own rate": ("simultaneous", ALONE),
    "in turn, each its own rate": ("cyclic", ALONE),
}
LABELS = {
    "both at once, rate for w": f"both at once, both at w's rate, {ALONE[0]:g}",
    "both at once, rate for v": f"both at once, both at v's rate, {ALONE[1]:g}",
    "both at once, each its own rate": "both at once, each at its own: back and forth for ever",
    "in turn, each its own rate": "in turn, each at its own",
}
ONE_RATE = {  # both at once: way, and its optimizer
    "one rate for both": "SGD",
    "one rate for both, momentum": "momentum",
    "one rate for both, Adam": "Adam",
}
RATES = np.geomspace(0.01, 100, 401)
MANY = 1000  # steps after which it is told whether a rate has converged


def cases(scale: str) -> dict[str, dict]:
    """The ways, and all rates between 0.01 and 100 for each optimizer."""
    return {name: {"way": name} for name in (*WAYS, *ONE_RATE)}


def measure(way: str) -> list[dict]:
    """Rows: w and v after each step of a way; or after one and after many steps at each rate."""
    if way in WAYS:
        order, rates = WAYS[way]
        states = closed_form(W, V, "SGD", rates, order, range(STEPS + 1))
        return [
            {"rate": rates[0], "step": step, "w": w, "v": v}
            for step, (w, v) in enumerate(states.tolist())
        ]
    return [
        {"rate": float(rate), "step": step, "w": float(w), "v": float(v)}
        for rate in RATES
        for step, (w, v) in zip(
            (1, MANY),
            closed_form(W, V, ONE_RATE[way], rate, "simultaneous", (1, MANY)),
            strict=True,
        )
    ]


def answer(rows: pd.DataFrame) -> str:
    """Whether the story as told happens, at which rates, and what happens instead."""
    found = {name: _one_rate(rows[rows["way"] == way]) for way, name in ONE_RATE.items()}
    turned, both, largest = found["SGD"]
    one, own, turn = (
        rows[rows["way"] == name].set_index("step").eval("output = w * v")
        for name in ("both at once, rate for w", "both at once, each its own rate", "in turn, each its own rate")
    )  # fmt: skip
    text = f"""**The story can happen, but from that start not by plain descent with one learning rate: with one
that converges, the weight of the larger effect does nearly all the work.** To make w alone go from {W:g} to
{TARGET:g}, a step needs rate {ALONE[0]:g}; to make its input v alone go from {V:g} to {-V:g}, it needs rate
{ALONE[1]:g}, because the gradient
of v is only {W / V:g} times that of w. With each its own of these two rates, and both at once, it is exactly as told: after
one step w is {own["w"][1]:.3g}, v is {own["v"][1]:.3g} and the output {own["output"][1]:.3g} again, after two all is as at
the start, and so on for ever. In turn, with the same two rates, w moves first, the output is {turn["output"][1]:.3g}, the
error is gone, and v stays at {turn["v"][2]:.3g}.

**With one rate for both something else happens.** At rate {ALONE[0]:g}, w goes to {one["w"][1]:.3g} and v to
{one["v"][1]:.3g}: the output is {one["output"][1]:.3g} after one step, and {one["output"][STEPS]:.4g} after {STEPS}. The
weight with the larger effect does nearly all the work, and the other hardly moves. Both turn sign in the first step only at
rates from {turned.min():.3g} on; of the {len(turned)} such rates tried up to {RATES.max():g}, {both} converge in the end.
The largest rate tried that converges is {largest:.3g}.
{" ".join(_other(name, *own) for name, own in found.items() if name != "SGD")}
(Adam's first step is as long for one weight as for the other, whatever their gradients; later ones get shorter as the
signs of the gradients change.)"""
    header = ["way", "step", "w", "v", "output"]
    lines = [
        [name, str(step), *(f"{x:.4g}" for x in (row["w"], row["v"], row["w"] * row["v"]))]
        for name in WAYS
        for step, row in rows[rows["way"] == name].set_index("step").loc[:3].iterrows()
    ]
    return "\n\n".join([text, markdown_table(header, lines)])


def _one_rate(rates):
    """The rates at which both turn sign in the first step, how many of those converge, and the largest that converges."""
    first, last = (rates[rates["step"] == step].set_index("rate") for step in (1, MANY))
    turned = first.index[(first["w"] < 0) & (first["v"] < 0)]
    converged = np.abs(last["w"] * last["v"] - TARGET) < TOLERANCE
    return turned, int(converged.loc[turned].sum()), converged.index[converged].max()


def _other(name, turned, both, largest):
    """The same of another optimizer, in a sentence."""
    return (
        f"With {name} both turn sign in the first step from {turned.min():.3g} on; {both} of {len(turned)} such rates "
        f"converge within {MANY} steps, and the largest rate of all that does is {largest:.3g}."
    )


def draw(rows: pd.DataFrame) -> "Figure":
    """The output after each of the first steps, by way; and how far the output is from the target by rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.axhline(TARGET, color="0.4", linestyle="--")
    left.annotate("target", (2.6, TARGET), (0, -12), textcoords="offset points", color="0.3")
    for name, marker in zip(WAYS, "osD^", strict=True):
        own = rows[(rows["way"] == name) & (rows["step"] <= 3)]
        output = own["w"] * own["v"]
        left.plot(own["step"], output, marker=marker, markersize=7, alpha=0.8, label=LABELS[name])
    left.set(xlabel="step", ylabel="output w · v", xticks=range(4), ylim=(-0.2, 0.35))
    left.set_title(f"From w = {W:g}, v = {V:g}: the first three steps")
    meaning = "w's rate: at which w alone would hit; v's likewise"
    left.legend(fontsize=8, loc="upper right", title=meaning, title_fontsize=8)
    rates = rows[rows["way"] == "one rate for both"]
    for step, style in ((1, "-"), (MANY, ".")):
        own = rates[rates["step"] == step]
        error = np.abs(own["w"] * own["v"] - TARGET).fillna(np.inf).clip(1e-6, 1e3)
        right.plot(own["rate"], error, style, label=f"after {step} step{'s' if step > 1 else ''}")
    for rate, name in zip(ALONE, "wv", strict=True):
        right.axvline(rate, color="0.5", linestyle="--")
        right.annotate(f"{name} alone\nwould hit", (rate, 1e-5), fontsize=8, ha="right")
    right.set(xscale="log", yscale="log", xlabel="one learning rate for both, which move at once")
    right.set_ylabel("distance of the output from the target")
    right.set_title("One rate for both (bottom: it has hit; top: it diverges)")
    right.legend(fontsize=8, loc="center left")
    return figure


PART = Part("Do both turn sign and cycle for ever?", cases, measure, draw, answer)
