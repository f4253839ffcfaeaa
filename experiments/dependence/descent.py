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


def best_rate(hessian: np.ndarray, schedule: str = "all at once") -> float:
    """The constant rate at which a schedule is fastest on a quadratic in the long run.

    All at once it is 2 / (smallest + largest eigenvalue). One at a time it is found by search: a turn is a step of
    successive over-relaxation (SOR), whose factor is the rate times the weight's own curvature.

    Source: Nesterov, Introductory lectures on convex optimization (2004), theorem 2.1.15; Young, Iterative solution of
    large linear systems (1971), chapter 6: for two weights of curvature 1 and correlation r, 2 / (1 + sqrt(1 - r^2)).

    Example:
    >>> import numpy as np
    >>> from experiments.dependence.descent import best_rate
    >>> hessian = np.array([[1.0, 0.6], [0.6, 1.0]])
    >>> [round(best_rate(hessian, schedule), 4) for schedule in ("all at once", "one at a time")]
    [1.0, 1.1111]
    """
    values = np.linalg.eigvalsh(hessian)
    if schedule == "all at once":
        return float(2 / (values[0] + values[-1]))
    # Beyond 2 / curvature a weight diverges by itself.
    rates = np.linspace(0, 2 / np.diag(hessian).max(), 2001)[1:-1]
    factors = [contraction(hessian, rate, schedule) for rate in rates]
    k = int(np.argmin(factors))
    found = scipy.optimize.minimize_scalar(
        lambda rate: contraction(hessian, rate, schedule),
        bounds=(rates[max(k - 1, 0)], rates[min(k + 1, len(rates) - 1)]),
        method="bounded",
        options={"xatol": 1e-12},
    )
    return float(found.x if found.fun < factors[k] else rates[k])


def heavy_ball(hessian: np.ndarray, start: np.ndarray, steps: int) -> np.ndarray:
    """The way of descent all at once with momentum, rate and momentum being those that are best on the quadratic.

    Source: Polyak, Some methods of speeding up the convergence of iteration methods (1964): with the roots a and b of the
    smallest and the largest eigenvalue the rate is 4 / (a + b)^2 and the momentum ((b - a) / (b + a))^2.

    Example: with equal curvatures one step is enough.

    >>> import numpy as np
    >>> from experiments.dependence.descent import heavy_ball
    >>> heavy_ball(np.eye(2), np.array([3.0, 4.0]), 1).tolist()
    [[3.0, 4.0], [0.0, 0.0]]
    """
    low, high = np.sqrt(np.linalg.eigvalsh(hessian)[[0, -1]])
    rate, momentum = 4 / (low + high) ** 2, ((high - low) / (high + low)) ** 2
    points, velocity = [np.asarray(start, "float64")], np.zeros(len(start))
    for _ in range(steps):
        velocity = momentum * velocity - rate * (hessian @ points[-1])
        points.append(points[-1] + velocity)
    return np.array(points)


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
