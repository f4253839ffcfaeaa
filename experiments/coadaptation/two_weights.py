"""The net of two weights, output w * v for the input 1: its training by closed form and by the package."""

from collections.abc import Callable, Sequence

import keras
import numpy as np

import layerwise
from experiments.harness.programs import steps_together

TARGET = -0.1
OPTIMIZERS: dict[str, Callable[[float], keras.optimizers.Optimizer]] = {
    "SGD": keras.optimizers.SGD,
    "momentum": lambda rate: keras.optimizers.SGD(rate, momentum=0.9),
    "Adam": keras.optimizers.Adam,
}
# Which weights move in a step, one step after the other: 0 is w, 1 is v.
ORDERS = {"simultaneous": ((0, 1),), "cyclic": ((0,), (1,)), "reverse": ((1,), (0,))}
TOLERANCE = 1e-3  # of the output, which is to move by 0.2 in the example
OUTCOMES = {"c": "converges", "o": "cycles", "s": "stalls", "u": "unsettled", "d": "diverges"}
LATE = (
    1000,
    1100,
    1200,
)  # steps at which an outcome is told; a cycle of 2, 4, 5, 10 ... steps repeats after 100
TOGETHER = 50  # steps in one program of the package


def closed_form(
    w: np.ndarray,
    v: np.ndarray,
    optimizer: str,
    rate: float | Sequence[float],
    order: str,
    at: Sequence[int],
) -> np.ndarray:
    """The weights after some steps on the loss (w v - target)^2, for many starts at once.

    Args:
        w: Starts of the weight, any shape.
        v: Starts of the weight before it, of the same shape.
        optimizer: A key of `OPTIMIZERS`. Momentum and Adam's means belong to a weight, and so does Adam's count of steps.
        rate: The learning rate, or one of each weight.
        order: A key of `ORDERS`.
        at: Numbers of steps, ascending.

    Returns:
        `(len(at), 2, *shape)`: w and v at each; infinite or NaN where they diverge.

    Example: from the question's start, at rate 0.5, w goes straight to -0.1 and its input hardly moves.

    >>> from experiments.coadaptation.two_weights import closed_form
    >>> closed_form(0.1, 1.0, "SGD", 0.5, "simultaneous", [1]).round(9).tolist()
    [[-0.1, 0.98]]
    """
    weights = np.array(np.broadcast_arrays(w, v), "float64")
    memory, counts = np.zeros((2, *weights.shape)), [0, 0]
    rates, turns, found = np.broadcast_to(rate, 2), ORDERS[order], []
    with np.errstate(all="ignore"):
        for step in range(max(at) + 1):
            if step in at:
                found.append(weights.copy())
            error = 2 * (weights[0] * weights[1] - TARGET)
            gradients = error * weights[::-1]
            for k in turns[step % len(turns)]:
                counts[k] += 1
                move = _moves(optimizer, gradients[k], memory[:, k], counts[k])
                weights[k] = weights[k] - rates[k] * move
    return np.array(found)


def by_package(
    starts: Sequence[tuple[float, float]],
    optimizer: str,
    rate: float,
    order: str,
    at: Sequence[int] = LATE,
) -> np.ndarray:
    """The same by two `Dense(1)` layers, trained by `fit` under a schedule of the package.

    Args:
        starts: Pairs of w and v.
        optimizer: A key of `OPTIMIZERS`.
        rate: The learning rate.
        order: A key of `ORDERS`.
        at: Numbers of steps, ascending.

    Returns:
        `(len(at), 2, len(starts))`.
    """
    layers = [keras.layers.Dense(1, use_bias=False, name=name) for name in ("v", "w")]
    model = keras.Sequential([keras.Input((1,)), *layers])
    model.compile(
        OPTIMIZERS[optimizer](rate), loss="mse", steps_per_execution=steps_together(TOGETHER)
    )
    model.optimizer.build(model.trainable_variables)
    fresh = [keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables]
    ones, found = np.ones((max(at), 1), "float32"), []
    for w, v in starts:
        model.set_weights([np.array([[v]]), np.array([[w]])])
        for variable, value in zip(model.optimizer.variables, fresh, strict=True):
            variable.assign(value)
        schedule, states = _schedule(order), []
        for before, now in zip((0, *at), at, strict=False):
            x = ones[before:now]
            model.fit(x, TARGET * x, batch_size=1, shuffle=False, verbose=0, callbacks=[schedule])
            states.append([value.item() for value in model.get_weights()[::-1]])
        found.append(states)
    return np.transpose(found, (1, 2, 0))


def outcomes(states: np.ndarray) -> np.ndarray:
    """A letter of `OUTCOMES` for each start, from its states at the steps `LATE`.

    It converges where the output is within `TOLERANCE` of the target at all of them, diverges where a weight is beyond a
    million or no number, cycles where it is back where it was before, and not at rest; it stalls where both weights are
    zero, from where no gradient leads away; else it is unsettled: still on its way, or it wanders.

    Args:
        states: `(len(LATE) + 1, 2, ...)`: those at `LATE`, and one step after the last.

    Example: back where it was after 100 steps, and elsewhere one step later.

    >>> import numpy as np
    >>> from experiments.coadaptation.two_weights import outcomes
    >>> outcomes(np.array([[0.1, 1.0], [0.1, 1.0], [0.1, 1.0], [-0.1, -1.0]])[..., None]).tolist()
    ['o']
    """
    *late, after = states
    late = np.array(late)
    with np.errstate(all="ignore"):
        diverged = ~(np.abs(states) < 1e6).all(axis=(0, 1))
        near = (np.abs(states[:, 0] * states[:, 1] - TARGET) < TOLERANCE).all(axis=0)
        back = (np.abs(late - late[-1]) < TOLERANCE).all(axis=(0, 1))
        rests = (np.abs(after - late[-1]) < TOLERANCE).all(axis=0)
        small = (np.abs(states) < TOLERANCE).all(axis=(0, 1))
    return np.select([diverged, near, small, back & ~rests], ["d", "c", "s", "o"], "u")


def _moves(optimizer, gradient, memory, count):
    """What an optimizer subtracts, over the learning rate; it keeps its two means in `memory`."""
    if optimizer == "SGD":
        return gradient
    if optimizer == "momentum":
        memory[0] = 0.9 * memory[0] + gradient
        return memory[0]
    memory[0] = 0.9 * memory[0] + 0.1 * gradient
    memory[1] = 0.999 * memory[1] + 0.001 * gradient**2
    correction = np.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    return correction * memory[0] / (np.sqrt(memory[1]) + 1e-7)


def _schedule(order):
    if order == "simultaneous":
        return layerwise.Simultaneous()
    # Of the package's blocks the first is v, next to the input; the order "cyclic" of this experiment begins with w.
    return layerwise.BlockCoordinate(order={"cyclic": "reverse", "reverse": "cyclic"}[order])
