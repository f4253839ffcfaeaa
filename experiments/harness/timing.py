"""How seconds are taken: many steps of a stock `fit`, and medians of interleaved repetitions."""

import time
from collections.abc import Sequence

import keras
import numpy as np

import layerwise
from experiments.harness.networks import Network, compiled
from layerwise.backends import backend


class Planned(layerwise.Schedule):
    """Carries out one entry of a plan in each epoch, over and over.

    An entry is the index of the block that moves, or "cyclic": another block at each step.
    """

    def __init__(self, plan: Sequence[int | str], blocks: object = "auto", state: str = "keep"):
        super().__init__(blocks=blocks, state=state)
        self.plan = tuple(plan)

    def updates(self, epoch: int, step: int) -> tuple[layerwise.Update, ...]:
        entry = self.plan[epoch % len(self.plan)]
        block = step % len(self.blocks) if entry == "cyclic" else entry
        return (layerwise.Update(blocks=(block,), visit=step if entry == "cyclic" else -1 - epoch),)


class Seconds(keras.callbacks.Callback):
    """Seconds per step of each epoch, from the end of its first step to the end of its last.

    Between epochs TensorFlow throws one iterator away and makes another. That takes it 20 ms or, by chance, up to 1.4 s:
    never with `tf.data.Options().autotune.enabled = False`, and as long after few steps as after many.
    """

    async_safe = True  # a callback that JAX must call in turn would make it wait for every step

    def __init__(self):
        super().__init__()
        self.per_step, self.ended = [], {}

    def on_train_batch_end(self, batch, logs=None):
        if batch in (0, self.params["steps"] - 1):
            backend.wait(logs)
            self.ended[batch] = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        first, last = sorted(self.ended)  # by now JAX's threads have made all their calls
        self.per_step.append((self.ended[last] - self.ended[first]) / last)


class Training:
    """A compiled network with an epoch of batches in memory: one, and then those that are timed.

    Args:
        network: A `Network`.
        steps: Timed steps of an epoch; `None`: the network's own, rounded up to whole sweeps.
    """

    def __init__(self, network: Network, steps: int | None = None):
        self.network, self.model = network, compiled(network.build())
        self.n_blocks = len(layerwise.partition(self.model, network.blocks))
        self.steps = steps or -(-network.steps // self.n_blocks) * self.n_blocks
        self.x, self.y = network.batches(self.model, 1 + self.steps)

    def epochs(
        self,
        schedule: layerwise.Schedule | None = None,
        epochs: int = 1,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> list[float]:
        """Seconds per step of each of some epochs of `fit`, under a schedule or without one."""
        seconds = Seconds()
        self.model.fit(
            self.x,
            self.y,
            batch_size=self.network.batch_size,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=[*([schedule] if schedule else []), *callbacks, seconds],
        )
        return seconds.per_step

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """One batch."""
        return self.x[: self.network.batch_size], self.y[: self.network.batch_size]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles of repetitions, as columns of a row."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"value": middle, "low": low, "high": high, "repetitions": np.size(values)}
