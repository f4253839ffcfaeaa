"""Descent on a few weights, all at once or one at a time, and what theory says of it on a quadratic."""

from collections.abc import Callable

import numpy as np
import scipy.optimize

SCHEDULES = ("all at once", "one at a time")


def path(
    gradient: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    rate: float,
    schedule: str,
    steps: int,
) -> np.ndarray:
    """The weights before the first and after each step, of shape (steps + 1, weights).

    A step "all at once" is plain gradient descent. "One at a time": the weights in turn, each by its own partial
    derivative, taken where those before it have gone. On one batch that is the way of `BlockCoordinate()`, and of
    `sweep_each_batch=True`, which takes as many of these steps as there are weights on every batch.

    Example: on w v with w = v = 1, a step of w at rate 0.5 and then one of v, which sees the new w.

    >>> import numpy as np
    >>> from experiments.dependence.descent import path
    >>> path(lambda p: p[::-1], np.array([1.0, 1.0]), 0.5, "one at a time", 2).tolist()
    [[1.0, 1.0], [0.5, 1.0], [0.5, 0.75]]
    """
    points = [np.asarray(start, "float64")]
    for step in range(steps):
        moves = -rate * gradient(points[-1])
        if schedule == "one at a time":
            moves[np.arange(len(moves)) != step % len(moves)] = 0.0
        points.append(points[-1] + moves)
    return np.array(points)


def best_rate(hessian: np.ndarray) -> float:
    """The rate at which descent all at once is fastest on a quadratic: 2 / (smallest + largest eigenvalue).

    Source: Nesterov, Introductory lectures on convex optimization (2004), theorem 2.1.15.
    """
    values = np.linalg.eigvalsh(hessian)
    return float(2 / (values[0] + values[-1]))


def contraction(hessian: np.ndarray, rate: float, schedule: str) -> float:
    """By what factor a round, one step of every weight, shrinks the distance to a quadratic's minimum in the long run.

    The spectral radius of I - rate H all at once, and of the product of I - rate P_k H one at a time, where P_k keeps the
    weight k. A weight that moves alone feels its own curvature only.

    Example: two weights of curvature 1 and correlation r, at rate 1: r all at once, and r^2 one at a time.

    >>> import numpy as np
    >>> from experiments.dependence.descent import contraction
    >>> hessian = np.array([[1.0, 0.9], [0.9, 1.0]])
    >>> [round(contraction(hessian, 1.0, schedule), 6) for schedule in ("all at once", "one at a time")]
    [0.9, 0.81]
    """
    one = np.eye(len(hessian))
    if schedule == "all at once":
        return float(np.abs(np.linalg.eigvals(one - rate * hessian)).max())
    around = one
    for k in range(len(hessian)):
        around = (one - rate * np.outer(one[k], hessian[k])) @ around
    return float(np.abs(np.linalg.eigvals(around)).max())


def best_in_ball(hessian: np.ndarray, start: np.ndarray, radius: float) -> tuple[float, float]:
    """`(cosine, gain)` of the best displacement of at most `radius` on the quadratic w' H w / 2, as `diagnostics.steepest`
    defines them, exactly: the displacement is -(H + m I)^(-1) g with m so large that it ends on the sphere.

    Source: Nocedal and Wright, Numerical Optimization (2006), theorem 4.1.

    Example: with equal curvatures the gradient is the best direction at any length.

    >>> import numpy as np
    >>> from experiments.dependence.descent import best_in_ball
    >>> tuple(round(v, 9) for v in best_in_ball(np.eye(2), np.array([3.0, 4.0]), 1.0))
    (1.0, 1.0)
    """
    gradient, one = hessian @ start, np.eye(len(hessian))

    def displacement(m):
        return -np.linalg.solve(hessian + m * one, gradient)

    best, length = displacement(0.0), np.linalg.norm(gradient)
    if np.linalg.norm(best) > radius:
        m = scipy.optimize.brentq(
            lambda m: np.linalg.norm(displacement(m)) - radius, 0.0, length / radius, xtol=1e-15
        )
        best = displacement(m)

    def change(d):
        return gradient @ d + d @ hessian @ d / 2

    cosine = float(-gradient @ best / (length * np.linalg.norm(best)))
    return min(1.0, cosine), float(change(best) / change(-radius / length * gradient))
