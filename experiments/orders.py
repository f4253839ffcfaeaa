"""orders: does it matter in which order the blocks take turns, and how long a visit lasts?

`python -m experiments.orders` runs it, with the arguments of `experiments run orders`.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import pandas as pd

import layerwise
from experiments import convergence
from experiments.harness import comparisons, verdict
from layerwise.comparison import Comparison

ORDERS = ("cyclic", "reverse", "shuffled", "random")
VISITS = {
    "1 step": {"every": 1},
    "10 steps": {"every": 10},
    "1 epoch": {"every": "epoch"},
    "sweep": {"sweep_each_batch": True},
}
SCALES = {
    "quick": {"models": ("mlp",), "visits": ("10 steps",), "optimizers": ("Adam",)},
    "full": {"models": ("mlp", "convnet"), "visits": tuple(VISITS), "optimizers": ("SGD", "Adam")},
}


def schedules(visits: Sequence[str]) -> dict[str, Callable[[], layerwise.Schedule]]:
    """`{name: () -> schedule}`: every order with every length of a visit; the baseline first."""
    return {"simultaneous": layerwise.Simultaneous} | {
        f"{order}, {visit}": functools.partial(
            layerwise.BlockCoordinate, order=order, **VISITS[visit]
        )
        for order in ORDERS
        for visit in visits
    }


define = convergence.define_with(SCALES, schedules)


def findings(comparison: Comparison, rows: pd.DataFrame) -> list[str]:
    """What the verdicts say about each order, and about each length of a visit."""
    orders, visits = (rows["schedule"].str.split(", ").str[place] for place in (0, 1))
    return [
        verdict.sentence(own, words(kind))
        for names, words in ((orders, _order), (visits, _visit))
        for kind, own in rows.groupby(names, sort=False)
    ]


def _order(name):
    return f"{name.capitalize()} order"


def _visit(name):
    return "Sweeps" if name == "sweep" else f"Visits of {name}"


EXPERIMENT = comparisons.experiment(
    "Does it matter in which order the blocks take turns, and how long a visit lasts?",
    define,
    findings,
    "networks with more than four blocks, where orders differ more.",
)

if __name__ == "__main__":
    from experiments.harness.command import main

    main(["run", "orders", *sys.argv[1:]])
