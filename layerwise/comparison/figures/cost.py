"""The first figure: what reaching the target costs, as a multiple of the baseline's cost."""
# ruff: noqa: RUF001 (a multiplication sign is meant)

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from layerwise.comparison import intervals
from layerwise.comparison.figures import style
from layerwise.comparison.figures.scene import Scene

CLOCKS = {"updates": "Updates", "flops": "FLOPs", "seconds": "Seconds"}


def figure(scene: Scene) -> Figure:
    """Multiples of the baseline's updates, FLOPs and seconds, and the test score at the end."""
    names = scene.schedules
    costs = scene.relative_costs.set_index(["schedule", "clock"])
    drawn, axes = style.subplots(
        1, 5, figsize=(18, 2.8 + 0.42 * len(names)), sharey=True, width_ratios=[0.3, 1, 1, 1, 0.9]
    )
    greedy = " A greedy stage counts with its own head." * any("greedy" in name for name in names)
    style.heading(
        drawn,
        f"What does it cost to reach {scene.goal}?",
        f"{scene}. Multiples of what {scene.baseline} training needs (1×), paired by seed, "
        f"{scene.tuned_for_cost}. Dots: median over {scene.n_seeds} seeds, a miss costs infinitely much; hollow where some "
        f"missed the target; bars: 95 % intervals.{greedy}{scene.seconds}",
    )
    _reached(axes[0], names, costs)
    numbers = costs[["ratio", "ratio_low", "ratio_high"]].to_numpy(dtype="float64")
    numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
    low, high = 0.9 * min([0.5, *numbers]), 1.1 * max([2.0, *numbers])
    for panel, (clock, title) in zip(axes[1:4], CLOCKS.items(), strict=True):
        panel.set_title(f"{title} to target")
        _multiples(panel, scene, names, costs.xs(clock, level="clock"), low, high)
    _test_score(axes[4], scene, names)
    style.rows(axes, scene, names)
    return drawn


def _reached(axes, names, costs):
    axes.set_title("Reached")
    for place, name in enumerate(names):
        cost = costs.loc[(name, "epochs")]
        text = f"{cost['n_reached']} of {cost['n_runs']}"
        axes.text(0.5, place, text, ha="center", va="center", fontsize=12.5)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _multiples(axes, scene, names, costs, low, high):
    span = np.log10(high / low)
    every = (0.2, 0.5, 1, 2, 5) if span < 1.2 else (0.03, 0.1, 0.3, 1, 3, 10, 30)
    every = every if span < 2.4 else (0.001, 0.01, 0.1, 1, 10, 100, 1000)
    axes.set_xscale("log")
    axes.set_xlim(low, high * (high / low) ** 0.3)  # the numbers stand to the right of the dots
    axes.set_xticks([tick for tick in every if low <= tick <= high])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvspan(low, 1, color="#dff0e4", zorder=0, linewidth=0)
    axes.axvline(1, color="0.1", linewidth=1.5, zorder=1)
    axes.set_xlabel("← cheaper   (1×)   costlier →")
    for place, name in enumerate(names):
        cost, look = costs.loc[name], scene.looks[name]
        values = cost[["ratio", "ratio_low", "ratio_high"]].astype("float64")
        if not (cost["n_reached"] and 0 < values["ratio"] < np.inf):
            text = "more than half missed" if cost["n_reached"] else "never reached"
            text = "the baseline missed" if values["ratio"] == 0 else text
            axes.annotate(
                f"✕ {text}",
                (1, place),
                (8, 0),
                textcoords="offset points",
                va="center",
                color="0.45",
            )
            continue
        missed = cost["n_reached"] < cost["n_runs"]
        hollow = {"markerfacecolor": "white", "markeredgewidth": 2} if missed else {}
        ends = values.clip(low, high)  # an infinite end leaves the panel
        style.dot(axes, place, look, ends.where(values.notna()), **hollow)
        label = "1×" if name == scene.baseline else f"{values['ratio']:.2g}×"
        axes.text(
            0.985,
            place,
            label,
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=13,
            color=look.color,
            fontweight="bold",
        )


def _test_score(axes, scene, names):
    axes.set_title(f"Test {scene.metric} at the end")
    factor = 100 if scene.percent else 1
    for place, name in enumerate(names):
        runs = scene.measured[scene.measured["schedule"] == name]
        values = factor * np.array(intervals.mean(runs["test_score"]))
        if np.isnan(values[0]):
            axes.text(
                0.02,
                place,
                "✕ no run finished",
                transform=axes.get_yaxis_transform(),
                color="0.45",
                va="center",
            )
            continue
        style.dot(axes, place, scene.looks[name], values)
        if name == scene.baseline:
            axes.axvline(values[0], color="0.1", linewidth=1.5, zorder=1)
    if scene.percent:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} %"))
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("better →" if scene.sign > 0 else "← better")
