"""Figures of a Probe's frame, each a function of the frame alone."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from layerwise.diagnostics.record import COLUMNS


def over_training(
    frame: pd.DataFrame, quantity: str, measures: Sequence[str] | None = None
) -> Figure:
    """Draws the measures of a quantity over the steps of training, a line for each block, a panel for each measure.

    Args:
        frame: A Probe's frame.
        quantity: The quantity.
        measures: Which of its measures; None: all.
    """
    rows = _of(frame, quantity)
    known = list(dict.fromkeys(rows["measure"]))
    names = known if measures is None else list(measures)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"{quantity!r} has the measures {known}, got {names}.")
    figure, axes = _panels(len(names))
    for axis, measure in zip(axes, names, strict=True):
        shown = rows[rows["measure"] == measure]
        blocks = list(dict.fromkeys(shown["block"]))
        sns.lineplot(
            shown, x="step", y="value", hue="block", hue_order=blocks, palette=_palette(blocks),
            marker="o", estimator=None, legend=axis is axes[-1] and len(blocks) > 1, ax=axis,
        )  # fmt: skip
        axis.set(title=measure.replace("_", " "), xlabel="Training step", ylabel="")
    if axes[-1].get_legend() is not None:
        sns.move_legend(axes[-1], "upper left", bbox_to_anchor=(1, 1), title="Block, input first")
    figure.suptitle(f"{quantity.replace('_', ' ').capitalize()} over training")
    return figure


def interaction_matrix(
    frame: pd.DataFrame, step: int | None = None, measure: str = "interaction"
) -> Figure:
    """Draws `pairs` as a heat map: red where two blocks' moves work against each other, blue where they help.

    Args:
        frame: A Probe's frame that holds `pairs`.
        step: The step; None: the last one.
        measure: "interaction" (by forward passes) or "curvature".
    """
    rows = _at(_of(frame, "pairs"), step)
    rows = rows[rows["measure"] == measure]
    names = list(dict.fromkeys([*rows["block"], *rows["other"]]))
    matrix = pd.DataFrame(np.nan, index=names, columns=names)
    for _, row in rows.iterrows():
        matrix.loc[row["block"], row["other"]] = matrix.loc[row["other"], row["block"]] = row[
            "value"
        ]
    figure, (axis,) = _panels(1, width=2.5 + 0.7 * len(names), height=2 + 0.6 * len(names))
    sns.heatmap(matrix, center=0.0, cmap="vlag", square=True, cbar_kws={"label": measure}, ax=axis)
    axis.set_title(f"Two blocks move together: {measure}, step {rows['step'].iloc[0]}")
    return figure


def linearization_fan(frame: pd.DataFrame, step: int | None = None) -> Figure:
    """Draws predicted (dashed) and actual change of the loss over the multiple of the step, for each set of blocks.

    Args:
        frame: A Probe's frame that holds `linearization`.
        step: The step; None: the last one.
    """
    rows = _at(_of(frame, "linearization"), step)
    rows = rows.assign(multiple=rows["other"].astype(float))
    sets = list(dict.fromkeys(rows["block"]))
    figure, (axis,) = _panels(1, width=8.5, height=5.5)
    for measure, dash in (("actual", "-"), ("predicted", "--")):
        sns.lineplot(
            rows[rows["measure"] == measure], x="multiple", y="value", hue="block", hue_order=sets,
            palette=_palette(sets), linestyle=dash, estimator=None, legend=dash == "-", ax=axis,
        )  # fmt: skip
    sns.move_legend(axis, "upper left", bbox_to_anchor=(1, 1), title="What moves")
    axis.axhline(0, color="0.4", linewidth=1)
    axis.set(xlabel="Multiple of the step", ylabel="Change of the loss")
    axis.set_title(f"The straight line (dashed) and the loss, step {rows['step'].iloc[0]}")
    return figure


def loss_plane(
    frame: pd.DataFrame,
    step: int | None = None,
    paths: dict[str, Sequence[tuple[float, float]]] | None = None,
) -> Figure:
    """Draws the loss over multiples of two blocks' moves, with paths of schedules on it.

    Args:
        frame: A Probe's frame that holds `plane`.
        step: The step; None: the last one.
        paths: `{schedule: points (first, second)}`; None: both at once; one after the other with the gradients of before;
            and one after the other, each with a fresh gradient.
    """
    rows = _at(_of(frame, "plane"), step)
    points = rows[rows["measure"] != "fresh"]
    places = points["measure"].str.split(", ", expand=True).astype(float)
    grid = points.assign(first=places[0], second=places[1])
    grid = grid.pivot(index="second", columns="first", values="value")
    if paths is None:
        fresh = rows[rows["measure"] == "fresh"]["value"].item()
        paths = {
            "both at once": [(0, 0), (1, 1)],
            "in turn, old gradient": [(0, 0), (1, 0), (1, 1)],
            "in turn, fresh gradient": [(0, 0), (1, 0), (1, fresh)],
        }
    figure, (axis,) = _panels(1, width=7.5, height=6)
    filled = axis.contourf(grid.columns, grid.index, grid, levels=24, cmap="crest")
    figure.colorbar(filled, ax=axis, label="Loss")
    for (name, path), color in zip(paths.items(), sns.color_palette("bright"), strict=False):
        axis.plot(*np.transpose(path), marker="o", color=color, label=name)
    axis.legend(loc="upper left")
    first, second = rows[["block", "other"]].iloc[0]
    axis.set(
        xlabel=f"Multiple of the move of {first}", ylabel=f"Multiple of the move of {second}",
        title=f"The loss along two blocks' moves, step {rows['step'].iloc[0]}",
    )  # fmt: skip
    return figure


def _of(frame, quantity):
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"A figure takes a Probe's frame; this one lacks the columns {missing}.")
    rows = frame[frame["quantity"] == quantity]
    if rows.empty:
        known = ", ".join(dict.fromkeys(frame["quantity"])) or "nothing"
        raise ValueError(
            f"The frame holds no {quantity!r}, only {known}. Give it to the Probe's quantities."
        )
    return rows


def _at(rows, step):
    step = rows["step"].max() if step is None else step
    found = rows[rows["step"] == step]
    if found.empty:
        raise ValueError(
            f"Nothing was measured at step {step}, only at {sorted(set(rows['step']))}."
        )
    return found


def _panels(count, width=None, height=4.5):
    figure = Figure(figsize=(width or 5 * count + 2, height), layout="constrained")
    return figure, list(np.ravel(figure.subplots(1, count)))


def _palette(names):
    return dict(zip(names, sns.color_palette("viridis", len(names)), strict=True))
