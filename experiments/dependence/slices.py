"""Slices: the weights into one unit of a trained net, and the two of them that depend most on each other."""

import functools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.optimize import minimize

import layerwise
from experiments.dependence import descent, nets, pixels
from experiments.dependence.words import number
from experiments.harness.markdown import markdown_table
from layerwise.comparison import frames, intervals
from layerwise.diagnostics import Step, steepest

SEEDS = {"quick": 2, "full": 10}
FORMS = ("as they are", "whitened")
EPOCHS, RATE, EXAMPLES, MOST = 10, 0.1, 256, 64
MULTIPLES = (1.0, 3.0, 10.0, 30.0, 100.0)  # of a step's length
GRID = 21
ROUNDS, REACHED = 150, 0.01  # part of the slice's loss above its minimum that is left


def run(
    folder: Path, data: layerwise.Data, n_classes: int, scale: str, seeds: int | None = None
) -> None:
    """Measures the seeds that are not in the folder yet."""
    found = {name: read(folder, name) for name in ("weights", "slices", "planes", "directions")}
    images = pixels.forms(data, FORMS)
    build = nets.equal(data.train[0].shape[1:], n_classes)["dense"]
    for seed in range(seeds or SEEDS[scale]):
        for form, one in images.items():
            if (
                len(found["weights"])
                and ((found["weights"][["seed", "form"]] == (seed, form)).all(axis=1)).any()
            ):
                continue
            about = {"seed": seed, "form": form, "backend": keras.backend.backend()}
            rows = measure(trained(build, one, seed), with_plane=seed == 0)
            for name, more in rows.items():
                more = pd.DataFrame([about | row | frames.provenance() for row in more])
                found[name] = pd.concat([found[name], more], ignore_index=True)
            frames.write(folder, **{name: rows for name, rows in found.items() if len(rows)})
            print(f"slices: seed {seed}, {form}", flush=True)


def read(folder: Path, name: str) -> pd.DataFrame:
    """A frame of the folder; an empty one where there is none."""
    path = Path(folder) / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else pd.DataFrame()


def trained(build: Callable[[], keras.Model], data: layerwise.Data, seed: int) -> Step:
    """The step of a dense net after `EPOCHS`, on the first `EXAMPLES` of its training images."""
    keras.utils.set_random_seed(seed)
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss=loss)
    x, y = data.train
    model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=0)
    return Step(model, x[:EXAMPLES], y[:EXAMPLES])


def measure(step: Step, with_plane: bool = False) -> dict[str, list[dict]]:
    """Rows of a net: its unit's weights, the slice of two of them, and the best directions of all its weights."""
    places = unit_with_most(step)
    hessian = hessian_of(step, places)
    own = np.diag(hessian)
    counts = own > 0.01 * own.max()
    hessian, places = hessian[np.ix_(counts, counts)], places[counts]
    gradient = step.gradient[0][places]
    correlation = hessian / np.sqrt(np.outer(np.diag(hessian), np.diag(hessian)))
    sizes = np.abs(correlation[np.triu_indices(len(places), 1)])
    weights = {
        "weights": len(places),
        "median_correlation": np.median(sizes),
        "high_correlation": np.quantile(sizes, 0.9),
        "times_too_far": together(hessian, gradient),
    }
    first, second = np.unravel_index(np.argmax(np.abs(np.triu(correlation, 1))), correlation.shape)
    two = Slice(step, places[[first, second]], hessian[np.ix_([first, second], [first, second])])
    directions = steepest(
        step, radii=np.array(MULTIPLES) * np.linalg.norm(np.concatenate(step.displacement))
    )
    directions = directions.assign(multiple=MULTIPLES).to_dict("records")
    slices, ways = two.descents()
    plane = [*ways, *two.plane(ways)] if with_plane else []
    return {"weights": [weights], "slices": slices, "planes": plane, "directions": directions}


def unit_with_most(step: Step) -> np.ndarray:
    """Places, in the first block's vector, of the weights into the unit of its largest gradient; at most `MOST` "
    "of them.
    """
    kernel = step.blocks[0].variables[0]
    inputs, units = kernel.shape
    gradient = step.gradient[0][: inputs * units].reshape(inputs, units)
    unit = int(np.argmax(np.linalg.norm(gradient, axis=0)))
    into = np.argsort(-np.abs(gradient[:, unit]), kind="stable")[:MOST]
    return np.sort(into) * units + unit


def hessian_of(step: Step, places: np.ndarray) -> np.ndarray:
    """The Hessian of some weights of the first block; one Hessian-vector product each."""
    rows = []
    for place in places:
        one = np.zeros_like(step.weights[0])
        one[place] = 1.0
        rows.append(step.hessian_vector([one, *[None] * (len(step.weights) - 1)])[0][places])
    matrix = np.array(rows)
    return (matrix + matrix.T) / 2


def together(hessian: np.ndarray, gradient: np.ndarray) -> float:
    """How many times too far weights go when each takes the step that is best for it alone, -g_i / H_ii.

    Along all these steps u the best multiple is -g'u / u'Hu; its inverse is how many times too long they are together.
    The curvature of each weight alone has to be positive.

    Example: two weights that are one and the same go twice too far, two that are independent go right.

    >>> import numpy as np
    >>> from experiments.dependence.slices import together
    >>> [together(np.array([[2.0, c], [c, 2.0]]), np.array([1.0, 1.0])) for c in (2.0, 0.0)]
    [2.0, 1.0]
    """
    alone = -gradient / np.diag(hessian)
    return float(alone @ hessian @ alone / (-gradient @ alone))


class Slice:
    """The loss as a function of two weights of the first block; all others stay as they are.

    Args:
        step: The step of the net.
        places: Of the two weights in the first block's vector.
        hessian: Of the two.
    """

    def __init__(self, step: Step, places: np.ndarray, hessian: np.ndarray):
        self.step, self.places, self.hessian = step, places, hessian
        self._at = functools.lru_cache(maxsize=8)(self._compute)
        found = minimize(self.loss_and_gradient, np.zeros(2), jac=True, method="BFGS")
        self.minimum, self.least = found.x, found.fun
        # From here, against the direction in which the two depend on each other, the way to the minimum is long.
        weak = np.linalg.eigh(hessian)[1][:, 0]
        steep = np.linalg.eigh(hessian)[1][:, 1]
        self.start = self.minimum + (weak + 0.3 * steep)

    def loss_and_gradient(self, moves: np.ndarray) -> tuple[float, np.ndarray]:
        """At so large moves of the two weights; what was computed once is remembered."""
        return self._at(tuple(moves))

    def _compute(self, moves):
        whole = np.zeros_like(self.step.weights[0])
        whole[self.places] = moves
        loss, gradient = self.step.gradient_at([whole, *[None] * (len(self.step.weights) - 1)])
        return loss, gradient[0][self.places]

    def descents(self) -> tuple[list[dict], list[dict]]:
        """`(rows, ways)`: the rounds that each schedule takes, beside the factor a round that the Hessian foretells, and
        the points of its way.
        """
        rows, ways = [], []
        first, mixed, second = self.hessian[0, 0], self.hessian[0, 1], self.hessian[1, 1]
        for schedule in descent.SCHEDULES:
            rate = descent.best_rate(self.hessian, schedule)
            points, rounds = self._descend(schedule, rate)
            rows.append(
                {
                    "schedule": schedule,
                    "correlation": mixed / np.sqrt(first * second),
                    "rate": rate,
                    "foretold": descent.contraction(self.hessian, rate, schedule),
                    "rounds": rounds,
                }
            )
            for k, (a, b) in enumerate(points):
                ways.append({"what": schedule, "step": k, "first": a, "second": b, "loss": np.nan})
        return rows, ways

    def _descend(self, schedule, rate):
        """`(points, rounds)`: until `REACHED` of the loss is left; infinite where `ROUNDS` are not enough, and NaN where
        the start lies no higher than what the search found as the minimum.
        """

        def gradient(point):
            return self.loss_and_gradient(point)[1]

        points, taken = [self.start], 0
        above = self.loss_and_gradient(self.start)[0] - self.least
        if not above > 0:
            return np.array(points), np.nan
        while self.loss_and_gradient(points[-1])[0] - self.least > REACHED * above:
            if taken == ROUNDS:
                return np.array(points), np.inf
            steps = 1 if schedule == "all at once" else len(self.hessian)
            points.extend(descent.path(gradient, points[-1], rate, schedule, steps)[1:])
            taken += 1
        return np.array(points), float(taken)

    def plane(self, ways: list[dict]) -> list[dict]:
        """The loss over a square that holds the ways."""
        half = 1.3 * max(
            np.abs([way[k] - m for way in ways]).max()
            for k, m in zip(("first", "second"), self.minimum, strict=True)
        )
        across = np.linspace(-half, half, GRID)
        return [
            {
                "what": "loss",
                "step": 0,
                "first": a,
                "second": b,
                "loss": self.loss_and_gradient(np.array([a, b]))[0],
            }
            for a in self.minimum[0] + across
            for b in self.minimum[1] + across
        ]


def answer(folder: Path) -> tuple[list[str], str] | None:
    """`(in short, in full)` from the frames, the former in sentences; None where there are none."""
    weights, directions = (read(folder, name) for name in ("weights", "directions"))
    if weights.empty:
        return None
    forms = list(dict.fromkeys(weights["form"]))
    columns = {
        "median_correlation": "{:.2f}",
        "high_correlation": "{:.2f}",
        "times_too_far": "{:.1f}",
    }
    found = {form: of_form(weights, form, columns) for form in forms}
    rows = [[form, *found[form]] for form in forms]
    header = ["pixels", "correlation of two weights, median", "a tenth has at least", "times too far together"]  # fmt: skip
    lengths = dict(list(directions.groupby("multiple")))
    turned = [
        [form, *(of_form(own, form, {"cosine": "{:.2f}"})[0] for own in lengths.values())]
        for form in forms
    ]
    first, last = forms[0], forms[-1]
    short = [
        f"In a trained net weights do depend on each other: on pixels {first} two weights into the same unit have a "
        f"correlation of {found[first][0]} in the median (without its sign). Where each takes the step that is best for it "
        f"alone, together they go {found[first][2]} times too far ({found[last][2]} on pixels {last}).",
        f"Over all weights of the net the gradient and the best step of the length of a training step (at rate {RATE:g}) "
        f"have a cosine of {_cosine(directions, first, 1)}, of ten times that length {_cosine(directions, first, 10)}.",
    ]
    count, seeds = int(weights["weights"].max()), weights["seed"].nunique()
    full = (
        "## Two weights of a trained net\n\n![The loss over two weights of a trained net](slices.png)\n\n"
        f"A dense net after {EPOCHS} epochs, {seeds} seeds: the weights into its unit of the largest gradient (at "
        f"most {count}; "
        "correlation: H_ij / sqrt(H_ii H_jj) of their Hessian H), and the slice of the loss over the two of them "
        "that depend "
        "most on each other, each way at the rate that the Hessian at the trained weights says is best for it (away from "
        "them the loss is no quadratic, so this is a picture, no race). Times too far: along the steps -g_i / H_ii, "
        "each of which is best for its weight "
        "alone, their length over the one that is best together.\n\n"
        f"{markdown_table(header, rows)}\n\n"
        "Over all weights of the net: cosine between the gradient and the best step of a length, in lengths of a "
        "training "
        "step; the search for the best step begins at the gradient and is cut short, so that of long steps the cosine "
        f"is an upper bound.\n\n{markdown_table(['pixels', *(f'{length:g}' for length in lengths)], turned)}"
    )
    return short, full


def _cosine(directions, form, length):
    return of_form(directions[directions["multiple"] == length], form, {"cosine": "{:.2f}"})[0]


def of_form(rows: pd.DataFrame, form: str, columns: dict[str, str]) -> list[str]:
    """Means with intervals of some columns for one form of the images."""
    own = rows[rows["form"] == form]
    return [number(intervals.mean(own[name]), shown) for name, shown in columns.items()]
