"""What the parts share: a compiled net, full-batch steps of it, and vectors of all its weights."""

from collections.abc import Sequence

import keras
import numpy as np

from experiments.harness.programs import steps_together
from experiments.linearity.nets import net, repeated
from layerwise.diagnostics import Step

TOGETHER = (
    25  # steps in one program: the steps are small, and calling a program for each takes longer
)


def compiled(name: str, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """The net of that name under the squared error."""
    model = net(name)
    model.compile(optimizer, loss="mse", steps_per_execution=steps_together(TOGETHER))
    return model


def train(
    model: keras.Model,
    x: np.ndarray,
    y: np.ndarray,
    steps: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """So many steps on all examples."""
    many_x, many_y = repeated(x, y, steps)
    model.fit(
        many_x, many_y, batch_size=len(x), shuffle=False, verbose=0, callbacks=list(callbacks)
    )


def flat(vectors: Sequence[np.ndarray]) -> np.ndarray:
    """One vector of all blocks' vectors."""
    return np.concatenate([np.ravel(vector) for vector in vectors])


def by_block(step: Step, vector: np.ndarray) -> list[np.ndarray]:
    """One vector a block of a vector of all blocks."""
    return np.split(vector, np.cumsum([w.size for w in step.weights])[:-1])


def hessian(step: Step) -> np.ndarray:
    """The whole Hessian, one product a weight: for nets of some hundreds of weights."""
    size = sum(w.size for w in step.weights)
    rows = [flat(step.hessian_vector(by_block(step, unit))) for unit in np.eye(size)]
    return (np.array(rows) + np.array(rows).T) / 2
