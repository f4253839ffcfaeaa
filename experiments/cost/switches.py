"""switches: what changing the block costs, with each optimizer state, and by `trainable` and `compile`."""

import time

import numpy as np

from experiments.cost.recompile import Recompiling
from experiments.cost.timing import Planned, Training, summary

STATES = ("keep", "reset", "drop")
CYCLIC_EPOCHS = 5  # of which the mean is taken: a switch is small beside the noise of an epoch


def measure(settings):
    """Rows of the network of equal blocks."""
    training = Training(settings.baseline)
    n = training.n_blocks
    staying = Planned([*range(n), *["cyclic"] * CYCLIC_EPOCHS], settings.baseline.blocks)
    schedules = {
        state: Planned(["cyclic"], settings.baseline.blocks, state) for state in STATES[1:]
    }

    def repetition():
        every = training.epochs(staying, n + CYCLIC_EPOCHS)
        seconds = {"staying": np.mean(every[:n]), "keep": np.mean(every[n:])}
        for state, schedule in schedules.items():
            seconds[state] = np.mean(training.epochs(schedule, CYCLIC_EPOCHS))
        return seconds | {"simultaneous": training.epochs()[0]}

    repetition()  # compiles
    found = [repetition() for _ in range(settings.repetitions)]
    seconds = {name: np.array([one[name] for one in found]) for name in found[0]}
    rows = []
    for name in STATES:
        extra = seconds[name] - seconds["staying"]
        rows.append((name, "step with a switch", summary(seconds[name]), "s"))
        rows.append((name, "switch", summary(extra), "s"))
        rows.append(
            (
                name,
                "switch over a simultaneous step",
                summary(extra / seconds["simultaneous"]),
                "ratio",
            )
        )
    rows.append(("staying", "step", summary(seconds["staying"]), "s"))
    rows.append(("simultaneous", "step", summary(seconds["simultaneous"]), "s"))

    first, later = _recompiled(training, staying.blocks)
    rows.append(("trainable and compile", "step with a switch", summary(first), "s"))
    rows.append(("trainable and compile", "switch", summary(first - later), "s"))
    ours = np.median(seconds["keep"])
    rows.append(
        ("trainable and compile", "step with a switch over ours", summary(first / ours), "ratio")
    )
    return [
        {"network": settings.baseline.name, "n_blocks": n, "variant": variant, "quantity": quantity}
        | {**numbers, "unit": unit}
        for variant, quantity, numbers, unit in rows
    ]


def _recompiled(training, blocks):
    """Seconds of a step with its switch, and of a later one; of the first, the middle and the last block.

    JAX compiles at the second step again: its arrays come from a program now. So three steps pay for a switch.
    """
    way, batch, first, later = Recompiling(training, blocks), training.batch(), [], []
    for index in (0, len(blocks) // 2, len(blocks) - 1):
        start = time.perf_counter()
        way.switch(index)
        for _ in range(3):
            training.model.train_on_batch(*batch)
        settled = time.perf_counter()
        training.model.train_on_batch(*batch)
        later.append(time.perf_counter() - settled)
        first.append(settled - start - 2 * later[-1])
    way.undo()
    return np.array(first), np.array(later)
