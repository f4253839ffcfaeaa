"""Generalization: train and test loss and accuracy, and the gaps, at the end of training."""

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from layerwise.comparison.figures import style
from layerwise.comparison.statistics import estimate

PANELS = {
    "train_loss": ("Train loss", "← better"),
    "test_loss": ("Test loss", "← better"),
    "generalization_gap": ("Test - train loss", "← better"),
    "train_accuracy": ("Train accuracy", "better →"),
    "test_accuracy": ("Test accuracy", "better →"),
    "accuracy_gap": ("Train - test accuracy", "← better"),
}

LOSSES = ("train_loss", "test_loss", "generalization_gap")


def figure(scene: style.Scene) -> Figure | None:
    """Every measured run that finished, with interquartile means and intervals."""
    finished = scene.measured[scene.measured["status"] == "finished"]
    if finished.empty:
        return None
    names = scene.schedules
    drawn, axes = style.subplots(1, len(PANELS), figsize=(21, 2.6 + 0.42 * len(names)), sharey=True)
    style.heading(
        drawn,
        "How well does what was learned generalize?",
        f"{scene}, at the end of training. Small dots: runs; large: interquartile mean over seeds; "
        "bars: 95 % intervals. "
        f"Line: {scene.baseline}.",
    )
    for axis, (column, (title, direction)) in zip(axes, PANELS.items(), strict=True):
        percent = "accuracy" in column
        factor = 100 if percent else 1
        style.runs(
            axis, scene, finished.assign(**{column: factor * finished[column]}), column, names
        )
        for place, name in enumerate(names):
            values = factor * finished.loc[finished["schedule"] == name, column].to_numpy("float64")
            look = scene.looks[name]
            if not len(values):
                axis.text(
                    0.03,
                    place,
                    "✕ no run finished",
                    transform=axis.get_yaxis_transform(),
                    color="0.45",
                    va="center",
                )
                continue
            style.dot(axis, place, look, estimate(values))
            if name == scene.baseline:
                axis.axvline(estimate(values)[0], color="0.1", linewidth=1.2, zorder=1)
        positive = finished[column][finished[column] > 0]
        if column in LOSSES and len(positive) == len(finished) and _range(positive) > 20:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(numticks=4))
            axis.xaxis.set_minor_formatter(NullFormatter())
        else:
            axis.locator_params(axis="x", nbins=4)
        axis.set_title(title)
        axis.set_xlabel(f"percent   {direction}" if percent else direction)
    style.rows(axes, scene, names)
    return drawn


def _range(values):
    return values.max() / values.min()
