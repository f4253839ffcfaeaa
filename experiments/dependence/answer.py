"""The answer of `dependence`, from frames alone."""

import json
from pathlib import Path

from experiments.dependence import quadratics
from experiments.dependence.picture_answer import of_pictures
from experiments.dependence.slices import read
from experiments.dependence.words import in_words, table
from layerwise.comparison import intervals

QUESTION = (
    "> Each partial derivative holds the other weights constant. If two weights are dependent, increasing both might decrease "
    "the loss even more, and we miss it. Is the gradient still the steepest direction? I am surprised that it works on "
    "pictures, where pixels are extremely dependent. Is this what convolutions address: fewer, less dependent weights?"
)


def answer(folder: Path) -> str:
    """The answer in Markdown, of the parts that the folder holds.

    Args:
        folder: Where the frames are, and `command.json`, which says what measured them.

    Raises:
        FileNotFoundError: The folder holds none.
    """
    parts = [
        part for part in (two_weights(folder), real_weights(folder), of_pictures(folder)) if part
    ]
    if not parts:
        raise FileNotFoundError(
            f"no frames of dependence in {folder}/. Run it first: python -m experiments run dependence"
        )
    short = " ".join(first for first, _ in parts)
    body = "\n\n".join(rest for _, rest in parts)
    command = json.loads((folder / "command.json").read_text())
    return f"{QUESTION}\n\n**In short.** {short}\n\n{body}\n\n{_end(command)}"


def two_weights(folder: Path) -> tuple[str, str] | None:
    """`(in short, in full)` of the quadratics."""
    rows, balls = read(folder, "quadratics"), read(folder, "balls")
    if rows.empty:
        return None
    most = max(quadratics.CORRELATIONS)
    hard, uneven = f"correlation {most:g}", "unequal curvature"
    near, far = (_cosine(balls, hard, radius) for radius in (min(quadratics.RADII), 1.0))
    rounds = rows.groupby(["problem", "preconditioner", "schedule"])["rounds"].median()
    slow, turns = (rounds[hard, "none", schedule] for schedule in ("all at once", "one at a time"))
    short = (
        "Yes: over a short step the gradient is the steepest direction, however much weights depend on each other "
        f"(cosine {near} with the best step, for two weights of correlation {most:g}). What the surprise is about is a long step: to the "
        f"minimum the best direction is another one (cosine {far}). Dependence does not make the gradient wrong, it makes "
        f"its way long: {slow:.0f} rounds of both weights where independent ones need "
        f"{rounds['correlation 0', 'none', 'all at once']:.0f}."
    )
    names = list(dict.fromkeys(rows["problem"]))
    found = table(
        [
            "two weights",
            "condition number",
            "all at once",
            "one at a time",
            "each weight scaled by itself",
            "whitened",
        ],
        [
            [
                name,
                f"{rows.loc[(rows['problem'] == name) & (rows['preconditioner'] == 'none'), 'condition_number'].iloc[0]:.3g}",
                f"{rounds[name, 'none', 'all at once']:.0f}",
                f"{rounds[name, 'none', 'one at a time']:.0f}",
                f"{rounds[name, 'each weight', 'all at once']:.0f}",
                f"{rounds[name, 'whitened', 'all at once']:.0f}",
            ]
            for name in names
        ],
    )
    full = (
        "## Two weights\n\n"
        "![Two weights that depend on each other](two-weights.png)\n\n"
        f"Rounds (one step of each weight) until 1/{1 / quadratics.REACHED:.0f} of the loss is left, at the best constant rate; "
        f"medians over {quadratics.STARTS} starts.\n\n{found}\n\n"
        f"- Moving one weight at a time, each with a fresh gradient, takes {turns:.0f} rounds in place of {slow:.0f} at correlation "
        f"{most:g}: the second weight sees what the first has done. It does not take the dependence away.\n"
        "- A preconditioner that scales each weight by itself, as Adam does, repairs unequal curvature "
        f"({rounds[uneven, 'none', 'all at once']:.0f} rounds become {rounds[uneven, 'each weight', 'all at once']:.0f}) and leaves "
        f"dependence as it is ({slow:.0f} stay {rounds[hard, 'each weight', 'all at once']:.0f}). Whitening repairs both "
        f"({rounds[hard, 'whitened', 'all at once']:.0f} round)."
    )
    return short, full


def real_weights(folder: Path) -> tuple[str, str] | None:
    """`(in short, in full)` of the weights of a trained net."""
    weights, slices, directions = (
        read(folder, name) for name in ("weights", "slices", "directions")
    )
    if weights.empty:
        return None
    forms = list(dict.fromkeys(weights["form"]))

    def of(form, column):
        return intervals.mean(weights.loc[weights["form"] == form, column])

    rows = []
    for form in forms:
        own = slices[slices["form"] == form]
        taken = [
            intervals.median(own.loc[own["schedule"] == s, "rounds"])
            for s in ("all at once", "one at a time")
        ]
        rows.append(
            [
                form,
                in_words(of(form, "median_correlation"), "{:.2f}"),
                in_words(of(form, "high_correlation"), "{:.2f}"),
                in_words(of(form, "times_too_far"), "{:.1f}"),
                *(in_words(rounds, "{:.3g}") for rounds in taken),
            ]
        )
    header = ["pixels", "median correlation of two weights", "of the most dependent tenth, at least", "times too far together",
              "rounds in the slice, all at once", "one at a time"]  # fmt: skip
    at = sorted(set(directions["multiple"]))
    cosines = [
        [
            form,
            *(
                in_words(
                    intervals.mean(
                        directions.loc[
                            (directions["form"] == form) & (directions["multiple"] == m), "cosine"
                        ]
                    ),
                    "{:.2f}",
                )
                for m in at
            ),
        ]
        for form in forms
    ]
    first = forms[0]
    short = (
        f"In a real net the weights do depend on each other: of those into one unit, on pixels {first}, two have a correlation of "
        f"{of(first, 'median_correlation')[0]:.2f} in the median, and if each took the step that is best for it alone, together they would go "
        f"{of(first, 'times_too_far')[0]:.0f} times too far. That is why the learning rate must be smaller than any single weight needs."
    )
    full = (
        "## Two weights of a trained net\n\n"
        "![The loss over two weights of a trained net](slices.png)\n\n"
        f"A dense net after some epochs; the weights into its unit of the largest gradient (up to {int(weights['weights'].max())}), {weights['seed'].nunique()} seeds. "
        "Correlation: H_ij / sqrt(H_ii H_jj) of their Hessian. The slice is that of the two most dependent of them; "
        f"rounds until 1/{1 / 0.01:.0f} of its loss is left.\n\n{table(header, rows)}\n\n"
        "All weights: cosine between the gradient and the best step of a length, in multiples of a step of training.\n\n"
        f"{table(['pixels', *(f'{m:g} steps' for m in at)], cosines)}"
    )
    return short, full


def _cosine(balls, problem, radius):
    own = balls[
        (balls["problem"] == problem)
        & (balls["preconditioner"] == "none")
        & (balls["radius"] == radius)
    ]
    return in_words(intervals.mean(own["cosine"]), "{:.3f}")


def _end(command):
    return (
        "Numbers in brackets are 95 % intervals; ∞: most runs did not get there.\n\n"
        f"**Measured by** `{command}`; drawn and answered again, without training, by `python -m experiments plot dependence`.\n\n"
        "**What this cannot show.** Small nets and small images, plain gradient descent, one batch size; learning rates "
        "differ by factors of three and were tuned on few seeds. Whitening needs the covariance of all pixels, which large images do not allow. "
        "Coupling is seen along the step that training takes, not in all directions."
    )
