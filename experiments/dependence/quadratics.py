"""Quadratics: two weights whose dependence is known, with and without a preconditioner."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from experiments.dependence import descent
from experiments.dependence.words import number
from experiments.harness.markdown import markdown_table
from layerwise.comparison import frames, intervals

CORRELATIONS = (0.0, 0.5, 0.9, 0.99)
RADII = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # of the distance to the minimum
STARTS = 20
REACHED = 1e-4  # part of the loss that is left
MOMENTUM = "all at once, momentum"
DRAWN, START = 0.9, (-1.0, 0.55)


def problems() -> dict[str, np.ndarray]:
    """`{name: Hessian}`: two weights of equal curvature and growing correlation, and two that are independent, with the
    condition number of the most correlated ones.

    Example:
    >>> from experiments.dependence.quadratics import problems
    >>> problems()["correlation 0.9"].tolist()
    [[1.0, 0.9], [0.9, 1.0]]
    """
    found = {f"correlation {c:g}": np.array([[1.0, c], [c, 1.0]]) for c in CORRELATIONS}
    most = max(CORRELATIONS)
    return found | {"unequal curvature": np.diag([1.0, (1 - most) / (1 + most)])}


def preconditioned(hessian: np.ndarray) -> dict[str, np.ndarray]:
    """`{preconditioner: Hessian}` in the weights that it descends in.

    "each weight": by the root of its own curvature, which is what Adam and its like can do. "whitened": by the root of the
    inverse Hessian; for a linear layer that is the same as whitening its inputs.
    """
    own = np.diag(np.diag(hessian) ** -0.5)
    return {"none": hessian, "each weight": own @ hessian @ own, "whitened": np.eye(len(hessian))}


def starts(hessian: np.ndarray, count: int = STARTS) -> np.ndarray:
    """Random points of equal loss, each then brought to distance 1 from the minimum, of shape (count, 2)."""
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, count)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    level = np.linalg.solve(np.linalg.cholesky(hessian).T, circle.T).T
    return level / np.linalg.norm(level, axis=1, keepdims=True)


def run(folder: Path) -> None:
    """Measures all problems; takes seconds."""
    rounds, balls, ways = [], [], []
    for problem, plain in problems().items():
        for preconditioner, hessian in preconditioned(plain).items():
            about = {
                "problem": problem,
                "preconditioner": preconditioner,
                "condition_number": np.linalg.cond(hessian),
            }
            rates = {name: descent.best_rate(hessian, name) for name in descent.SCHEDULES}
            for start, point in enumerate(starts(hessian)):
                named = about | {"start": start}
                rounds += [named | row for row in _rounds(hessian, point, rates)]
                for radius in RADII:
                    cosine, gain = descent.best_in_ball(hessian, point, radius)
                    balls.append(named | {"radius": radius, "cosine": cosine, "gain": gain})
            if problem == f"correlation {DRAWN:g}":
                ways += [about | row for row in _ways(hessian, rates)]
    backend = keras.backend.backend()
    tables = {"quadratics": rounds, "balls": balls, "ways": ways}
    # Plain NumPy, on any backend.
    frames.write(
        folder,
        **{
            name: pd.DataFrame(rows).assign(backend=backend, **frames.provenance())
            for name, rows in tables.items()
        },
    )


def _rounds(hessian, start, rates, most=2000):
    """How many rounds, steps of every weight, each schedule takes until `REACHED` of the loss is left."""
    aim = REACHED * (start @ hessian @ start)
    for schedule, rate in rates.items():
        factor = descent.contraction(hessian, rate, schedule)
        per_round = 1 if schedule == "all at once" else len(hessian)
        point, taken = start, 0
        while point @ hessian @ point > aim and taken < most:
            point = descent.path(lambda w: hessian @ w, point, rate, schedule, per_round)[-1]
            taken += 1
        yield {"schedule": schedule, "rate": rate, "contraction": factor, "rounds": taken}
    way = descent.heavy_ball(hessian, start, most)
    above = np.einsum("ni,ij,nj->n", way, hessian, way) > aim
    yield {"schedule": MOMENTUM, "rounds": most if above.all() else int(np.argmin(above))}


def _ways(hessian, rates, rounds=12):
    """The way of each schedule from one start."""
    for schedule, rate in rates.items():
        steps = rounds if schedule == "all at once" else rounds * len(hessian)
        points = descent.path(lambda w: hessian @ w, np.array(START), rate, schedule, steps)
        for step, (first, second) in enumerate(points):
            yield {"schedule": schedule, "step": step, "first": first, "second": second}


def answer(folder: Path) -> tuple[list[str], str] | None:
    """`(in short, in full)` from the frames, the former in sentences; None where there are none."""
    rows, balls = frames_of(folder)
    if rows.empty:
        return None
    most = max(CORRELATIONS)
    hard, uneven = f"correlation {most:g}", "unequal curvature"
    plain = balls[(balls["problem"] == hard) & (balls["preconditioner"] == "none")]
    near, far = (
        number(intervals.median(plain.loc[plain["radius"] == radius, "cosine"]), "{:.3f}")
        for radius in (min(RADII), max(RADII))
    )
    rounds = rows.groupby(["problem", "preconditioner", "schedule"])["rounds"].median()
    ways = (*descent.SCHEDULES, MOMENTUM)
    slow, turns, heavy = (rounds[hard, "none", way] for way in ways)
    independent = rounds["correlation 0", "none", "all at once"]
    own = (rows["problem"] == hard) & (rows["preconditioner"] == "none")
    longer = rows.loc[own & (rows["schedule"] == "one at a time"), "rate"].iloc[0]  # curvature 1
    short = [
        "Over a short step the gradient is the steepest direction, however much weights depend on each other. "
        f"(Two weights of correlation {most:g}: cosine {near} with the best step.)",
        "You are right about a long step: all the way to the minimum the best direction is another one "
        f"(cosine {far}).",
        "So dependence does not make the gradient wrong. It makes the curvature unequal, and that makes the way long: "
        f"{slow:.0f} rounds for these two weights, {rounds[uneven, 'none', 'all at once']:.0f} for independent ones of "
        f"unequal curvature, {independent:.0f} for independent ones of equal curvature.",
        f"Two dependent weights that take turns, by steps {longer:.2f} times as long as is best for each alone, need "
        f"{turns:.0f} rounds, which are {2 * turns:.0f} gradients; with momentum, both at once, "
        f"{heavy:.0f} rounds and as many gradients. With unequal "
        f"curvature turns do not help ({rounds[uneven, 'none', 'one at a time']:.0f} rounds).",
    ]
    cells = [
        [
            problem,
            f"{own.loc[own['preconditioner'] == 'none', 'condition_number'].iloc[0]:.3g}",
            *(f"{rounds[problem, 'none', way]:.0f}" for way in ways),
            *(
                f"{rounds[problem, name, 'all at once']:.0f}"
                for name in ("each weight", "whitened")
            ),
        ]
        for problem, own in rows.groupby("problem", sort=False)
    ]
    header = [
        "two weights",
        "condition number",
        *ways,
        "each weight scaled",
        "whitened",
    ]
    scaled = {name: rounds[name, "each weight", "all at once"] for name in (hard, uneven)}
    full = (
        "## Two weights\n\n![Two weights that depend on each other](two-weights.png)\n\n"
        f"Rounds, a step of each weight, until 1/{1 / REACHED:.0f} of the loss is left, each way at the constant rate "
        "(and momentum) that is best for it; the last two columns are all at once with a preconditioner. Medians "
        f"over {STARTS} starts.\n\n{markdown_table(header, cells)}\n\n"
        f"- One weight at a time, each with a fresh gradient, takes {turns:.0f} rounds in place of {slow:.0f} at "
        f"correlation {most:g}: the second weight sees what the first has done, and most of the gain is that each then "
        f"bears {longer:.2f} times the step that is best for it alone (over-relaxation). A round of turns takes a "
        "gradient for each weight, and a deep net's "
        "blocks are not two weights of a quadratic: what turns cost there is what `convergence` measures.\n"
        "- A preconditioner that scales each weight by its own curvature repairs unequal curvature "
        f"({rounds[uneven, 'none', 'all at once']:.0f} rounds become {scaled[uneven]:.0f}) and leaves dependence "
        "as it is "
        f"({slow:.0f} become {scaled[hard]:.0f}). Whitening repairs both "
        f"({rounds[hard, 'whitened', 'all at once']:.0f}): "
        "only there is the gradient the best direction for any length of step."
    )
    return short, full


def frames_of(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`(rounds, balls)`; empty ones where nothing was measured."""
    paths = [Path(folder) / f"{name}.csv" for name in ("quadratics", "balls")]
    rows, balls = (pd.read_csv(path) if path.exists() else pd.DataFrame() for path in paths)
    return rows, balls
