"""convergence: how fast does each schedule reach the same accuracy, and how does it generalize?

`python -m experiments.convergence` runs it, with the arguments of `experiments run convergence`.
"""

import functools
import sys
from collections.abc import Callable, Sequence

import keras
import numpy as np
import pandas as pd

import layerwise
from experiments.harness import comparisons, models, verdict
from layerwise.comparison import Comparison, tuning

QUICK = ("simultaneous", "cyclic, 1 step", "shuffled, 10 steps", "shuffled, sweep", "greedy")


def cosine(learning_rate: float, steps: int) -> keras.optimizers.schedules.CosineDecay:
    """A rate that falls to zero along half a cosine, over all batches of a run."""
    return keras.optimizers.schedules.CosineDecay(learning_rate, steps)


OPTIMIZERS = {
    "SGD": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9),
    "Adam": lambda learning_rate: keras.optimizers.Adam(learning_rate),
    "SGD, cosine": lambda learning_rate, steps: keras.optimizers.SGD(
        cosine(learning_rate, steps), momentum=0.9
    ),
    "Adam, cosine": lambda learning_rate, steps: keras.optimizers.Adam(
        cosine(learning_rate, steps)
    ),
}
RATES = {"SGD": (0.01, 0.03, 0.1, 0.3), "Adam": (0.0003, 0.001, 0.003, 0.01)}
SCALES = {
    "quick": {
        "models": ("mlp",),
        "schedules": QUICK,
        "optimizers": tuple(RATES),
        "tuning_seeds": 1,
        "seeds": 5,
        "timed": 0,
    },
    "full": {
        "models": ("mlp", "normalized mlp", "convnet", "transformer"),
        "schedules": (*QUICK, "reverse, 1 epoch", "greedy, fine-tuned"),
        "optimizers": tuple(RATES),
        "tuning_seeds": 6,  # two for each of the three validation parts of digits
        "seeds": 20,
        "timed": 5,
    },
}


def schedules(epochs: int) -> dict[str, Callable[[], layerwise.Schedule]]:
    """`{name: () -> schedule}`, the baseline first."""
    blocks = layerwise.BlockCoordinate
    return {
        "simultaneous": layerwise.Simultaneous,
        "cyclic, 1 step": blocks,
        "shuffled, 10 steps": lambda: blocks(order="shuffled", every=10),
        "reverse, 1 epoch": lambda: blocks(order="reverse", every="epoch"),
        "shuffled, sweep": lambda: blocks(order="shuffled", sweep_each_batch=True),
        "greedy": layerwise.GreedyLayerwise,
        "greedy, fine-tuned": lambda: layerwise.GreedyLayerwise(finetune_epochs=epochs // 3),
    }


def define(
    scale: str,
    shape: Sequence[int],
    n_classes: int,
    epochs: int | None = None,
    optimizers: Sequence[str] | None = None,
) -> dict:
    """The arguments of `layerwise.compare`; `epochs` and `optimizers`, names of `OPTIMIZERS`, in place of the scale's."""
    settings = SCALES[scale] | {"epochs": epochs or 24}
    every = schedules(settings["epochs"])
    names = comparisons.known("optimizers", optimizers or settings["optimizers"], OPTIMIZERS)
    images = len(shape) == 3
    return settings | {
        "models": {
            name: functools.partial(getattr(models, name.replace(" ", "_")), shape, n_classes)
            for name in settings["models"]
            if images or "mlp" in name
        },
        "schedules": {name: make for name, make in every.items() if name in settings["schedules"]},
        "optimizers": {name: OPTIMIZERS[name] for name in names},
        "learning_rates": {name: RATES[name.split(",")[0]] for name in names},
    }


def define_with(
    scales: dict[str, dict], schedules: Callable[[Sequence[str]], dict[str, Callable]]
) -> Callable[..., dict]:
    """A function like `define` for other schedules, on some of its networks and optimizers.

    Args:
        scales: By scale the names of the `models`, `optimizers` and `visits`.
        schedules: `visits -> {name: () -> schedule}`.
    """

    def definition(scale, shape, n_classes, epochs=None, optimizers=None):
        settings = scales[scale]
        most = define("full", shape, n_classes, epochs, optimizers or settings["optimizers"])
        seeds = {name: SCALES[scale][name] for name in ("tuning_seeds", "seeds", "timed")}
        chosen = {name: make for name, make in most["models"].items() if name in settings["models"]}
        return most | seeds | {"models": chosen, "schedules": schedules(settings["visits"])}

    return definition


KINDS = {
    "Taking turns, one block at a time": lambda name: "greedy" not in name and "sweep" not in name,
    "A sweep over all blocks on every batch": lambda name: "sweep" in name,
    "Greedy, one block after the other": lambda name: name == "greedy",
    "Greedy with all blocks at the end": lambda name: name == "greedy, fine-tuned",
}


def findings(comparison: Comparison, rows: pd.DataFrame) -> list[str]:
    """What the verdicts say, in a word about one block at a time, then about each kind of schedule."""
    one_block = of_kind(rows, "Taking turns, one block at a time")
    found = [in_a_word(one_block)] if len(one_block) else []
    for name in KINDS:
        own = of_kind(rows, name)
        if len(own):
            found.append(verdict.sentence(own, name))
    more = (by_the_clock(comparison), first_stage(comparison.runs))
    return [*found, *(text for text in more if text)]


def of_kind(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The verdicts about one kind of schedule."""
    return rows[[KINDS[name](schedule) for schedule in rows["schedule"]]]


def in_a_word(rows: pd.DataFrame) -> str:
    """Whether it pays to move one block at a time, from the verdicts about that."""
    counts, n = rows["cost"].value_counts(), len(rows)
    cheaper, dearer = counts.get("cheaper", 0), counts.get("dearer", 0)
    if cheaper:
        return (
            f"Taking turns among blocks took clearly less arithmetic than to move all layers at once in {cheaper} of {n} "
            f"cases, and clearly more in {dearer}."
        )
    if not dearer:
        return (
            "Whether taking turns among blocks takes less or more arithmetic than to move all layers at once cannot be "
            f"told from {n} cases: each difference is within chance."
        )
    rest = ", and in the others the difference is within chance" if dearer < n else ""
    return (
        "Taking turns among blocks never took clearly less arithmetic than to move all layers at once: it took clearly "
        f"more in {dearer} of {n} cases{rest}."
    )


def by_the_clock(comparison: Comparison) -> str:
    """What each kind of schedule takes in seconds, from timing runs; nothing where none were made."""
    if comparison.timings.empty:
        return ""
    baseline = comparison.baseline
    costs = comparison.relative_costs
    costs = costs[(costs["clock"] == "seconds") & (costs["schedule"] != baseline)]
    each = comparison.seconds_per_update
    each = each[each["schedule"] != baseline]
    runs, updates = [
        "; ".join(
            f"{name[0].lower()}{name[1:]} {verdict.spread(own['ratio'])}"
            for name in KINDS
            if len(own := of_kind(frame, name))
        )
        for frame in (costs, each)
    ]
    return (
        f"By the clock to that score, over moving all layers at once: {runs}. A single Update: {updates}. (Medians of "
        f"{each['repetitions'].min()} or more runs of one seed under each schedule, alone on the machine, in turn.)"
    )


def first_stage(runs: pd.DataFrame) -> str:
    """How many greedy runs reached the target before the second block was ever trained."""
    cheapest = tuning.of_purpose(runs, "cost")
    greedy = cheapest[(cheapest["schedule"] == "greedy") & cheapest["reached"]]
    if greedy.empty:
        return ""
    # Where epochs cannot be shared out evenly, the first blocks have one more.
    first = np.ceil(greedy["epochs"] / greedy["n_blocks"])
    early = (greedy["epochs_to_target"] <= first).sum()
    shallow = ": what they saved there a shallower net would have saved, too" if early else ""
    return (
        f"{early} of the {len(greedy)} greedy runs that reached the target did so while the first block was trained under "
        f"its own head{shallow}."
    )


EXPERIMENT = comparisons.experiment(
    "How fast does each schedule reach the same accuracy, and how well does it generalize?",
    define,
    findings,
    "larger networks and data, where a step is not a matter of a millisecond and the target is far from what a shallow net "
    "reaches; what lies between the ends of epochs, where costs are read; other partitions into blocks; seconds on other "
    "backends and devices.",
)

if __name__ == "__main__":
    from experiments.harness.command import main

    main(["run", "convergence", *sys.argv[1:]])
