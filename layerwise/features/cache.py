"""The features below a frozen prefix, each computed once.

While stage k is trained, the blocks below it are a fixed function of the example,
`F_k(x) = f_{k-1}(...f_0(x))`. A memo of F_k that finds an example again by its content (a hash of
64 bits: of a million examples, two share one with a probability of 3e-8) is right in whatever
order `fit` deals the examples: arrays and datasets, shuffled or not, for training and for
validation. So `fit` stays one stock `fit` of the user's own data; only what its dispatcher hands to
a step changes. The first time that a stage meets an example, `F_k = f_{k-1}(F_{k-1})` is taken from
the features of the stage before.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from typing import Any

import keras

from layerwise.backends import backend, internals
from layerwise.features.inspection import check_deterministic
from layerwise.features.store import Level, keys_of
from layerwise.steps.forward import Features
from layerwise.training.batch import Substitution


class FeatureCache(Substitution):
    """A memo of the features below the current stage.

    Args:
        where: "memory", or "disk": memory-mapped files in a temporary directory.
        sample: A batch of x, with which it is checked that the prefix is a function; None: x has none.
    """

    def __init__(self, where: str, sample: Any):
        super().__init__()
        self._sample = sample
        self._folder = tempfile.mkdtemp(prefix="layerwise_features_") if where == "disk" else None
        self.level = 0  # blocks below the stage
        self._stored: Level | None = None
        self._previous: Level | None = None
        self._programs: dict[int, Callable] = {}

    @property
    def active(self) -> bool:
        """Whether there are blocks below the stage."""
        return self.level > 0

    def begin_epoch(self, block_model: Any, update: Any, compiled: Callable) -> None:
        """Called before each epoch: the blocks below `update.frozen_below` rest while it lasts.

        Raises:
            ValueError: If a layer of the prefix is random in inference.
        """
        level = update.frozen_below
        if self._sample is not None:
            check_deterministic(block_model.model, block_model.blocks, self._sample)
            self._sample = None
        if level == self.level:
            return
        following = level == self.level + 1 and self._stored is not None
        self._drop("_previous")
        if following:
            self._previous, self._stored = self._stored, None
        self._drop("_stored")
        self.level, self._programs = level, {}
        self._block_model, self._compiled = block_model, compiled
        if level > 0:
            self._programs = {
                start: _program(block_model, start, level) for start in {0, level - 1}
            }
            self._called: set[int] = set()
            self._stored = Level(self._folder)
            self._needed = {i for block in block_model.blocks[level:] for i in block.model_inputs}
            self._dtype = block_model.blocks[level - 1].model.output.dtype

    def substitute(self, data: Any) -> Any:
        """A batch as the stage's step takes it: with `Features` in place of x."""
        x, *rest = data if isinstance(data, (tuple, list)) else (data,)
        keys = keys_of(x)
        stored: Any = self._stored
        found = stored.read(keys)
        if found is None:
            found = self._compute(stored, keys, x)
        inputs = [None] * len(self._block_model.model.inputs)
        if self._needed:
            every = self._inputs(x)
            inputs = [value if i in self._needed else None for i, value in enumerate(every)]
        values, mask = found
        values = keras.ops.convert_to_tensor(values, dtype=self._dtype)
        mask = None if mask is None else keras.ops.convert_to_tensor(mask, dtype="bool")
        return (Features(values, mask, tuple(inputs)), *rest)

    def close(self) -> None:
        """Gives memory and disk back."""
        self._drop("_previous")
        self._drop("_stored")
        self.level, self._programs = 0, {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _compute(self, stored, keys, x):
        given, start = None, 0
        if self._previous is not None:
            given = self._previous.read(keys)
            start = 0 if given is None else self.level - 1
        began = time.perf_counter()
        given = [None, None] if given is None else given
        given = [None if a is None else keras.ops.convert_to_tensor(a) for a in given]
        found = self._programs[start](*given, self._inputs(x))
        found = [None if a is None else keras.ops.convert_to_numpy(a) for a in found]
        if start not in self._called:
            self._called.add(start)
            self._compiled(time.perf_counter() - began)
        stored.write(keys, found)
        if self._previous is not None and len(stored) >= len(self._previous):
            self._drop("_previous")
        return found

    def _inputs(self, x):
        x = keras.tree.map_structure(
            lambda a: None if a is None else keras.ops.convert_to_tensor(a), x
        )
        return tuple(internals.flat_inputs(self._block_model.model, x))

    def _drop(self, name):
        level = getattr(self, name)
        setattr(self, name, None)
        if level is not None:
            level.close()


def _program(block_model, start, stop):
    """The blocks from `start` to before `stop` in inference: takes features, mask and flat inputs."""
    blocks = block_model.blocks[start:stop]

    def function(features, mask, inputs):
        if features is not None:
            features = Features(features, mask, inputs).masked()
        for block in blocks:
            features = block(features, inputs, training=False)
        return features, internals.mask(features)

    variables = {id(v): v for block in blocks for v in block.model.variables}
    return backend.inference(block_model.model, function, list(variables.values()))
