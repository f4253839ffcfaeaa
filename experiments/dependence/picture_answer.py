"""What `dependence` says of pictures, from frames alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.dependence import nets, pictures, pixels
from experiments.dependence.slices import read
from experiments.dependence.words import in_words, table
from layerwise.comparison import Comparison, intervals


def of_pictures(folder: Path) -> tuple[str, str] | None:
    """`(in short, in full)` of the nets on images."""
    if not (folder / "runs.csv").exists():
        return None
    rows, images, sizes = (
        picture_rows(folder),
        read(folder, "pixels").set_index("form"),
        read(folder, "nets"),
    )
    counts = sizes.set_index("net")["parameters"]
    cells = [(net, form) for form in pixels.FORMS for net in nets.NETS]
    cells = [cell for cell in cells if len(_cell(rows, cell))]
    cells_shown = table(
        ["pixels", "net", "learning rate", "updates to training loss 0.1", "test accuracy, %", "accuracy gap, points",
         "weights together, times too far", "layers together, times too far"],
        [
            [
                form, net, f"{_cell(rows, (net, form))['learning_rate'].iloc[0]:g}",
                in_words(intervals.median(_cell(rows, (net, form))["updates_to_loss"]), "{:.0f}"),
                in_words(intervals.mean(100 * _cell(rows, (net, form))["test_score"]), "{:.1f}"),
                in_words(intervals.mean(100 * _cell(rows, (net, form))["score_gap"]), "{:.1f}"),
                in_words(intervals.mean(_cell(rows, (net, form))["all_weights"]), "{:.1f}"),
                in_words(intervals.mean(_cell(rows, (net, form))["between_layers"]), "{:.2f}"),
            ]
            for net, form in cells
        ],
    )  # fmt: skip
    short = (
        f"{_accuracy(rows, 'convolutional', 'dense')} {_coupled(rows, 'convolutional', 'dense')}"
    )
    lines = [
        f"- {sentence}"
        for sentence in (
            _accuracy(rows, "convolutional", "local"),
            _same_net(rows, "convolutional", "as they are", "shuffled"),
            _same_net(rows, "dense", "as they are", "shuffled"),
            _same_net(rows, "dense", "centred", "whitened"),
            _same_net(rows, "convolutional", "centred", "whitened"),
        )
        if sentence
    ]
    dependent = "; ".join(
        f"{form}: neighbours {one['neighbours']:.2f}, condition number {one['condition_number']:.0f}, "
        f"{100 * one['first_direction']:.0f} %"
        for form, one in images.iterrows()
    )
    shown = ", ".join(f"{net} {counts[net]}" for net in counts.index)
    full = (
        "## Pictures\n\n"
        "![Nets on images as they are, shuffled, centred and whitened](pictures.png)\n\n"
        f"Three nets of equal parameters ({shown}) on {int(images['images'].iloc[0])} training images, plain gradient descent, "
        "batches of 64, the learning rate tuned in each cell. Shuffled: one fixed permutation of the pixels. Centred: less the "
        "mean image. Whitened: decorrelated (ZCA), as large as the centred ones. How dependent the pixels are (mean size of the correlation of neighbours; "
        f"condition number of the covariance; part of the mean square in one direction): {dependent}.\n\n{cells_shown}\n\n"
        "Times too far: the curvature along the step over that of its parts moved one at a time (1: they do not feel each "
        f"other), at update {pictures.STEPS[0]}.\n\n" + "\n".join(lines)
    )
    return short, full


def picture_rows(folder: Path) -> pd.DataFrame:
    """One row a measured run, with what the Probe saw of it."""
    comparison = Comparison.load(folder)
    rows = pictures.measured(comparison)
    seen = pictures.steps_seen(comparison)
    seen = seen.pivottable(
        index="run_id", columns="measure", values="value", aggfunc="last"
    ).reset_index()
    return rows.merge(seen, on="run_id", how="left")


def _accuracy(rows, net, other):
    """How the test accuracies of two nets differ on each form."""
    found = [
        f"{_difference(rows, 'test_score', (net, form), (other, form), 100)} on pixels {form}"
        for form in pixels.FORMS
        if len(_cell(rows, (net, form))) and len(_cell(rows, (other, form)))
    ]
    return f"Test accuracy of the {net} net less that of the {other} one, in points: {'; '.join(found)}."


def _coupled(rows, net, other, form="as they are"):
    """Whether the weights of one net depend less on each other than another's."""
    low, middle, high = (np.nan,) * 3
    middle, low, high = intervals.median(
        _pairs(rows, "all_weights", (net, form), (other, form)).agg(
            lambda p: p.iloc[0] / p.iloc[1], axis=1
        )
    )
    verdict = "less" if high < 1 else "more" if low > 1 else "neither clearly more nor clearly less"
    return (
        f"The weights of the convolutional net depend {verdict} on each other than those of a dense net of as many parameters "
        f"(pixels {form}: {middle:.2g} [{low:.2g}, {high:.2g}] times as far too far together)."
    )


def _same_net(rows, net, form, other):
    """What a change of the pixels does to one net."""
    if not (len(_cell(rows, (net, form))) and len(_cell(rows, (net, other)))):
        return ""
    pairs = _pairs(rows, "updates_to_loss", (net, other), (net, form))
    with np.errstate(invalid="ignore"):
        times = intervals.median((pairs.iloc[:, 0] / pairs.iloc[:, 1]).fillna(1.0))
    return (
        f"The {net} net on pixels {other} in place of {form}: {in_words(times, '{:.2g}')} times the updates to the training loss, "
        f"{_difference(rows, 'test_score', (net, other), (net, form), 100)} points of test accuracy."
    )


def _difference(rows, column, cell, other, factor=1.0):
    pairs = _pairs(rows, column, cell, other)
    return in_words(intervals.mean(factor * (pairs.iloc[:, 0] - pairs.iloc[:, 1])), "{:+.1f}")


def _pairs(rows, column, cell, other):
    """The values of two cells side by side, of the same seeds."""
    one, two = (_cell(rows, c).set_index("seed")[column] for c in (cell, other))
    return pd.concat([one, two], axis=1, join="inner")


def _cell(rows, cell):
    return rows[(rows["net"] == cell[0]) & (rows["form"] == cell[1])]
