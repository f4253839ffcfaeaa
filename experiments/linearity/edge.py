"""The edge of stability, all blocks at once and one after the other: how steep does training make the loss?"""

from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.linearity.nets import IMAGES, images, repeated
from experiments.linearity.sweeps import largest_stable_rate, steep_directions, turns_of
from experiments.linearity.training import compiled
from layerwise.diagnostics import Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SWEEPS, LONG = 1500, 6000  # of most cases, and of those that ask where training in turn settles
EVERY = 375  # sweeps between two measurements


def cases(scale: str) -> dict[str, dict]:
    """Three nets, two rates, all at once and cyclic; for the smallest net two more orders; cyclic for long on each net."""
    small, *others = "tanh 32-32", "tanh 48-24", "tanh 24-24-24-24"
    orders = ("simultaneous", "cyclic", "shuffled", "reverse")
    wanted = [(small, order, 1.0) for order in orders[:2]]
    wanted += [(name, order, 1.0) for name in others for order in orders[:2]]
    wanted += [(small, order, 0.7) for order in orders[:2]]
    wanted += [(small, order, 1.0) for order in orders[2:]]
    seeds, wanted = (10, wanted) if scale == "full" else (2, wanted[:2])
    found = {
        f"{name}, {order}, rate {rate:g}, {seeds} seeds": {"net": name, "order": order, "rate": rate, "seeds": seeds}
        for name, order, rate in wanted
    }  # fmt: skip
    for name in (small, *others) if scale == "full" else ():
        long = {"net": name, "order": "cyclic", "rate": 1.0, "seeds": seeds, "until": LONG}
        found[f"{name}, cyclic, rate 1, {LONG} sweeps, {seeds} seeds"] = long
    return found


def measure(net: str, order: str, rate: float, seeds: int, until: int = SWEEPS) -> list[dict]:
    """Rows: for each seed and moment of training the largest eigenvalues, of the net and of each block.

    Every `SWEEPS` sweeps also the largest stable rate.
    """
    x, y = images()
    model = compiled(net, keras.optimizers.SGD(rate))
    n = len(model.layers)
    steps = EVERY * len(turns_of("simultaneous" if order == "simultaneous" else "cyclic", n))
    many_x, many_y = repeated(x, y, steps)
    turns, rows = turns_of(order, n), []
    for seed in range(seeds):
        start_again(model, seed)
        schedule = schedule_of(order, seed)
        for sweeps in range(EVERY, until + 1, EVERY):
            model.fit(many_x, many_y, batch_size=len(x), shuffle=False, verbose=0, callbacks=[schedule])  # fmt: skip
            factors = factors_at(model, x, y)
            row = {"seed": seed, "sweeps": sweeps, "loss": float(model.history.history["loss"][-1])}
            row["whole"] = float(np.linalg.norm(np.concatenate(factors), 2) ** 2)
            row |= {f"block {k}": float(np.linalg.norm(f, 2) ** 2) for k, f in enumerate(factors)}
            if sweeps % SWEEPS == 0:
                row["largest_stable_rate"] = largest_stable_rate(factors, turns)
            rows.append(row)
    return rows


def schedule_of(order: str, seed: int = 0) -> layerwise.Schedule:
    """The schedule: all blocks at once, or one a step in that order."""
    if order == "simultaneous":
        return layerwise.Simultaneous()
    return layerwise.BlockCoordinate(order=order, seed=seed)


def factors_at(model: keras.Model, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
    """The steep part of the Hessian at the model's weights, one factor a block (see `steep_directions`)."""
    step = Step(model, x, y)
    return steep_directions(step.hessian_vector, [w.size for w in step.weights])


def late(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each run: means over the last half of training, as multiples of 2 / rate where they are eigenvalues."""
    blocks = [name for name in rows if name.startswith("block ")]
    last = rows[rows["sweeps"] > SWEEPS / 2].copy()
    last["steepest_block"] = last[blocks].max(axis=1)
    for name in ("whole", "steepest_block"):
        last[name] *= last["rate"] / 2
    last["used"] = last["rate"] / last["largest_stable_rate"]
    keys = ["net", "order", "rate", "seed"]
    return last.groupby(keys, sort=False)[["whole", "steepest_block", "used"]].mean().reset_index()


def answer(rows: pd.DataFrame) -> str:
    """All at once against one after the other, and what the linear theory says of both."""
    runs = late(rows)
    cells = runs.groupby(["net", "order", "rate"], sort=False)
    means = cells[["whole", "steepest_block", "used"]].mean().reset_index()
    joint, turns = (
        means[(means["order"] == "simultaneous") == at_once] for at_once in (True, False)
    )
    apart = runs[runs["order"] != "simultaneous"]
    finite = int(np.isfinite(apart["whole"]).sum())

    def span(of, column):
        return f"{of[column].min():.2f} to {of[column].max():.2f}"

    text = f"""**All blocks at once train up to the edge of stability, 2 / rate; one block after the other goes
{_beyond(turns)} it.** Full-batch gradient descent makes the loss steeper until its largest eigenvalue is 2 / rate: any
steeper, and each step would overshoot more than the last. Measured, the largest eigenvalue is {span(joint, "whole")}
times 2 / rate (means of {runs["seed"].nunique()} seeds in {len(joint)} cells of net and rate).

One block after the other, the whole net's largest eigenvalue is {span(turns, "whole")} times 2 / rate,
and {finite} of {len(apart)} such runs stay finite. A block's own largest eigenvalue does not stop at 2 / rate either: that
of the steepest block is {span(turns, "steepest_block")} times it.

The linear theory explains how that can be stable. On a quadratic a sweep multiplies the distance to the minimum by
prod_k (I - rate P_k H), and is stable where the spectral radius of this product is below 1. That every block is below
2 / rate is enough for that (Householder-John), but not needed: what one block overshoots the next ones, which see the new
error, take back. For the Hessians of the trained nets, the rate used is {span(joint, "used")} of the largest stable one
where all blocks move at once, and {span(turns, "used")} of it where they take turns. {_verdict(turns)}"""
    header = ["net", "schedule", "rate", "whole net, in 2 / rate", "steepest block, in 2 / rate"]
    columns = ("whole", "steepest_block", "used")
    lines = [
        [name, order, f"{rate:g}", *(with_interval(cell[column]) for column in columns)]
        for (name, order, rate), cell in cells
    ]
    limits = f"""Eigenvalues are means over the second half of {SWEEPS} sweeps on {IMAGES} digits under the squared error,
the stable rate is that of the last weights, intervals are 95 % over seeds. These are small tanh nets on the full batch:
small batches, momentum, other losses and larger nets are not shown, nor where training would settle after far more
sweeps."""
    return "\n\n".join(
        [text, markdown_table([*header, "rate / largest stable rate"], lines), limits]
    )


def _beyond(turns):
    return "beyond" if turns["whole"].min() > 1.05 else "not everywhere beyond"


def _verdict(turns):
    if turns["used"].max() < 0.9:
        return "So blocks in turn are not at their edge: the loss could be steeper still before a sweep became unstable."
    if turns["used"].max() < 1.1:
        return "So some runs in turn are at their edge too, only that it lies elsewhere."
    return "So some runs in turn are beyond what the linear theory calls stable."


def draw(rows: pd.DataFrame) -> "Figure":
    """Over training: the whole net's and each block's largest eigenvalue, against 2 / rate."""
    import seaborn as sns
    from matplotlib.figure import Figure

    rate = rows["rate"].max()
    own = rows[rows["rate"] == rate]
    nets = list(dict.fromkeys(own["net"]))
    titles = {"simultaneous": "all blocks at once", "cyclic": "one block after the other"}
    figure = Figure(figsize=(3.4 * len(nets) + 1.5, 6.4), layout="constrained")
    axes = figure.subplots(2, len(nets), squeeze=False, sharex=True, sharey="row")
    names = [name for name in rows if name == "whole" or name.startswith("block ")]
    colors = ["black", *sns.color_palette("viridis", len(names) - 1)]
    for (order, title), row in zip(titles.items(), axes, strict=True):
        for axis, name in zip(row, nets, strict=True):
            cell = own[(own["net"] == name) & (own["order"] == order)]
            for what, color in zip(names, colors, strict=True):
                over = cell.groupby("sweeps")[what].agg(["mean", "min", "max"]).dropna()
                if len(over):
                    axis.plot(over.index, over["mean"], color=color, marker=".", label=what)
                    axis.fill_between(over.index, over["min"], over["max"], color=color, alpha=0.2)
            axis.axhline(2 / rate, color="crimson", linestyle="--", label="2 / rate")
            axis.set_title(f"{name},\n{title}")
    for axis in axes[-1]:
        axis.set_xlabel("Sweeps (each block has moved once)")
    for axis in axes[:, 0]:
        axis.set_ylabel("Largest eigenvalue")
        axis.set_ylim(bottom=0)
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside right center")
    figure.suptitle(
        f"Largest eigenvalue of the Hessian, whole net and each block (0: next to the input), rate {rate:g};\n"
        f"mean and range of {own['seed'].nunique()} seeds"
    )
    return figure


PART = Part("How steep does training make the loss?", cases, measure, draw, answer)
