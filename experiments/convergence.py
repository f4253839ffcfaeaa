"""convergence: how fast does each schedule reach the same accuracy, and how does it generalize?

`python -m experiments.convergence` runs it, with the arguments of `experiments run convergence`.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import keras

import layerwise
from experiments.harness import comparisons, models

ORDERS = ("cyclic", "reverse", "shuffled", "random")
VISITS = {
    "1 step": {"every": 1},
    "10 steps": {"every": 10},
    "1 epoch": {"every": "epoch"},
    "sweep": {"sweep_each_batch": True},
}
QUICK = ("simultaneous", "cyclic, 1 step", "shuffled, 10 steps", "shuffled, sweep", "greedy")
OPTIMIZERS = {
    "SGD": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9),
    "Adam": lambda learning_rate: keras.optimizers.Adam(learning_rate),
}
RATES = {"SGD": (0.01, 0.03, 0.1, 0.3), "Adam": (0.0003, 0.001, 0.003, 0.01)}
SCALES = {
    "quick": {"models": ("mlp",), "tuning_seeds": 1, "seeds": 5},
    "full": {"models": ("mlp", "convnet"), "tuning_seeds": 5, "seeds": 20},
}


def schedules(scale: str, epochs: int) -> dict[str, Callable[[], layerwise.Schedule]]:
    """`{name: () -> schedule}` of a scale, the baseline first."""
    everything = {"simultaneous": layerwise.Simultaneous}
    for order in ORDERS:
        for visit, arguments in VISITS.items():
            everything[f"{order}, {visit}"] = functools.partial(
                layerwise.BlockCoordinate, order=order, **arguments
            )
    everything["greedy"] = layerwise.GreedyLayerwise
    everything["greedy, fine-tuned"] = functools.partial(
        layerwise.GreedyLayerwise, finetune_epochs=epochs // 3
    )
    names = QUICK if scale == "quick" else everything
    return {name: everything[name] for name in names}


def define(scale: str, shape: Sequence[int], n_classes: int, epochs: int | None = None) -> dict:
    """The arguments of `layerwise.compare`; `epochs` in place of the scale's."""
    settings = SCALES[scale] | {"epochs": epochs or 24}
    images = len(shape) == 3
    settings["models"] = {
        name: functools.partial(getattr(models, name), shape, n_classes)
        for name in settings["models"]
        if images or name != "convnet"
    }
    return settings | {
        "learning_rates": RATES,
        "schedules": schedules(scale, settings["epochs"]),
        "optimizers": OPTIMIZERS,
    }


EXPERIMENT = comparisons.experiment(
    "How fast does each schedule reach the same accuracy, and how well does it generalize?", define
)

if __name__ == "__main__":
    from experiments.harness.command import main

    main(["run", "convergence", *sys.argv[1:]])
