"""Looks: how much weights and layers depend on each other in a step of each net on each form of the images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import pandas as pd

import layerwise
from experiments.dependence.coupling import coupling
from experiments.dependence.slices import read
from layerwise.comparison import frames
from layerwise.diagnostics import Step, interaction

RATE, BATCH_SIZE, STEPS, EXAMPLES = 0.1, 64, 50, 128


def run(
    folder: Path,
    images: Mapping[str, layerwise.Data],
    models: Mapping[str, Callable[[], keras.Model]],
    seeds: int,
) -> None:
    """Looks at the step after `STEPS` steps, where the folder does not hold it yet: a row a form, net and seed.

    All nets are trained alike, at rate `RATE`: what is looked at does not change with a multiple of the step.
    """
    found = read(folder, "looks")
    for form, data in images.items():
        for net, build in models.items():
            known = (
                set() if found.empty else set(found.query("form == @form and net == @net")["seed"])
            )
            model = compiled(build())
            rows = []
            for seed in sorted(set(range(seeds)) - known):
                about = {"form": form, "net": net, "seed": seed, "backend": keras.backend.backend()}
                rows.append(about | look(model, build, data, seed) | frames.provenance())
            if rows:
                found = pd.concat([found, pd.DataFrame(rows)], ignore_index=True)
                frames.write(folder, looks=found)
                print(f"looked at: {net} net, pixels {form}", flush=True)


def compiled(model: keras.Model) -> keras.Model:
    """The model with plain gradient descent."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(RATE), loss=loss)
    return model


def look(model: keras.Model, build: Callable, data: layerwise.Data, seed: int) -> dict[str, float]:
    """`coupling` and `interaction` of the step that a net takes after `STEPS` steps from the weights of a seed.

    Args:
        model: The compiled net, whose weights are replaced: its programs serve all seeds.
        build: `() -> model` with new weights.
        data: Images with labels.
        seed: Of weights and order.
    """
    keras.utils.set_random_seed(seed)
    model.set_weights(build().get_weights())
    x, y = data.train
    per_epoch = len(x) // BATCH_SIZE
    for done in range(0, STEPS, per_epoch):
        count = min(per_epoch, STEPS - done) * BATCH_SIZE
        model.fit(x[:count], y[:count], batch_size=BATCH_SIZE, verbose=0)
    step = Step(model, x[:EXAMPLES], y[:EXAMPLES])
    return coupling(step).iloc[0].to_dict() | interaction(step).iloc[0].to_dict()
