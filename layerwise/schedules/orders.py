"""Orders: which block has its turn at each place of a sweep.

An order is a callable `(sweep, n, rng) -> n indices`: `sweep` counts from 0, `n` is the number of blocks with turns, and
`rng` is a `numpy.random.Generator` seeded by `(seed, sweep)` alone, so that a sweep can be computed without those before.
"""

from collections.abc import Callable

import numpy as np


def cyclic(sweep, n, rng):
    """Input to output, the same in each sweep (Gauss-Seidel's order)."""
    return range(n)


def reverse(sweep, n, rng):
    """Output to input, the same in each sweep (the order of the backward pass)."""
    return range(n - 1, -1, -1)


def shuffled(sweep, n, rng):
    """A fresh permutation for each sweep: every block once (BAdam's order)."""
    return rng.permutation(n)


def random(sweep, n, rng):
    """Drawn with replacement: a block may come twice in a sweep, or not at all."""
    return rng.integers(n, size=n)


ORDERS = {"cyclic": cyclic, "reverse": reverse, "shuffled": shuffled, "random": random}

# Orders that look at gradients before each visit: there is no sweep to compute beforehand.
LOOKING = ("gauss_southwell", "gauss_southwell_rms")


def check(order: str | Callable) -> None:
    """Raises ValueError if there is no order of that name."""
    if order not in LOOKING:
        get(order)


def get(order: str | Callable) -> Callable:
    """The order of that name, or the callable itself.

    Raises:
        ValueError: If there is no order of that name.

    Example:
    >>> from layerwise.schedules import orders
    >>> list(orders.get("reverse")(sweep=0, n=3, rng=None))
    [2, 1, 0]
    """
    if callable(order):
        return order
    if not isinstance(order, str) or order not in ORDERS:
        raise ValueError(
            f"order must be one of {', '.join(map(repr, (*ORDERS, *LOOKING)))} or a callable (sweep, n, rng) -> n indices, "
            f"got {order!r}."
        )
    return ORDERS[order]


def sweep_indices(order: Callable, seed: int, sweep: int, n: int) -> tuple[int, ...]:
    """The n indices of one sweep, checked.

    Raises:
        ValueError: If a callable order does not give n indices in range(n).
    """
    returned = order(sweep, n, np.random.default_rng((seed, sweep)))
    indices = np.asarray(list(returned) if hasattr(returned, "__iter__") else returned)
    whole = indices.shape == (n,) and np.issubdtype(indices.dtype, np.integer)
    if not whole or indices.min() < 0 or indices.max() >= n:
        raise ValueError(
            f"order must return {n} integers from 0 to {n - 1}, the indices of the blocks with turns; for sweep {sweep} it "
            f"returned {indices.tolist()}."
        )
    return tuple(int(i) for i in indices)
