"""What interplay trains: every schedule with every optimizer and every regularization."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import layerwise
from layerwise.comparison import Comparison

# What is tuned beside the learning rate; where there is nothing, as many more learning rates are tried.
PENALTY = {"model.strength": (1e-5, 1e-4, 1e-3)}
DECAY = {"optimizer.weight_decay": (1e-3, 1e-2, 1e-1)}
DROPOUT = {"model.strength": (0.0, 0.1, 0.3)}
REGULARIZATIONS: dict[str, dict[str, tuple]] = {
    "none": {},
    "L1": PENALTY,
    "L2": PENALTY,
    "decoupled decay": DECAY,
    "dropout": DROPOUT,
    "batch norm": {},
    "dropout, batch norm": DROPOUT,
    "dropout, decay": {"model.strength": (0.0, 0.1), "optimizer.weight_decay": (1e-3, 1e-1)},
}
SCHEDULES: dict[str, Callable[[], layerwise.Schedule]] = {
    "simultaneous": layerwise.Simultaneous,
    "shuffled, 10 steps": functools.partial(layerwise.BlockCoordinate, order="shuffled", every=10),
    "greedy": layerwise.GreedyLayerwise,
}
OPTIMIZERS: dict[str, Callable[[float], keras.optimizers.Optimizer]] = {
    "SGD": lambda learning_rate: keras.optimizers.SGD(learning_rate),
    "momentum": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9),
    "RMSprop": lambda learning_rate: keras.optimizers.RMSprop(learning_rate),
    "Adam": lambda learning_rate: keras.optimizers.Adam(learning_rate),
    "AdamW": lambda learning_rate: keras.optimizers.AdamW(learning_rate),  # decays by 0.004
}
ADAPTIVE = ("RMSprop", "Adam", "AdamW")
RATES = {
    name: (0.0003, 0.001, 0.003, 0.01) if name in ADAPTIVE else (0.01, 0.03, 0.1, 0.3)
    for name in OPTIMIZERS
}
SCALES: dict[str, dict[str, Any]] = {
    "quick": {
        "schedules": ("simultaneous", "shuffled, 10 steps"),
        "optimizers": ("SGD", "Adam"),
        "regularizations": ("none", "L2", "decoupled decay", "dropout", "batch norm"),
        "settings": 6,
        "tuning_seeds": 1,
        "seeds": 5,
        "epochs": 8,
    },
    "full": {
        "schedules": tuple(SCHEDULES),
        "optimizers": tuple(OPTIMIZERS),
        "regularizations": tuple(REGULARIZATIONS),
        "settings": 12,
        "tuning_seeds": 5,
        "seeds": 10,
        "epochs": 16,
    },
}
EVERY = 100  # steps between measurements of a Probe
QUANTITIES = (
    "gradient_noise",
    functools.partial(layerwise.diagnostics.smoothness, multiples=(0.0, 1.0)),
    "sharpness",
)


def network(
    shape: Sequence[int],
    n_classes: int,
    regularization: str,
    strength: float = 0.0,
    width: int = 64,
    factor: float = 1.0,
) -> keras.Sequential:
    """Three hidden ReLU layers and a linear one, regularized; logits.

    Args:
        shape: Of an example.
        n_classes: Outputs.
        regularization: One of `REGULARIZATIONS`; decay is the optimizer's.
        strength: The factor of the penalty, or the share of units that dropout drops.
        width: Units of a hidden layer.
        factor: Times which the initial kernels are as large as usual (He's of the hidden layers, Glorot's of the last).

    Example:
    >>> from experiments.interplay.grid import network
    >>> [type(layer).__name__ for layer in network((8,), 2, "dropout, batch norm", 0.2).layers[1:5]]
    ['Dense', 'BatchNormalization', 'ReLU', 'Dropout']
    """
    penalty = {"L1": keras.regularizers.L1, "L2": keras.regularizers.L2}.get(regularization)
    hidden, last = "he_normal", "glorot_uniform"
    if factor != 1:
        scaled = keras.initializers.VarianceScaling
        hidden = scaled(2 * factor**2, "fan_in", "truncated_normal")
        last = scaled(factor**2, "fan_avg", "uniform")
    model = keras.Sequential([keras.Input(shape), layers.Flatten()])
    for _ in range(3):
        model.add(
            layers.Dense(
                width,
                kernel_initializer=hidden,
                kernel_regularizer=penalty and penalty(strength),
            )
        )
        if "batch norm" in regularization:
            model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.ReLU())
        if "dropout" in regularization:
            model.add(layers.Dropout(strength))
    model.add(
        layers.Dense(
            n_classes,
            kernel_initializer=last,
            kernel_regularizer=penalty and penalty(strength),
        )
    )
    return model


def compare(
    regularization: str,
    scale: str,
    dataset: str,
    data: layerwise.Data,
    n_classes: int,
    results: Path,
    jobs: int = 1,
) -> Comparison:
    """Trains every schedule with every optimizer of a scale under one regularization, each tuned by itself on as many runs
    as under any other regularization.
    """
    settings = dict(SCALES[scale])
    settings.pop("regularizations")
    optimizers, count = settings.pop("optimizers"), settings.pop("settings")
    x, y = data.train[0][:256], data.train[1][:256]
    probe = functools.partial(layerwise.Probe, QUANTITIES, EVERY, (x, y))
    return layerwise.compare(
        {"mlp": functools.partial(network, x.shape[1:], n_classes, regularization)},
        {dataset: data},
        schedules={name: SCHEDULES[name] for name in settings.pop("schedules")},
        optimizers={name: OPTIMIZERS[name] for name in optimizers},
        regularizers=(regularization,),
        learning_rates={name: rates_of(regularization, name, count) for name in optimizers},
        search=REGULARIZATIONS[regularization],
        probes=(probe,),
        experiment="interplay",
        results=results,
        jobs=jobs,
        **settings,
    )


def rates_of(regularization: str, optimizer: str, count: int) -> tuple[float, ...]:
    """The learning rates that are tried: with the other values that are tuned, so many settings under every regularization.

    Where nothing else is tuned they reach a decade further at each end: that many within the same span would lie so
    close that a grid which extends itself by a few steps stayed near.

    Example:
    >>> from experiments.interplay.grid import rates_of
    >>> [len(rates_of(name, "Adam", 12)) for name in ("none", "L2", "dropout, decay")]
    [12, 4, 3]
    """
    others = 1
    for values in REGULARIZATIONS[regularization].values():
        others *= len(values)
    low, high = RATES[optimizer][0], RATES[optimizer][-1]
    reach = 10.0 if others == 1 else 1.0
    found = np.geomspace(low / reach, high * reach, count // others)
    return tuple(float(f"{rate:.3g}") for rate in found)
