"""Curvature: trace and largest eigenvalue of the Hessian, of each block and of all, without the Hessian."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh

from layerwise.diagnostics import checks
from layerwise.diagnostics.frames import ALL, quantity
from layerwise.diagnostics.step import Step


@quantity("trace", "trace_error", "largest_eigenvalue", "residual", by=("block",))
def curvature(
    step: Step, samples: int = 4, iterations: int = 6, tolerance: float = 0.1, seed: int = 0
) -> pd.DataFrame:
    """Estimates the trace and the largest eigenvalue (by size) of each block's own Hessian, and of all blocks' together.

    `trace`: Hutchinson's estimate, the mean of v' H v over random signs v; one product serves all blocks, since the block's
    own v_l' (H v)_l is an unbiased estimate of tr H_ll. `trace_error`: its standard error. `largest_eigenvalue`: by the
    Lanczos method (`scipy.sparse.linalg.eigsh`), with its sign; `residual` = |H q - a q| for the unit vector q and the
    value a that were found: an eigenvalue of H lies within it. For small blocks (of at most `iterations` entries) it is
    exact.

    Cost: `samples` Hessian-vector products for all traces, and for each block and for all about `iterations` for each
    restart of Lanczos; the first restart ends it where the residual is below `tolerance` times the value. No Hessian is
    held: about three times `iterations` vectors of the size of the weights are.

    Args:
        step: The Step.
        samples: Random vectors of the trace, at least 2.
        iterations: Lanczos vectors.
        tolerance: Relative accuracy at which Lanczos stops; it restarts at most twice.
        seed: Decides the random vectors.

    Source: Hutchinson, A stochastic estimator of the trace of the influence matrix (1990); Lehoucq, Sorensen and Yang,
    ARPACK (1998); Pearlmutter (1994) for the products.

    Returns:
        One row a block, and one for "all": `block, trace, trace_error, largest_eigenvalue, residual`.

    Example: the net w * v * x at w = 1, v = 2 (see `example`) has the Hessian [[8, 2], [2, 2]], whose eigenvalues are
    5 + sqrt(13) = 8.605551 and 5 - sqrt(13).

    >>> import layerwise
    >>> found = layerwise.diagnostics.curvature(layerwise.diagnostics.example())
    >>> found[["block", "largest_eigenvalue"]].round(6)
      block  largest_eigenvalue
    0     w            8.000000
    1     v            2.000000
    2   all            8.605551
    """
    checks.at_least("iterations", iterations, 2)
    means, errors = traces(step, samples, seed)
    n = len(step.blocks)
    sets = [*([k] for k in range(n)), list(range(n))]
    rows = []
    for i, (name, blocks) in enumerate(zip([*step.names, ALL], sets, strict=True)):
        value, residual = largest_eigenvalue(step, blocks, iterations, tolerance, seed)
        rows.append(
            {
                "block": name,
                "trace": float(means[i]),
                "trace_error": float(errors[i]),
                "largest_eigenvalue": value,
                "residual": residual,
            }
        )
    return pd.DataFrame(rows)


def traces(step: Step, samples: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Hutchinson's estimates of the trace of each block's own Hessian, and last of all blocks' together.

    Args:
        step: The Step.
        samples: Random vectors, each of which takes one Hessian-vector product; at least 2.
        seed: Decides the random vectors.

    Returns:
        The estimates and their standard errors.
    """
    checks.at_least("samples", samples, 2)
    rng, estimates = np.random.default_rng(seed), []
    for _ in range(samples):
        signs = [rng.choice((-1.0, 1.0), size=w.size) for w in step.weights]
        products = step.hessian_vector(signs)
        own = [float(v @ p) for v, p in zip(signs, products, strict=True)]
        estimates.append([*own, sum(own)])
    errors = np.std(estimates, axis=0, ddof=1) / np.sqrt(samples)
    return np.mean(estimates, axis=0), errors


def largest_eigenvalue(
    step: Step,
    blocks: Sequence[int],
    iterations: int = 20,
    tolerance: float = 1e-6,
    seed: int = 0,
    restarts: int = 2,
    scales: Sequence[np.ndarray] | None = None,
) -> tuple[float, float]:
    """The eigenvalue of largest size of some blocks' part of the Hessian, and its residual; NaN where there is none, or no
    finite one.

    Args:
        step: The Step.
        blocks: Positions of the blocks.
        iterations: Lanczos vectors.
        tolerance: Relative accuracy at which Lanczos stops.
        seed: Decides the vector that it starts from.
        restarts: How often it restarts at most.
        scales: One array S for each of these blocks: the eigenvalue is that of S H S, entry by entry. With S^2 the factors
            of an optimizer's preconditioner this is the curvature that its steps see.
    """
    sizes = [step.weights[k].size for k in blocks]
    size, ends = sum(sizes), np.cumsum(sizes)[:-1]
    if not np.isfinite(step.loss):
        return float("nan"), float("nan")

    factors = 1.0 if scales is None else np.concatenate(list(scales))

    def times(vector):
        pieces = dict(zip(blocks, np.split(np.ravel(vector) * factors, ends), strict=True))
        products = step.hessian_vector([pieces.get(k) for k in range(len(step.blocks))])
        found = np.concatenate([products[k] for k in blocks]) * factors
        if not np.isfinite(found).all():
            raise FloatingPointError
        return found

    start = np.random.default_rng(seed).normal(size=size)
    try:
        return (
            _exact(times, size)
            if size <= max(iterations, 2)
            else _lanczos(times, start, iterations, tolerance, restarts)
        )
    except FloatingPointError:  # LAPACK and ARPACK take no such numbers
        return float("nan"), float("nan")


def _exact(times, size):
    matrix = np.array([times(unit) for unit in np.eye(size)])
    values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
    return float(values[np.argmax(np.abs(values))]), 0.0


def _lanczos(times, start, iterations, tolerance, restarts):
    operator = LinearOperator((start.size, start.size), matvec=times, dtype="float64")
    options = {"k": 1, "which": "LM", "v0": start, "ncv": iterations, "tol": tolerance}
    try:
        values, vectors = eigsh(operator, maxiter=1 + restarts, **options)
        value, vector = float(values[0]), vectors[:, 0]
    except ArpackNoConvergence:
        # Power iterations from the same start go on where ARPACK keeps to itself what it has found.
        vector = start / np.linalg.norm(start)
        for _ in range(iterations):
            product = times(vector)
            length = np.linalg.norm(product)
            if not length > 0:
                return 0.0, 0.0
            vector = product / length
        value = float(vector @ times(vector))
    except ArpackError:
        return float("nan"), float("nan")
    return value, float(np.linalg.norm(times(vector) - value * vector))
