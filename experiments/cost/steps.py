"""steps: the step of each block, and of a new block at each step, over the simultaneous step in the same run."""

import numpy as np

import layerwise
from experiments.cost.timing import Planned, Training, summary

CHUNK = 2  # epochs between two looks at the simultaneous step, so that both see the same machine


def measure(settings):
    """Rows for every network."""
    return [
        row for network in settings.networks for row in of_network(network, settings.repetitions)
    ]


def of_network(network, repetitions):
    """Rows of one network: seconds and ratios of each block, their mean, and the switching; the counted FLOPs."""
    training = Training(network)
    n = training.n_blocks
    schedule = Planned([*range(n), "cyclic"], network.blocks)
    _round(training, schedule)  # compiles
    rounds = [_round(training, schedule) for _ in range(repetitions)]
    simultaneous = np.array([stock for stock, _ in rounds])  # repetition, epoch
    seconds = np.array([blocks for _, blocks in rounds])
    ratios = seconds / simultaneous
    batch = training.batch()
    everything = schedule.flops(layerwise.Update(blocks=None), *batch)
    limits = [schedule.flops(layerwise.Update(blocks=(k,)), *batch) / everything for k in range(n)]

    names = [block.name for block in schedule.blocks]
    cyclic = seconds[:, n] / seconds[:, :n].mean(axis=1)
    found = [("simultaneous", "", "step", summary(simultaneous.mean(axis=1)), "s")]
    for k, name in enumerate(names):
        found.append((k, name, "step", summary(seconds[:, k]), "s"))
        found.append((k, name, "step ratio", summary(ratios[:, k]), "ratio"))
        found.append((k, name, "FLOP ratio", {"value": limits[k]}, "ratio"))
    found += [
        ("mean", "", "step ratio", summary(ratios[:, :n].mean(axis=1)), "ratio"),
        ("mean", "", "FLOP ratio", {"value": np.mean(limits)}, "ratio"),
        ("simultaneous", "", "FLOPs", {"value": everything}, "FLOPs"),
        ("cyclic", "", "step", summary(seconds[:, n]), "s"),
        ("cyclic", "", "step ratio", summary(ratios[:, n]), "ratio"),
        ("cyclic", "", "switching ratio", summary(cyclic), "ratio"),
    ]
    return [
        {
            "network": network.name,
            "n_blocks": n,
            "block": block,
            "block_name": name,
        }
        | {"quantity": quantity, **numbers, "unit": unit}
        for block, name, quantity, numbers, unit in found
    ]


def _round(training, schedule):
    """Seconds per step of each entry of the plan, and of the simultaneous steps before and after it."""
    stock, seconds = [], []
    before = training.epochs()[0]
    while len(seconds) < len(schedule.plan):
        chunk = min(CHUNK, len(schedule.plan) - len(seconds))
        seconds += training.epochs(schedule, chunk)
        after = training.epochs()[0]
        stock += [(before + after) / 2] * chunk
        before = after
    return stock, seconds
