"""The best that a single step can reach, along the gradient, Adam's direction and Newton's, against many steps."""

from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd
import scipy.linalg
from scipy.optimize import minimize_scalar

from experiments.harness.markdown import markdown_table
from experiments.harness.parts import Part, with_interval
from experiments.harness.programs import start_again
from experiments.linearity.nets import IMAGES, images
from experiments.linearity.training import by_block, compiled, flat, hessian, train
from layerwise.comparison import intervals
from layerwise.diagnostics import Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NET = "tanh 8"
AFTER = (0, 100)  # steps of gradient descent before the single step
STEPS = (1, 10, 100, 1000)
RATES = {"gradient descent": 1.0, "Adam": 0.01}
DAMPINGS = np.geomspace(1e-4, 10, 11)
LENGTHS = np.geomspace(1e-4, 1e4, 33)


def cases(scale: str) -> dict[str, dict]:
    """One a moment of training."""
    seeds = 10 if scale == "full" else 2
    return {
        f"after {after} steps, {seeds} seeds": {"after": after, "seeds": seeds} for after in AFTER
    }


def measure(after: int, seeds: int) -> list[dict]:
    """Rows: the loss after the best single step of each kind, and after so many usual steps, from the same weights."""
    x, y = images()
    models = {
        "gradient descent": compiled(NET, keras.optimizers.SGD(RATES["gradient descent"])),
        "Adam": compiled(NET, keras.optimizers.Adam(RATES["Adam"])),
    }
    rows = []
    for seed in range(seeds):
        for model in models.values():
            start_again(model, seed)
        if after:
            train(models["gradient descent"], x, y, after)
            models["Adam"].set_weights(models["gradient descent"].get_weights())
        rows += [{"seed": seed, **row} for row in ways(models, x, y)]
    return rows


def ways(models: dict[str, keras.Model], x: np.ndarray, y: np.ndarray) -> list[dict]:
    """Rows of one start, which the models share."""
    descent, adam = models.values()
    step = Step(descent, x, y)
    directions = {
        "gradient": [-flat(step.gradient)],
        "Adam's": [flat(Step(adam, x, y).displacement)],
        "Newton's": newton(step),
    }
    rows = []
    for name, candidates in directions.items():
        loss, length = min(best_length(step, direction) for direction in candidates)
        rows.append({"way": f"{name} direction", "steps": 1, "loss": loss, "length": length})
    for name, model in models.items():
        done = 0
        for steps in STEPS:
            train(model, x, y, steps - done)
            done = steps
            loss = Step(model, x, y).loss
            rows.append({"way": name, "steps": steps, "loss": loss, "length": np.nan})
    return [{"before": step.loss, **row} for row in rows]


def best_length(step: Step, direction: np.ndarray) -> tuple[float, float]:
    """The least loss along a direction and how far it lies: the best of many lengths, then refined between its neighbours.

    Args:
        step: Where the direction begins.
        direction: One vector of all blocks' weights.

    Returns:
        The loss, and the multiple of the direction.
    """

    def loss(exponent):
        return step.loss_at(by_block(step, np.exp(exponent) * direction))

    exponents = np.log(LENGTHS)
    losses = [loss(exponent) for exponent in exponents]
    best = int(np.nanargmin(losses))
    ends = exponents[max(best - 1, 0)], exponents[min(best + 1, len(exponents) - 1)]
    found = minimize_scalar(loss, bounds=ends, method="bounded")
    return min((float(found.fun), float(np.exp(found.x))), (losses[best], float(LENGTHS[best])))


def newton(step: Step) -> list[np.ndarray]:
    """The damped Newton directions -(|H| + d I)^-1 g for each damping d of `DAMPINGS`.

    |H| has the absolute values of H's eigenvalues (Dauphin et al., arXiv 1406.2572): H itself has negative ones, along
    which Newton's own step climbs.
    """
    values, vectors = scipy.linalg.eigh(hessian(step))
    along = vectors.T @ flat(step.gradient)
    return [-vectors @ (along / (np.abs(values) + damping)) for damping in DAMPINGS]


def removed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `removed`: the share of the loss that is gone."""
    return rows.assign(removed=1 - rows["loss"] / rows["before"])


def answer(rows: pd.DataFrame) -> str:
    """What one step can do at best, and how many usual steps that is worth."""
    found = removed(rows)
    start = found[found["after"] == 0]
    mean = start.groupby(["way", "steps"])["removed"].mean()
    best = {name: mean[f"{name} direction", 1] for name in ("gradient", "Adam's", "Newton's")}
    text = f"""**Of the three directions tried, the gradient, Adam's and Newton's, no single step is enough, however well
its length is chosen.**
A straight line to the goal exists, but to know it one must have trained already. From a new
start, the exact best step along the gradient removes {best["gradient"]:.0%} of the loss, along Adam's direction
{best["Adam's"]:.0%}, along
Newton's (best of {len(DAMPINGS)} dampings) {best["Newton's"]:.0%}. A thousand usual steps of gradient descent remove
{mean["gradient descent", 1000]:.0%}, of Adam {mean["Adam", 1000]:.0%}. Ten usual steps of gradient descent, with no
search for
their length, remove {mean["gradient descent", 10]:.0%}. A step is a local correction; what it is worth is that it is cheap
and that the next one starts from a fresh gradient."""
    header = ["way", *(f"from {'a new start' if not a else f'{a} steps on'}" for a in found["after"].unique())]  # fmt: skip
    lines = []
    for (way, steps), cell in found.groupby(["way", "steps"], sort=False):
        usual = f"{steps} step{'s' if steps > 1 else ''} of {way}"
        name = f"best step along {way}" if "direction" in way else usual
        values = [own["removed"] for _, own in cell.groupby("after")]
        lines.append([name, *(with_interval(value, factor=100) for value in values)])
    limits = f"""Share of the loss removed, in %, means over {found["seed"].nunique()} seeds with 95 % intervals; a
{NET} net on
{IMAGES} digits, rates {RATES["gradient descent"]:g} and {RATES["Adam"]:g}, not tuned. Finding the best step takes dozens
of evaluations, Newton's also a Hessian of all weights: this is a bound on what one step can do, not a method to use."""
    return "\n\n".join([text, markdown_table(header, lines), limits])


def draw(rows: pd.DataFrame) -> "Figure":
    """The share of the loss that is gone after a number of steps, with the best single steps as lines."""
    import seaborn as sns
    from matplotlib.figure import Figure

    afters = list(rows["after"].unique())
    figure = Figure(figsize=(5.2 * len(afters), 4.2), layout="constrained")
    colors = dict(zip(dict.fromkeys(rows["way"]), sns.color_palette("colorblind"), strict=False))
    for axis, after in zip(figure.subplots(1, len(afters), squeeze=False)[0], afters, strict=True):
        own = removed(rows[rows["after"] == after])
        for way, cell in own.groupby("way", sort=False):
            if "direction" in way:
                label = f"best single step, {way}"
                center, low, high = intervals.mean(100 * cell["removed"])
                axis.axhline(center, color=colors[way], linestyle="--", label=label)
                axis.axhspan(low, high, color=colors[way], alpha=0.12)
            else:
                found = {n: intervals.mean(100 * v) for n, v in cell.groupby("steps")["removed"]}
                center, low, high = zip(*found.values(), strict=True)
                axis.plot(list(found), center, "o-", color=colors[way], label=f"{way}, usual steps")
                axis.fill_between(list(found), low, high, color=colors[way], alpha=0.2)
        title = "From a new start" if not after else f"After {after} steps of gradient descent"
        axis.set(xscale="log", xlabel="steps", title=title, ylim=(-30, 100))
        axis.set_ylabel("loss removed, % (more is better)")
        axis.legend(fontsize=7)
    return figure


PART = Part("Would a correct step need only one?", cases, measure, draw, answer)
