"""Deep nets of equal width or equally many weights, and what their blocks do together in one step."""

from collections.abc import Sequence

import keras
import numpy as np

from experiments.harness.programs import start_again, steps_together
from experiments.linearity.edge import schedule_of
from experiments.linearity.nets import images
from experiments.linearity.sweeps import largest_stable_rate, steep_directions, turns_of
from experiments.linearity.training import flat, train
from layerwise.diagnostics import Step, compounding, gauss_seidel, interaction

# The activation, and the variance of the initial weights times the number of inputs.
KINDS = {"linear": 1.0, "tanh": 1.0, "relu": 2.0}
DEPTHS = (2, 8, 32)
WIDTH = 16  # of equal width; with equally many weights, all nets have as many as the deepest of this width
FRACTIONS = (0.1, 0.5, 1.0)  # of the largest stable rate where all blocks move at once
TRAINED = ("simultaneous", "cyclic")
ORDERS = (*TRAINED, "shuffled")  # the last at the start only, because it takes longest
MOMENTS = (0, 10, 50)  # sweeps: in each every block moves once
TRAINED_AT = 0.5  # of the schedule's own largest stable rate, measured anew at each moment


def measure(kind: str, depth: int, width: int, seeds: int) -> list[dict]:
    """Rows: for each seed, moment of training under each schedule, and fraction of the largest stable rate, one step.

    What is looked at is always a step of all blocks at once, which is not taken. `trained` is "not yet" at the start. A run
    that has diverged has one row, with an infinite loss and nothing else.
    """
    x, y = images()
    model, rows = compiled(kind, depth, width), []
    for seed in range(seeds):
        for trained in TRAINED:
            start_again(model, seed)
            stable: dict[str, float] = {}
            for before, sweeps in zip((0, *MOMENTS), MOMENTS, strict=False):
                if sweeps:
                    steps = (sweeps - before) * len(turns_of(trained, depth))
                    model.optimizer.learning_rate = TRAINED_AT * stable[trained]
                    train(model, x, y, steps, [schedule_of(trained, seed)])
                row = {"seed": seed, "trained": trained if sweeps else "not yet", "sweeps": sweeps}
                if not np.isfinite(loss := float(model.test_on_batch(x, y))):
                    rows.append(row | {"loss": np.inf})
                    break
                stable = largest_stable_rates(Step(model, x, y), TRAINED if sweeps else ORDERS)
                if sweeps or trained == TRAINED[0]:
                    rows += [row | {"loss": loss} | one for one in looks(model, x, y, stable)]
    return rows


def looks(model: keras.Model, x: np.ndarray, y: np.ndarray, stable: dict[str, float]) -> list[dict]:
    """A row for each fraction of the largest stable rate: what a step of all blocks at that rate would do."""
    rows = []
    for fraction in FRACTIONS:
        model.optimizer.learning_rate = fraction * stable["simultaneous"]
        step = Step(model, x, y)
        row = {"fraction": fraction, **stable}
        row |= interaction(step).iloc[0][["additivity", "joint", "sum_of_parts"]].to_dict()
        row["compounded"] = float(compounding(step).set_index("block").loc["all", "compounded"])
        row["stale"] = float(gauss_seidel(step)["sign_changes"].iloc[1:].mean())
        rows.append(row | {"reversed": going_back(step)})
    return rows


def largest_stable_rates(step: Step, orders: Sequence[str]) -> dict[str, float]:
    """The largest stable rate of each order of moving, by the linear theory at the step's Hessian.

    In reverse order it is that of cyclic: the sweep's matrix is the transpose.
    """
    factors = steep_directions(step.hessian_vector, [w.size for w in step.weights], 10)
    turns = {order: turns_of(order, len(factors)) for order in orders}
    return {order: largest_stable_rate(factors, of) for order, of in turns.items()}


def going_back(step: Step) -> float:
    """The share of the weights that plain descent, after this step of all blocks, would move back in the next one.

    It is what `layerwise.diagnostics.reversals` finds one step later; weights that do not move do not count.
    """
    now, after = flat(step.gradient), flat(step.gradient_at(step.displacement)[1])
    return float(np.mean((now * after < 0)[(now != 0) & (after != 0)]))


def width_of(depth: int) -> int:
    """The width at which a net of that depth has about as many weights as the deepest of width `WIDTH`.

    Example:
    >>> from experiments.coadaptation.deep_nets import width_of
    >>> [width_of(depth) for depth in (2, 8, 32)]
    [125, 33, 16]
    """
    wanted = weights(max(DEPTHS), WIDTH)
    return min(range(1, 200), key=lambda width: abs(weights(depth, width) - wanted))


def weights(depth: int, width: int) -> int:
    """How many weights, biases included, such a net has.

    Example:
    >>> from experiments.coadaptation.deep_nets import compiled, weights
    >>> weights(8, 33), compiled("tanh", 8, 33).count_params()
    (9217, 9217)
    """
    return (64 + 1) * width + (depth - 2) * (width + 1) * width + (width + 1) * 10


def compiled(kind: str, depth: int, width: int) -> keras.Model:
    """So many dense layers, the last one the linear output, under the squared error."""
    start = keras.initializers.VarianceScaling(KINDS[kind], "fan_in")
    hidden = [keras.layers.Dense(width, kind, kernel_initializer=start) for _ in range(depth - 1)]
    model = keras.Sequential([keras.Input((64,)), *hidden, keras.layers.Dense(10)])
    model.compile(keras.optimizers.SGD(0.1), loss="mse", steps_per_execution=steps_together(25))
    return model
