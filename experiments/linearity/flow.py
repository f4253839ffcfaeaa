"""Gradient descent against the gradient flow, the curve that follows the gradient at every point."""

from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp

from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.linearity.nets import IMAGES, images
from experiments.linearity.training import by_block, compiled, flat, train
from layerwise.diagnostics import Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NET = "tanh 16"
TIMES = (1.0, 10.0, 50.0)
RATES = (1.0, 0.5, 0.1, 0.02)
TOLERANCE = 1e-8


def cases(scale: str) -> dict[str, dict]:
    """One, of all seeds."""
    seeds = 10 if scale == "full" else 2
    return {f"{seeds} seeds": {"seeds": seeds}}


def measure(seeds: int) -> list[dict]:
    """Rows: for each seed, time and rate, the losses of descent and flow, and how far apart they are."""
    x, y = images()
    model = compiled(NET, keras.optimizers.SGD(1.0))
    rows = []
    for seed in range(seeds):
        start_again(model, seed)
        start = model.get_weights()
        origin = Step(model, x, y)
        path = flow(origin, TIMES)
        for rate in RATES:
            model.set_weights(start)
            model.optimizer.learning_rate = rate
            done = 0
            for time, place in zip(TIMES, path, strict=True):
                steps = round(time / rate)
                train(model, x, y, steps - done)
                done = steps
                step = Step(model, x, y)
                moved = flat(step.weights) - flat(origin.weights)
                row = {"seed": seed, "rate": rate, "time": time, "steps": steps, "loss": step.loss}
                row["flow_loss"] = origin.loss_at(by_block(origin, place))
                row["distance"] = float(np.linalg.norm(moved - place))
                row["way"] = float(np.linalg.norm(place))
                rows.append(row)
    return rows


def flow(step: Step, times: tuple[float, ...], tolerance: float = TOLERANCE) -> np.ndarray:
    """How far the gradient flow dw/dt = -gradient(w) has moved the weights at some times.

    Args:
        step: Where it starts.
        times: Times, ascending; descent at rate r is at time t after t / r steps.
        tolerance: Relative and absolute tolerance of the solver in a step.

    Returns:
        `(len(times), number of weights)`.

    Source: Dormand and Prince's method of order 8, as scipy's `solve_ivp` has it.
    """

    def slope(_, moved):
        return -flat(step.gradient_at(by_block(step, moved))[1])

    start = np.zeros(sum(w.size for w in step.weights))
    found = solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=tolerance, atol=tolerance)
    return found.y.T


def answer(rows: pd.DataFrame) -> str:
    """How far the straight steps leave the curve, and whether that costs any loss."""
    rows = rows.assign(apart=rows["distance"] / rows["way"], ratio=rows["loss"] / rows["flow_loss"])
    mean = rows.groupby(["rate", "time"])[["apart", "ratio"]].mean()
    last, small, large = max(TIMES), min(RATES), max(RATES)
    shortest = mean["apart"].xs(TIMES[0], level="time").sort_index()
    power = np.polyfit(np.log(shortest.index[:2]), np.log(shortest.iloc[:2]), 1)[0]
    (far, cost), near = mean.loc[(large, last)], mean.loc[(small, last), "apart"]
    text = f"""**Gradient descent is not broken: its straight steps leave the curved path, and at rates
that the loss's curvature bears that costs little.** The gradient flow follows the gradient at every point, as if steps were
infinitely many and infinitely small. After time {last:g} ({round(last / large)} steps at rate
{large:g}) descent is {far:.1%} of the way travelled away from it, and its loss is {cost:.2f} times the flow's. With
steps of rate {small:g}, {round(large / small)} times as many, they are {near:.2%} apart. At small rates the distance goes
with the rate
to the power {power:.2f}: with 1, halving the steps halves the error, and the path of ever smaller steps is the flow."""
    header = [
        "rate",
        "time",
        "steps",
        "distance from the flow, % of the way",
        "loss over the flow's",
    ]
    lines = [
        [f"{rate:g}", f"{time:g}", f"{round(time / rate)}",
         with_interval(cell["apart"], factor=100), with_interval(cell["ratio"], digits=4)]
        for (rate, time), cell in rows.groupby(["rate", "time"], sort=False)
    ]  # fmt: skip
    limits = f"""A {NET} net on {IMAGES} digits, full batch, {rows["seed"].nunique()} seeds; 95 % intervals. The flow is
solved to a tolerance of {TOLERANCE:g}. At rates at which the loss is steeper than 2 / rate descent cannot follow the
flow at
all: see the part on steepness."""
    return "\n\n".join([text, markdown_table(header, lines), limits])


def draw(rows: pd.DataFrame) -> "Figure":
    """Distance from the flow by rate, and the losses over time."""
    import seaborn as sns
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    rows = rows.assign(apart=100 * rows["distance"] / rows["way"])
    for (time, own), color in zip(
        rows.groupby("time"), sns.color_palette("viridis", 3), strict=False
    ):
        over = own.groupby("rate")["apart"].agg(["mean", "min", "max"])
        left.plot(over.index, over["mean"], "o-", color=color, label=f"after time {time:g}")
        left.fill_between(over.index, over["min"], over["max"], color=color, alpha=0.2)
    left.set(xscale="log", yscale="log", xlabel="learning rate")
    left.set(
        title="How far straight steps leave the curve",
        ylabel="distance from the flow, % of the way",
    )
    for rate, own in rows.groupby("rate"):
        losses = own.groupby("time")["loss"].mean()
        right.plot(losses.index, losses, "o-", label=f"rate {rate:g}")
    losses = rows.groupby("time")["flow_loss"].mean()
    right.plot(losses.index, losses, "k--", label="flow")
    right.set(xscale="log", xlabel="time (steps times rate)", ylabel="loss", title="What it costs")
    for axis in (left, right):
        axis.legend(fontsize=8)
    return figure


PART = Part("Is the path wrong, or the straight line harmless?", cases, measure, draw, answer)
