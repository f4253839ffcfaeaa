"""Slices: the weights into one unit of a trained net, and the two of them that depend most on each other."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.optimize import minimize

import layerwise
from experiments.dependence import descent, nets, pixels
from layerwise.comparison import frames
from layerwise.diagnostics import Step, steepest

SEEDS = {"quick": 2, "full": 10}
FORMS = ("as they are", "whitened")
EPOCHS, RATE, EXAMPLES, MOST = 10, 0.1, 256, 64
MULTIPLES = (1.0, 3.0, 10.0, 30.0, 100.0)  # of a step's length
GRID = 25
ROUNDS, REACHED = 60, 0.01  # part of the slice's loss above its minimum that is left


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


def trained(build, data: layerwise.Data, seed: int) -> Step:
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
    correlation = hessian / np.sqrt(np.outer(np.diag(hessian), np.diag(hessian)))
    sizes = np.abs(correlation[np.triu_indices(len(places), 1)])
    weights = {
        "weights": len(places),
        "median_correlation": np.median(sizes),
        "high_correlation": np.quantile(sizes, 0.9),
        "times_too_far": hessian.sum() / np.trace(hessian),
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
    """Places, in the first block's vector, of the weights into the unit of its largest gradient; at most `MOST` of them."""
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


class Slice:
    """The loss as a function of two weights of the first block; all others stay as they are.

    Args:
        step: The step of the net.
        places: Of the two weights in the first block's vector.
        hessian: Of the two.
    """

    def __init__(self, step: Step, places: np.ndarray, hessian: np.ndarray):
        self.step, self.places, self.hessian = step, places, hessian
        found = minimize(self.loss_and_gradient, np.zeros(2), jac=True, method="BFGS")
        self.minimum, self.least = found.x, found.fun
        # From here, against the direction in which the two depend on each other, the way to the minimum is long.
        weak = np.linalg.eigh(hessian)[1][:, 0]
        steep = np.linalg.eigh(hessian)[1][:, 1]
        self.start = self.minimum + (weak + 0.3 * steep)

    def loss_and_gradient(self, moves: np.ndarray) -> tuple[float, np.ndarray]:
        """At so large moves of the two weights."""
        whole = np.zeros_like(self.step.weights[0])
        whole[self.places] = moves
        loss, gradient = self.step.gradient_at([whole, *[None] * (len(self.step.weights) - 1)])
        return loss, gradient[0][self.places]

    def descents(self) -> tuple[list[dict], list[dict]]:
        """`(rows, ways)`: how many rounds each schedule takes, beside what the two weights' Hessian foretells; its points."""
        rows, ways = [], []
        rate = 1 / float(np.max(np.diag(self.hessian)))
        above = self.loss_and_gradient(self.start)[0] - self.least
        for schedule in descent.SCHEDULES:
            per_round = 1 if schedule == "all at once" else 2
            points = descent.path(
                lambda p: self.loss_and_gradient(p)[1],
                self.start,
                rate,
                schedule,
                ROUNDS * per_round,
            )
            rounds = points[::per_round]
            left = np.array([self.loss_and_gradient(p)[0] - self.least for p in rounds]) / above
            there = np.flatnonzero(left <= REACHED)
            rows.append(
                {
                    "schedule": schedule,
                    "correlation": self.hessian[0, 1]
                    / np.sqrt(self.hessian[0, 0] * self.hessian[1, 1]),
                    "foretold": descent.contraction(self.hessian, rate, schedule),
                    "rounds": float(there[0]) if len(there) else np.inf,
                }
            )
            ways += [
                {"what": schedule, "step": k, "first": a, "second": b, "loss": np.nan}
                for k, (a, b) in enumerate(points)
            ]
        return rows, ways

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
