"""depth: where does one layer at a time, or greedy, begin to pay as a network grows deeper?

`python -m experiments.depth` runs it, with the arguments of `experiments run depth`.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import pandas as pd
from keras import layers

import layerwise
from experiments import convergence
from experiments.harness import comparisons, verdict
from layerwise.comparison import Comparison, tuning

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH, LIKE = 64, 4  # equal parameters: as many as this many layers of this width have
TICKS = (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10)
FORMS = ("plain", "normalized", "residual")
SIZES = ("equal width", "equal parameters")
SCALES = {
    "quick": {
        "depths": (2, 8),
        "forms": ("plain",),
        "sizes": SIZES[:1],
        "tuning_seeds": 1,
        "seeds": 5,
    },
    "full": {
        "depths": (2, 4, 8, 16, 32),
        "forms": FORMS,
        "sizes": SIZES,
        "tuning_seeds": 5,
        "seeds": 10,
    },
}


def network(
    shape: Sequence[int], n_classes: int, depth: int, form: str = "plain", size: str = "equal width"
) -> keras.Model:
    """`depth` hidden ReLU layers and a linear one; logits.

    Args:
        shape: Of an example.
        n_classes: Outputs.
        depth: Hidden layers.
        form: "plain"; "normalized": layer normalization before each ReLU; "residual": that, and the layer's input is
            added to its output (not in the first, where widths differ).
        size: "equal width": `WIDTH`; "equal parameters": the width with which there are about as many parameters as in
            `LIKE` layers of `WIDTH`.

    Example:
    >>> import layerwise
    >>> from experiments.depth import network
    >>> [len(layerwise.partition(network((8, 8), 10, depth, "residual"))) for depth in (2, 4)]
    [3, 5]
    >>> [network((64,), 10, depth, size="equal parameters").count_params() for depth in (4, 8)]
    [17290, 17170]
    """
    inputs = keras.Input(shape)
    n_inputs = int(np.prod(shape))
    width = WIDTH if size == "equal width" else width_of(n_inputs, n_classes, depth)
    value = layers.Flatten()(inputs)
    for number in range(depth):
        before = value
        value = layers.Dense(width, kernel_initializer="he_normal")(value)
        if form != "plain":
            value = layers.LayerNormalization()(value)
        value = layers.ReLU()(value)
        if form == "residual" and number:
            value = layers.Add()([before, value])
    return keras.Model(inputs, layers.Dense(n_classes)(value))


def width_of(n_inputs: int, n_classes: int, depth: int) -> int:
    """The width at which `depth` layers have about as many weights as `LIKE` layers of `WIDTH`."""

    def weights(width, depth):
        return width * (n_inputs + n_classes) + (depth - 1) * width**2

    goal = weights(WIDTH, LIKE)
    return min(range(1, 4096), key=lambda width: abs(weights(width, depth) - goal))


def schedules() -> dict[str, Callable[[], layerwise.Schedule]]:
    """`{name: () -> schedule}`, the baseline first."""
    most = convergence.schedules(epochs=1)
    return {n: most[n] for n in ("simultaneous", "shuffled, 10 steps", "shuffled, sweep", "greedy")}


def define(
    scale: str,
    shape: Sequence[int],
    n_classes: int,
    epochs: int | None = None,
    optimizers: Sequence[str] | None = None,
) -> dict:
    """The arguments of `layerwise.compare`; `epochs` and `optimizers` in place of the scale's."""
    settings = dict(SCALES[scale])
    trained = convergence.define("full", shape, n_classes, optimizers=optimizers or ("Adam",))
    kinds = itertools.product(settings.pop("forms"), settings.pop("sizes"), settings.pop("depths"))
    return settings | {
        "epochs": epochs or 24,
        "models": {
            f"{depth} layers, {form}, {size}": functools.partial(
                network, shape, n_classes, depth, form, size
            )
            for form, size, depth in kinds
        },
        "schedules": schedules(),
        **{name: trained[name] for name in ("optimizers", "learning_rates")},
    }


def by_depth(rows: pd.DataFrame) -> pd.DataFrame:
    """Verdicts with the columns `depth` and `network` (form and size) in place of the model's name."""
    parts = rows["model"].str.extract(r"(?P<depth>\d+) layers, (?P<network>.*)")
    return rows.assign(depth=parts["depth"].astype(int), network=parts["network"])


def findings(comparison: Comparison, rows: pd.DataFrame) -> list[str]:
    """For each schedule, in how many networks it was cheaper, and its cost by depth; what the baseline itself reached."""
    rows, found = by_depth(rows), []
    for schedule, own in rows.groupby("schedule", sort=False):
        counts = own["cost"].value_counts()
        costs = [
            f"{depth} layers {verdict.spread(here['ratio'])}"
            for depth, here in own.groupby("depth")
        ]
        found.append(
            f"{schedule[0].upper()}{schedule[1:]}: beyond chance cheaper than moving all layers at once in "
            f"{counts.get('cheaper', 0)} of {len(own)} networks and dearer in {counts.get('dearer', 0)}. Its FLOPs to the "
            f"target over theirs (of two networks both; of more the median, with the least and the largest): "
            f"{'; '.join(costs)}."
        )
    early = convergence.first_stage(comparison.runs)
    return [*found, *([early] if early else []), _baseline(comparison)]


def _baseline(comparison):
    runs = tuning.of_purpose(comparison.runs, "cost")
    runs = by_depth(runs[runs["schedule"] == comparison.baseline])
    reached = runs.groupby("depth")["reached"].agg(["sum", "size"]).astype(int)
    parts = [
        f"{row['sum']} of {row['size']} at {depth} layers" for depth, row in reached.iterrows()
    ]
    return (
        f"Moving all layers at once reached its own target in {', '.join(parts)}. A multiple is 0 where it missed and the "
        "other schedule did not, and 1 where both missed."
    )


def figure(rows: pd.DataFrame) -> Figure:
    """A panel a network: FLOPs to the target over the baseline's by depth, a line a schedule, with 95 % intervals."""
    import seaborn as sns
    from matplotlib.figure import Figure

    rows = by_depth(rows)
    networks, palette = list(dict.fromkeys(rows["network"])), sns.color_palette("colorblind")
    columns = min(2, len(networks))
    drawn = Figure(
        figsize=(1.5 + 3.6 * columns, 0.8 + 2.6 * -(-len(networks) // columns)),
        layout="constrained",
    )
    axes = drawn.subplots(
        -(-len(networks) // columns), columns, squeeze=False, sharex=True, sharey=True
    )
    finite = rows["ratio"].replace([np.inf, 0], np.nan)
    top, bottom = 2 * max(finite.max(), 2), 0.5 * min(finite.min(), 0.5)
    for axis, name in zip(axes.flat, networks, strict=False):
        here = rows[rows["network"] == name]
        for color, (schedule, own) in zip(
            palette, here.groupby("schedule", sort=False), strict=False
        ):
            own = own.sort_values("depth")
            ends = own[["ratio_low", "ratio_high"]].clip(bottom, top)
            axis.plot(
                own["depth"], own["ratio"].clip(bottom, top), "o-", color=color, label=schedule
            )
            neither = own[(own["ratio"] == 1) & (own["n_reached"] < own["n_runs"] / 2)]
            axis.plot(neither["depth"], neither["ratio"], "o", color=color, markerfacecolor="white")
            axis.vlines(own["depth"], ends["ratio_low"], ends["ratio_high"], color=color, alpha=0.5)
        axis.axhline(1, color="0.25", linestyle="--", linewidth=1)
        axis.set(title=name, xscale="log", yscale="log")
        depths = sorted(here["depth"].unique())
        axis.set_xticks(depths, [str(depth) for depth in depths])
        ticks = [t for t in TICKS if 1.5 * bottom < t < top / 1.5]
        labels = ["all at once missed", *(f"{tick:g}×" for tick in ticks), "missed"]  # noqa: RUF001
        axis.set_yticks([bottom, *ticks, top], labels)
        axis.minorticks_off()
        axis.grid(color="0.9")
    for axis in axes[-1]:
        axis.set_xlabel("Hidden layers")
    drawn.supylabel("FLOPs to the target, multiples", fontsize=10)
    drawn.legend(
        *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False
    )
    drawn.suptitle(
        "Below 1: cheaper than moving all layers at once. Hollow: both missed the target",
        fontsize=10,
    )
    return drawn


EXPERIMENT = comparisons.experiment(
    "Where does one layer at a time, or greedy, begin to pay as a network grows deeper?",
    define,
    findings,
    "depths beyond 32, and tasks that need depth: on these the shallow networks do as well.",
    figure,
    by_task=False,
)

if __name__ == "__main__":
    from experiments.harness.command import main

    main(["run", "depth", *sys.argv[1:]])
