"""The plane of starts (w, v): where does training of the two weights converge, by closed form and by the package?"""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from experiments.coadaptation.two_weights import (
    LATE,
    OPTIMIZERS,
    ORDERS,
    OUTCOMES,
    by_package,
    closed_form,
    outcomes,
)
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RATES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.5, 8.0)
CHECKED = 0.2  # the rate at which the package is run, too
FINE, COARSE = np.linspace(-4, 4, 41), np.linspace(-3.5, 3.5, 5)
COLORS = {"c": "#2a7f62", "o": "#e6a117", "s": "#7d7d7d", "u": "#8fb8de", "d": "#b5384b"}
SHOWN = (("SGD", 0.2), ("SGD", 1.0), ("momentum", 0.2), ("Adam", 0.5))


def cases(scale: str) -> dict[str, dict]:
    """Every optimizer, schedule and rate."""
    rates = RATES if scale == "full" else (CHECKED,)
    return {
        f"{optimizer}, {order}, rate {rate:g}": {"optimizer": optimizer, "order": order, "rate": rate}
        for rate in rates for optimizer in OPTIMIZERS for order in ORDERS
    }  # fmt: skip


def measure(optimizer: str, order: str, rate: float) -> list[dict]:
    """Rows of the map, one for each w: a letter of `OUTCOMES` for each v. At one rate on few starts by the package, too."""
    w, v = np.meshgrid(FINE, FINE, indexing="ij")
    found = outcomes(closed_form(w, v, optimizer, rate, order, _steps(order)))
    rows = [_row("closed form", w, letters) for w, letters in zip(FINE, found, strict=True)]
    if rate != CHECKED:
        return rows
    w, v = np.meshgrid(COARSE, COARSE, indexing="ij")
    expected = closed_form(w, v, optimizer, rate, order, _steps(order))
    starts = list(zip(w.ravel(), v.ravel(), strict=True))
    measured = by_package(starts, optimizer, rate, order, _steps(order)).reshape(expected.shape)
    for name, states in (("closed form, few starts", expected), ("package, few starts", measured)):
        rows += [
            _row(name, w, letters) for w, letters in zip(COARSE, outcomes(states), strict=True)
        ]
    return rows


def compared(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a start that the package was run from: `w`, `v`, and whether its outcome is that of the closed form."""
    letters = {}
    for name in ("package", "closed form"):
        own = rows[rows["by"] == f"{name}, few starts"]
        letters[name] = [letter for text in own["outcomes"] for letter in text]
    return pd.DataFrame(
        {
            "w": np.repeat(own["w"].to_numpy(), len(COARSE)),
            "v": np.tile(COARSE, len(own)),
            "same": np.array(letters["package"]) == np.array(letters["closed form"]),
        }
    )


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """The share of starts of each outcome, one row a map."""
    fine = rows[rows["by"] == "closed form"]
    letters = (
        fine.groupby(["optimizer", "rate", "order"], sort=False)["outcomes"].sum().reset_index()
    )
    for letter, name in OUTCOMES.items():
        letters[name] = [text.count(letter) / len(text) for text in letters["outcomes"]]
    return letters.drop(columns="outcomes")


def answer(rows: pd.DataFrame) -> str:
    """How much of the plane converges, cycles and diverges, and whether the package says the same."""
    found, both = shares(rows), compared(rows)
    differ = both[~both["same"]]
    diagonal = int((differ["w"] == differ["v"]).sum())
    cycling = found.loc[found["cycles"].idxmax()]
    sgd, adam = (found[found["optimizer"] == name] for name in ("SGD", "Adam"))
    together, apart = (
        sgd[sgd["order"] == order].set_index("rate") for order in ("simultaneous", "cyclic")
    )
    rate = (apart["converges"] - together["converges"]).idxmax()
    joint, turns = (of.loc[rate, "converges"] for of in (together, apart))
    rare = f"Endless cycles of two weights are {'rare' if cycling['cycles'] < 0.05 else 'common'}"
    text = f"""**{rare}: plain descent and momentum converge or diverge, and rate and start decide which.**
Starts of w and v from -4 to 4 ({len(FINE)} by {len(FINE)}), told after {LATE[-1]:,} steps of one
learning rate. Of the starts of any map at most {cycling["cycles"]:.1%} cycle ({cycling["optimizer"]},
{cycling["order"]}, rate {cycling["rate"]:g}). Adam, whose moves have a bounded length,
diverges from {adam["diverges"].max():.1%} of the starts at most; where it has not
converged it is still on its way, or wanders.

One weight at a time converges from more starts where the rate is large: at rate {rate:g} plain descent converges from
{joint:.0%} of the starts when both weights move at once, and from {turns:.0%} when they take turns.
{_beyond(together, apart)}

The package, run from {len(both)} starts (rate {CHECKED:g}), has the outcome of the closed form in {both["same"].sum()} of
them. Of the {len(differ)} others {diagonal} begin with w = v: exactly on that line training goes into the point w =
v = 0, where
the gradient is zero, and rounding decides whether it stays on the line."""
    header = ["optimizer", "rate", "schedule", *OUTCOMES.values()]
    lines = [
        [row["optimizer"], f"{row['rate']:g}", row["order"], *(f"{row[o]:.1%}" for o in OUTCOMES.values())]
        for _, row in found.sort_values(["optimizer", "rate"], kind="stable").iterrows()
    ]  # fmt: skip
    limits = "Cyclic moves w first, reverse v first; one is the other with w and v exchanged, so their shares are equal."
    return "\n\n".join([text, markdown_table(header, lines), limits])


def _beyond(together, apart):
    """What plain descent does at rates at which nothing converges when both weights move at once."""
    lost = [rate for rate in together.index if not together.loc[rate, "converges"]]
    if not lost:
        return ""
    rate = lost[0]
    at_once, turns = together.loc[rate], apart.loc[rate]
    return (
        f"At rate {rate:g} no start converges when both move at once, {at_once['cycles']:.1%} cycle for ever and the "
        "others diverge or stall: every minimum has wv = -0.1 and so a curvature 2 (w² + v²) of at least 0.4, and "
        f"descent stays at none whose curvature is above 2/rate, {2 / rate:.2g}. In turn {turns['converges']:.1%} of the "
        "starts converge there: that is where one weight at a time does what the question hopes for."
    )


def draw(rows: pd.DataFrame) -> "Figure":
    """Maps of the plane for some optimizers and rates, and below them the share that converges by rate."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    found = shares(rows)
    shown = [(o, r) for o, r in SHOWN if ((found["optimizer"] == o) & (found["rate"] == r)).any()]
    figure = Figure(figsize=(9.5, 2.9 * (len(shown) + 1)), layout="constrained")
    axes = figure.subplots(len(shown) + 1, 3, squeeze=False)
    letters = list(OUTCOMES)
    for row, (optimizer, rate) in zip(axes, shown, strict=False):
        for axis, order in zip(row, ORDERS, strict=True):
            own = rows[(rows["by"] == "closed form") & (rows["rate"] == rate)]
            own = own[(own["optimizer"] == optimizer) & (own["order"] == order)].sort_values("w")
            codes = np.array(
                [[letters.index(letter) for letter in text] for text in own["outcomes"]]
            )
            colors = ListedColormap([COLORS[letter] for letter in letters])
            axis.pcolormesh(FINE, FINE, codes.T, cmap=colors, vmin=-0.5, vmax=len(letters) - 0.5)
            axis.plot(0.1, 1, marker="*", color="white", markeredgecolor="black", markersize=11)
            axis.set(title=f"{optimizer}, rate {rate:g}, {order}", aspect="equal")
            axis.set(xlabel="start of w", ylabel="start of v")
    for axis, optimizer in zip(axes[-1], OPTIMIZERS, strict=True):
        for order, style in zip(ORDERS, ("-o", "--s", ":^"), strict=True):
            own = found[(found["optimizer"] == optimizer) & (found["order"] == order)].sort_values("rate")  # fmt: skip
            axis.plot(own["rate"], 100 * own["converges"], style, label=order, markersize=4)
        axis.set(title=optimizer, xscale="log", xlabel="learning rate", ylim=(0, 101))
        axis.set_ylabel("starts that converge, %")
    axes[-1, 0].legend(fontsize=8)
    patches = [Patch(color=COLORS[letter], label=name) for letter, name in OUTCOMES.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches))
    figure.suptitle("Output w · v, target -0.1: what becomes of each start (star: the question's)")
    return figure


def _steps(order):
    """The steps at which an outcome is told, and one step (of each weight) later."""
    return (*LATE, LATE[-1] + len(ORDERS[order]))


def _row(by, w, letters):
    return {"by": by, "w": float(w), "outcomes": "".join(letters)}


PART = Part("From which starts does it converge?", cases, measure, draw, answer)
