"""The linear theory of a sweep: which learning rates are stable where the loss is a quadratic."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.sparse.linalg import LinearOperator, eigsh

# The blocks that move at once, one group after the other: ((0, 1),) is both at once, ((0,), (1,)) one after the other.
Turns = Sequence[Sequence[int]]
SHUFFLED_SWEEPS = 20


def turns_of(schedule: str, n: int) -> Turns:
    """The turns of one sweep over n blocks; of a shuffled schedule those of twenty sweeps, each in an order of its own.

    Example:
    >>> from experiments.linearity.sweeps import turns_of
    >>> turns_of("simultaneous", 2), turns_of("cyclic", 2), turns_of("reverse", 2)
    (((0, 1),), ((0,), (1,)), ((1,), (0,)))
    """
    if schedule == "simultaneous":
        return (tuple(range(n)),)
    one_each = tuple((k,) for k in range(n))
    if schedule == "shuffled":
        random = np.random.default_rng(0)
        return tuple((int(k),) for _ in range(SHUFFLED_SWEEPS) for k in random.permutation(n))
    return {"cyclic": one_each, "reverse": one_each[::-1]}[schedule]


def steep_directions(
    hessian_vector: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]],
    sizes: Sequence[int],
    count: int = 20,
) -> list[np.ndarray]:
    """The part of a Hessian with its largest eigenvalues, as one factor a block.

    Args:
        hessian_vector: The Hessian times a vector, given and returned as one flat array a block.
        sizes: Entries of each block.
        count: How many eigenvalues; with as many as there are weights, all that are positive.

    Returns:
        One array `(entries of the block, count)` a block. Of all of them, one above the other, `F @ F.T` is the Hessian
        H, and the squared largest singular value of each is the largest eigenvalue of the block's own part of H.
    """
    size, ends = sum(sizes), np.cumsum(sizes)[:-1]

    def times(vector):
        return np.concatenate(hessian_vector(np.split(np.ravel(vector), ends)))

    if count >= size:
        values, vectors = np.linalg.eigh(np.array([times(unit) for unit in np.eye(size)]))
    else:
        start = np.random.default_rng(0).normal(size=size)
        operator = LinearOperator((size, size), matvec=times, dtype="float64")
        values, vectors = eigsh(operator, count, which="LA", v0=start, tol=1e-3)
    return np.split(vectors * np.sqrt(np.maximum(values, 0)), ends)


def spectral_radius(factors: Sequence[np.ndarray], rate: float, turns: Turns) -> float:
    """The largest size of an eigenvalue of one sweep of gradient descent on the quadratic with Hessian `F @ F.T`.

    A sweep multiplies the distance to the minimum by `prod_k (I - rate P_k H)`, where `P_k` keeps the blocks that move.
    But for ones its eigenvalues are those of the small matrix `prod_k (I - rate F_k.T @ F_k)`. Above 1 the descent
    diverges, below it converges. With all blocks at once that is the rule "rate times largest eigenvalue below 2".

    Example: the loss (x + y)^2 / 2 at rate 1.5. At once, the sum becomes 1 - 2 * 1.5 = -2 times itself; one after the
    other, each step makes it -0.5 times itself.

    >>> import numpy as np
    >>> from experiments.linearity.sweeps import spectral_radius
    >>> factors = [np.ones((1, 1)), np.ones((1, 1))]
    >>> [round(spectral_radius(factors, 1.5, turns), 9) for turns in ([(0, 1)], [(0,), (1,)])]
    [2.0, 0.25]
    """
    own = [factor.T @ factor for factor in factors]
    sweep = np.eye(len(own[0]))
    for blocks in turns:
        sweep = sweep - rate * sum(own[k] for k in blocks) @ sweep
    return float(np.abs(np.linalg.eigvals(sweep)).max())


def largest_stable_rate(factors: Sequence[np.ndarray], turns: Turns) -> float:
    """The learning rate at which a sweep on the quadratic begins to diverge: up to there the spectral radius is below 1.

    No rate below 2 / (the largest eigenvalue of any block's own part of H) diverges (Householder-John theorem, as in
    Hackbusch, Iterative solution of large sparse systems, 2016, section 3.5). That is enough, but not needed: where
    blocks are coupled a sweep may bear much more. From there rates are tried that each are 2 % larger.

    Example: the loss (x + y)^2 / 2 has the eigenvalue 2, and 1 in each block.

    >>> import numpy as np
    >>> from experiments.linearity.sweeps import largest_stable_rate
    >>> factors = [np.ones((1, 1)), np.ones((1, 1))]
    >>> [round(largest_stable_rate(factors, turns), 6) for turns in ([(0, 1)], [(0,), (1,)])]
    [1.0, 2.0]
    """
    together = len(turns) == 1
    parts = [np.concatenate(factors)] if together else factors
    safe = 2 / max(np.linalg.norm(part, 2) ** 2 for part in parts)
    if together:
        return float(safe)

    def excess(rate):
        return spectral_radius(factors, rate, turns) - 1 - 1e-9

    rate = 0.999 * safe
    while excess(1.02 * rate) < 0:
        rate *= 1.02
    return float(brentq(excess, rate, 1.02 * rate, rtol=1e-6))
