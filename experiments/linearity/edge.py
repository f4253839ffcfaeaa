"""The edge of stability, all blocks at once and one after the other: how steep does training make the loss?"""

from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.linearity import settling
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
    """One row for each run of `SWEEPS` sweeps: means over its last half.

    Eigenvalues, `whole` and `steepest_block`, are multiples of 2 / rate; `used` is the rate over the largest stable one.
    """
    own = scaled(rows[~_is_long(rows)])
    last = own[own["sweeps"] > SWEEPS / 2]
    keys = ["net", "order", "rate", "seed"]
    return last.groupby(keys, sort=False)[["whole", "steepest_block", "used"]].mean().reset_index()


def scaled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with eigenvalues as multiples of 2 / rate, the steepest block's, and `used` (see `late`)."""
    half = rows["rate"] / 2
    steepest = rows.filter(regex="^block ").max(axis=1) * half
    return rows.assign(
        whole=rows["whole"] * half,
        steepest_block=steepest,
        used=rows["rate"] / rows["largest_stable_rate"],
    )


def _is_long(rows):
    """Which rows are of cases with more than `SWEEPS` sweeps."""
    return rows.groupby("case")["sweeps"].transform("max") > SWEEPS


def answer(rows: pd.DataFrame) -> str:
    """All at once against one after the other, what the linear theory says of both, and what longer training does."""
    runs = late(rows)
    cells = runs.groupby(["net", "order", "rate"], sort=False)
    means = cells[["whole", "steepest_block", "used"]].mean().reset_index()
    joint, turns = (
        means[(means["order"] == "simultaneous") == at_once] for at_once in (True, False)
    )
    apart = runs[runs["order"] != "simultaneous"]
    finite = int(np.isfinite(apart["whole"]).sum())
    long = rows[_is_long(rows)]

    def span(of, column):
        return f"{of[column].min():.2f} to {of[column].max():.2f}"

    text = f"""**Training makes the loss as curved as its steps can bear, 2 / rate; one block after the other goes
{_beyond(turns, long)} that.** How curved: the curvature in the direction where it is largest, the largest eigenvalue of
the Hessian. Full-batch gradient descent makes it larger until it is 2 / rate, the edge of stability: any more, and each
step would overshoot more than the last. Measured, the largest eigenvalue is {span(joint, "whole")}
times 2 / rate (means of {runs["seed"].nunique()} seeds in {len(joint)} cells of net and rate).

One block after the other, the whole net's largest eigenvalue is {span(turns, "whole")} times 2 / rate,
and {finite} of {len(apart)} such runs stay finite. {_block(turns)} that
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
small batches, momentum, other losses and larger nets are not shown."""
    table = markdown_table([*header, "rate / largest stable rate"], lines)
    return "\n\n".join(
        [text, table, *(settling.answer(scaled(long), SWEEPS) if len(long) else []), limits]
    )


def _beyond(turns, long):
    ends = scaled(long[long["sweeps"] == LONG]).groupby("net")["whole"].mean()
    return "beyond" if min([turns["whole"].min(), *ends]) > 1.05 else "not everywhere beyond"


def _block(turns):
    if turns["steepest_block"].max() > 1.05:
        return "A block's own largest eigenvalue need not stop at 2 / rate either:"
    return "A block's own largest eigenvalue stays at or below 2 / rate:"


def _verdict(turns):
    if turns["used"].max() < 0.9:
        return f"So after {SWEEPS} sweeps blocks in turn are not at their edge: the loss could be steeper still."
    if turns["used"].max() < 1.1:
        return "So some runs in turn are at their edge too, only that it lies elsewhere."
    return "So some runs in turn are beyond what the linear theory calls stable."


def draw(rows: pd.DataFrame) -> "Figure":
    """Over training, all in 2 / rate: the largest eigenvalue of the net and of each block; and how near the edge is."""
    import seaborn as sns
    from matplotlib.figure import Figure

    rate = rows["rate"].max()
    own = scaled(rows[rows["rate"] == rate])
    long = own[_is_long(own)]
    at_once, in_turn = own[own["order"] == "simultaneous"], own[own["order"] == "cyclic"]
    in_turn = long if len(long) else in_turn
    nets = list(dict.fromkeys(own["net"]))
    figure = Figure(figsize=(3.4 * len(nets) + 1.5, 9.0), layout="constrained")
    axes = figure.subplots(3, len(nets), squeeze=False, sharex="row", sharey="row")
    names = [name for name in rows if name == "whole" or name.startswith("block ")]
    colors = ["black", *sns.color_palette("viridis", len(names) - 1)]
    titles = ("all blocks at once", "one block after the other")
    for title, of, row in zip(titles, (at_once, in_turn), axes, strict=False):
        for axis, net in zip(row, nets, strict=True):
            for what, color in zip(names, colors, strict=True):
                values = of[of["net"] == net].set_index("sweeps")[what]
                _band(axis, values if what == "whole" else values * rate / 2, color, what)
            axis.axhline(1, color="crimson", linestyle="--", label="2 / rate")
            axis.set_title(f"{net},\n{title}")
        row[0].set_ylim(bottom=0)
        row[0].set_ylabel("largest eigenvalue, in 2 / rate")
    for axis, net in zip(axes[2], nets, strict=True):
        for title, of, color in zip(titles, (at_once, in_turn), ("0.5", "tab:orange"), strict=True):
            _band(axis, of[of["net"] == net].set_index("sweeps")["used"], color, title)
        axis.axhline(1, color="crimson", linestyle="--", label="the edge")
        axis.set(ylim=(0, 1.15), xlabel="sweeps (each block has moved once)")
    axes[2, 0].set_ylabel("rate / largest stable rate\nof the linearized sweep")
    axes[2, 0].legend(fontsize=8, loc="lower left")
    figure.legend(*axes[0, -1].get_legend_handles_labels(), loc="outside right center")
    figure.suptitle(
        f"Largest eigenvalue of the Hessian, whole net and each block (0: next to the input), rate {rate:g};\n"
        f"mean and range of {own['seed'].nunique()} seeds"
    )
    return figure


def _band(axis, values, color, label):
    """A line of the means over seeds by the number of sweeps, in the band of their range, where any was measured."""
    over = values.groupby(level=0).agg(["mean", "min", "max"]).dropna()
    if len(over):
        axis.plot(over.index, over["mean"], color=color, marker=".", label=label)
        axis.fill_between(over.index, over["min"], over["max"], color=color, alpha=0.2)


PART = Part("How steep does training make the loss?", cases, measure, draw, answer)
