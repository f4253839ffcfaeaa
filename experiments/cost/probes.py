"""probes: what a Probe adds to a `fit`, beside the time that it reports as its own, and what all quantities take once."""

import functools
import time
from collections.abc import Iterator

import numpy as np
import pandas as pd

import layerwise
from experiments.cost.part import Part, one
from experiments.cost.settings import Settings
from experiments.harness import markdown
from experiments.harness.networks import Network, dense
from experiments.harness.timing import Training, summary
from layerwise.diagnostics import QUANTITIES, Step

EVERY = 100  # steps between two measurements
NETWORK = Network("dense 256", functools.partial(dense, 10, 256), batch_size=128, steps=2 * EVERY)
WAYS = {
    "all of it": "whole",
    "without the time that the Probe reports": "rest",
}


def measure(settings: Settings) -> list[dict]:
    """Rows of a dense network of ten blocks: seconds of a `fit` of two hundred steps with a Probe over one without."""
    training = Training(NETWORK)

    def seconds(*probes):
        start = time.perf_counter()
        training.epochs(callbacks=probes)
        return time.perf_counter() - start

    def repetition():
        probe = layerwise.Probe(every=EVERY, data=training.batch())
        alone, whole = seconds(), seconds(probe)
        every = seconds_of_all(training) / (alone / training.steps)
        return {"alone": alone, "whole": whole, "rest": whole - probe.seconds, "every": every}

    repetition()  # compiles
    found = [repetition() for _ in range(settings.repetitions)]
    taken = {name: np.array([each[name] for each in found]) for name in found[0]}
    numbers = [
        ("alone", "fit", summary(taken["alone"]), "s"),
        ("each once", "all quantities over a training step", summary(taken["every"]), "ratio"),
    ]
    for way, name in WAYS.items():
        over = summary(taken[name] / taken["alone"])
        numbers.append((way, "fit with a Probe over one without", over, "ratio"))
    return [
        {"network": NETWORK.name, "n_blocks": training.n_blocks, "variant": variant}
        | {"quantity": quantity, **values, "unit": unit}
        for variant, quantity, values, unit in numbers
    ]


def seconds_of_all(training: Training) -> float:
    """Seconds of each quantity once, of one step."""
    start = time.perf_counter()
    step = Step(training.model, *training.batch())
    for quantity in QUANTITIES.values():
        quantity(step)
    return time.perf_counter() - start


def answer(rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """How much longer a `fit` takes."""
    for way in WAYS:
        row = one(rows, variant=way, quantity="fit with a Probe over one without")
        yield f"fit with a Probe every {EVERY} steps over one without, {way}", markdown.median(row)
    row = one(rows, quantity="all quantities over a training step")
    yield "every quantity once over a training step", markdown.median(row)


PART = Part("probes", measure, {}, answer)
