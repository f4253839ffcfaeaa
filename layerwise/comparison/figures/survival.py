"""Survival: how many runs have not reached the target yet, as cost goes on; and the mean cost up to a common limit."""
# ruff: noqa: RUF001 (a multiplication sign is meant)

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from layerwise.comparison.figures import style
from layerwise.comparison.figures.scene import Scene
from layerwise.comparison.statistics import horizon, survival


def figure(scene: Scene) -> Figure | None:
    """The share of runs still short of the target against FLOPs, and restricted mean costs over the baseline's."""
    shares = survival(scene.runs, "flops")
    if not scene.targets or not (shares["cost"] > 0).any():
        return None
    names, panels = scene.schedules, scene.panels()
    drawn, axes = style.subplots(
        1, len(panels) + 1, figsize=(7 + 4.6 * len(panels) ** 0.8, 4 + 0.3 * len(names))
    )
    limit = horizon(scene.runs, "flops")
    style.heading(
        drawn,
        f"How many runs are still short of {scene.goal}?",
        f"{scene}, {scene.tuned_for_cost}, {scene.n_seeds} seeds. Dotted: the least that a run spent in all, up to where "
        "every run is known. Right: the mean FLOPs to the target over the baseline's, those of a run that had not reached "
        "it by then counted up to there; bars: 95 % intervals.",
    )
    for axis, (family, shown) in zip(axes, panels.items(), strict=False):
        _shares(axis, scene, shares, shown, limit)
        axis.set_title(family or "Still short of the target")
    for axis in axes[1:-1]:
        axis.tick_params(labelleft=False)
    axes[0].set_ylabel("share of runs")
    _restricted(axes[-1], scene, names)
    style.legend(drawn, scene, names)
    return drawn


def _shares(axes, scene, shares, names, limit):
    costs = shares["cost"][shares["cost"] > 0]
    start, end = 0.8 * costs.min(), 1.05 * max(limit, costs.max())
    for name in sorted(names, key=lambda name: name == scene.baseline):
        own, look = shares[shares["schedule"] == name], scene.looks[name]
        axes.step(
            [start, *own["cost"].iloc[1:], end],
            [*own["share"], own["share"].iloc[-1]],
            where="post",
            color=look.color,
            linestyle=(0, look.dashes) if look.dashes else "-",
            linewidth=2.2,
        )
    axes.axvline(limit, color="0.4", linewidth=1.2, linestyle=":")
    style.log_axis(axes, start, end)
    axes.set(xlabel="FLOPs", ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1))


def _restricted(axes, scene, names):
    costs = scene.relative_costs
    costs = costs[costs["clock"] == "flops"].set_index("schedule")
    columns = ["restricted", "restricted_low", "restricted_high"]
    for place, name in enumerate(names):
        style.dot(axes, place, scene.looks[name], costs.loc[name, columns].astype("float64"))
    axes.axvline(1, color="0.1", linewidth=1.5, zorder=1)
    axes.set_title("Mean FLOPs up to the dotted line")
    axes.set_xlabel("← cheaper   (1×)   costlier →")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.locator_params(axis="x", nbins=6)
    style.rows([axes], scene, names)
