"""What `dependence` says of pictures, from frames alone."""

from pathlib import Path

import numpy as np
import pandas as pd

from experiments.dependence import looks, nets, pictures, pixels
from experiments.dependence.slices import read
from experiments.dependence.words import Estimate, number, verdict
from experiments.harness.markdown import markdown_table
from layerwise.comparison import Comparison, intervals

COLUMNS = {
    "updates_to_loss": (
        f"updates to training loss {pictures.LOSS:g}",
        intervals.median,
        1,
        "{:.0f}",
    ),
    "test_score": ("test accuracy, %", intervals.mean, 100, "{:.1f}"),
    "score_gap": ("accuracy gap, points", intervals.mean, 100, "{:.1f}"),
    "within_layers": ("weights of a layer, together over apart", intervals.mean, 1, "{:.1f}"),
    "between_layers": ("layers, together over apart", intervals.mean, 1, "{:.2f}"),
}


def rows_of(folder: Path) -> pd.DataFrame:
    """One row a measured run: what `pictures.measured` says of it, and what was looked at with its seed."""
    found = pictures.measured(Comparison.load(folder))
    return found.merge(read(folder, "looks"), on=["form", "net", "seed"], how="left")


def answer(folder: Path) -> tuple[list[str], str] | None:
    """`(in short, in full)` from the frames, the former in sentences; None where there are none."""
    if not (folder / "runs.csv").exists():
        return None
    rows, images = rows_of(folder), read(folder, "pixels").set_index("form")
    cells = dict(list(rows.groupby(["form", "net"], sort=False)))
    forms = [form for form in pixels.FORMS if form in set(rows["form"])]
    ordered = [(form, net) for form in forms for net in nets.NETS if (form, net) in cells]
    shown = [
        [
            *cell,
            f"{cells[cell]['learning_rate'].iloc[0]:g}",
            *(
                number(estimate(factor * cells[cell][name]), form)
                for name, (_, estimate, factor, form) in COLUMNS.items()
            ),
        ]
        for cell in ordered
    ]
    header = ["pixels", "net", "learning rate", *(title for title, *_ in COLUMNS.values())]
    counts = read(folder, "nets").set_index("net")["parameters"]
    pictured = "\n".join(
        f"| {form} | {one['neighbours']:.2f} | {one['condition_number']:.0f} | {100 * one['first_direction']:.0f} % |"
        for form, one in images.iterrows()
    )
    full = (
        "## Pictures\n\n![Nets on images as they are, shuffled, centred and whitened](pictures.png)\n\n"
        f"Nets of equal parameters ({', '.join(f'{net}: {count}' for net, count in counts.items())}) on "
        f"{int(images['images'].iloc[0])} training images, {rows['seed'].nunique()} seeds; plain gradient descent in "
        "batches of 64, the learning rate tuned for each net and form; updates are counted at the ends of epochs. The "
        "forms of the same images: shuffled by one "
        "fixed permutation of the pixels; centred, less the mean image; whitened, centred and decorrelated (ZCA).\n\n"
        "| pixels | correlation of neighbours | condition number of the covariance | mean square in one direction |\n"
        f"| --- | --- | --- | --- |\n{pictured}\n\n{markdown_table(header, shown)}\n\n"
        "Together over apart: the curvature along a step over that along its parts, moved one at a time (1: they do not "
        f"feel each other); seen after {looks.STEPS} steps at rate {looks.RATE:g}, the same for all.\n\n"
        + "\n".join(f"- {sentence}" for sentence in _sentences(rows, forms))
    )
    return _short(rows), full


def _short(rows):
    """What the dependence of pixels costs, whether a convolution's weights are less dependent, and what it changes."""
    said = []
    words = ("fewer updates", "more updates", "no clearly other number of updates")
    centred = ratio(rows, "updates_to_loss", ("centred", "dense"), ("as they are", "dense"))
    whitened = ratio(rows, "updates_to_loss", ("whitened", "dense"), ("centred", "dense"))
    if not np.isnan(centred[0] + whitened[0]):
        points = difference(rows, "test_score", ("whitened", "dense"), ("centred", "dense"))
        said.append(
            "On pictures descent works all the same. Most of what pixels have in common is the mean image: without it "
            f"the dense net needs {verdict(centred, 1.0, *words)} to the same training loss "
            f"({number(centred, '{:.2g}')} times as many); "
            f"decorrelated besides, {verdict(whitened, 1.0, *words)} ({number(whitened, '{:.2g}')} times; updates are "
            "read at the ends of epochs, and less than an epoch does not show), and "
            f"{number(points, '{:+.1f}')} points of test accuracy."
        )
    here = [("as they are", net) for net in ("convolutional", "dense")]
    inside, across = (ratio(rows, name, *here) for name in ("within_layers", "between_layers"))
    depend = ("less", "more", "not clearly more or less")
    said.append(
        f"Is this what convolutions address? On pixels as they are, {verdict(inside, 1.0, *_said('within a layer'))}, "
        f"{verdict(across, 1.0, *_said('between layers'))}. With as many parameters as a dense net (so fewer weights are "
        "not what is tested), weights of a layer depend "
        f"{verdict(inside, 1.0, *depend)} on each other (steps that are best for each alone overshoot together "
        f"{number(inside, '{:.2g}')} times as much), layers "
        f"{verdict(across, 1.0, *depend)} ({number(across, '{:.2g}')} times)."
    )
    local, shuffled, *whitened = (
        ratio(rows, "between_layers", (form, net), (form, "dense"))
        for form, net in (
            ("as they are", "local"),
            ("shuffled", "convolutional"),
            ("whitened", "local"),
            ("whitened", "convolutional"),
        )
    )
    estimates = [local, shuffled, *whitened]
    if not np.isnan([center for center, _, _ in estimates]).any():
        cause = (
            "That layers depend less on each other comes with the connections, neither with shared weights nor with "
            "neighbouring pixels"
            if local[2] < 1 and shuffled[2] < 1
            else "Whether that comes with connections, shared weights or neighbouring pixels cannot be told"
        )
        words = (
            "in a net with the same connections but no shared weights",
            "in the convolutional net on pixels shuffled",
            "in the former on pixels whitened",
            "in the latter on pixels whitened",
        )
        pairs = zip(estimates, words, strict=True)
        found = "; ".join(f"{number(one, '{:.2g}')} times {where}" for one, where in pairs)
        said.append(
            f"{cause}: over the dense net on the same pixels layers depend on each other {found}."
        )
    points = difference(rows, "test_score", *here)
    words = ("is worse than", "is better than", "cannot be told from")
    said.append(
        f"On pixels as they are the convolutional net's test accuracy {verdict(points, 0.0, *words)} the dense net's: "
        f"{number(points, '{:+.1f}')} points (each net's rate was tuned on one seed, which chance may have chosen badly)."
    )
    return said


def _said(where):
    return f"{where} yes", f"{where} no", f"{where} it cannot be told here"


def _sentences(rows, forms):
    """What changes from net to net, and from form to form."""
    for net, other in (("convolutional", "dense"), ("convolutional", "local"), ("local", "dense")):
        found = [
            f"{number(difference(rows, 'test_score', (form, net), (form, other)), '{:+.1f}')} on pixels {form}"
            for form in forms
        ]
        yield f"Test accuracy of the {net} net less that of the {other} one, in points: {'; '.join(found)}."
    for old, new in (
        ("as they are", "shuffled"),
        ("as they are", "centred"),
        ("centred", "whitened"),
    ):
        if {old, new} <= set(forms):
            for net in nets.NETS:
                points = difference(rows, "test_score", (new, net), (old, net))
                yield (
                    f"Pixels {new} in place of {old}, {net} net: {_speed(rows, net, new, old)}, "
                    f"{number(points, '{:+.1f}')} points of test accuracy."
                )
    if "shuffled" in forms:
        yield (
            "A dense net does not know which pixels are neighbours: what shuffling seems to do to it is chance, most of it "
            "of tuning on one seed. Differences of that size between other rows are no evidence either."
        )


def _speed(rows, net, new, old):
    """What happens to the updates to the training loss, which in some runs is never reached."""
    updates = ratio(rows, "updates_to_loss", (new, net), (old, net))
    if updates[0] in (0.0, np.inf):
        return f"the training loss is reached on pixels {new if updates[0] == 0 else old} alone, in most runs"
    if all(
        np.isinf(runs).all() for runs in _paired(rows, "updates_to_loss", (new, net), (old, net))
    ):
        return "the training loss is reached on neither"
    faster = verdict(updates, 1.0, "fewer updates", "more updates", "no clear change in updates")
    return f"{faster} to the training loss ({number(updates, '{:.2g}')} times as many)"


def difference(rows: pd.DataFrame, column: str, cell: tuple, other: tuple) -> Estimate:
    """The mean difference of two cells `(form, net)` over their seeds, in hundredths, with its interval."""
    one, two = _paired(rows, column, cell, other)
    return intervals.mean(100 * (one - two))


def ratio(rows: pd.DataFrame, column: str, cell: tuple, other: tuple) -> Estimate:
    """The median ratio of two cells over their seeds, with its interval; where both missed, 1."""
    one, two = _paired(rows, column, cell, other)
    with np.errstate(invalid="ignore"):
        return intervals.median((one / two).mask(np.isinf(one) & np.isinf(two), 1.0))


def _paired(rows, column, cell, other):
    own = rows.set_index(["form", "net", "seed"])[column].sort_index()
    empty = pd.Series(dtype="float64")
    one, two = (own.loc[c] if c in own.index.droplevel("seed") else empty for c in (cell, other))
    return one.align(two, join="inner")
