"""The features below a greedy stage, each computed once.

While stage k is trained, the blocks below it are a fixed function of the example,
`F_k(x) = f_{k-1}(...f_0(x))`. A memo of F_k that finds an example again by its content (a hash of
64 bits: of a million examples, two share one with a probability of 3e-8) is right in whatever
order `fit` deals the examples: arrays and datasets, shuffled or not, for training and for
validation. So `fit` stays one stock `fit` of the user's own data; only what its dispatcher hands to
a step changes. The first time that a stage meets an example, `F_k = f_{k-1}(F_{k-1})` is taken from
the features of the stage before.
"""

import contextlib
import itertools
import os
import shutil
import tempfile
import time
import types
from typing import Any, NamedTuple

import keras
import numpy as np

from layerwise.backends import backend, internals

CHUNK_BYTES = 2**24


class Features(NamedTuple):
    """What a stage's step takes in place of x.

    Attributes:
        values: The features that the stage's first block takes, `(batch, ...)`.
        mask: Their Keras mask, or None.
        inputs: The flat model inputs, None for those that no block of the stage needs.
    """

    values: Any
    mask: Any
    inputs: tuple

    def masked(self):
        """The features with their mask on them."""
        if self.mask is not None:
            internals.set_mask(self.values, self.mask)
        return self.values


class FeatureCache:
    """A memo of the features below the current stage.

    Args:
        where: "memory", or "disk": memory-mapped files in a temporary directory.
        sample: A batch of x, with which it is checked that the prefix is a function; None: x has none.
    """

    def __init__(self, where, sample):
        self._sample = sample
        self._folder = tempfile.mkdtemp(prefix="layerwise_features_") if where == "disk" else None
        self.level = 0  # blocks below the stage
        self._stored = self._previous = None
        self._programs = {}

    def begin(self, session, level):
        """Hears, before each epoch, how many blocks are below the stage: these rest while it lasts.

        Raises:
            ValueError: If a layer of the prefix is random in inference.
        """
        if self._sample is not None:
            _check_deterministic(session.model, session.blocks, self._sample)
            self._sample = None
        if level == self.level:
            return
        following = level == self.level + 1 and self._stored is not None
        self._drop("_previous")
        if following:
            self._previous, self._stored = self._stored, None
        self._drop("_stored")
        self.level, self._session, self._programs = level, session, {}
        if level > 0:
            self._programs = {start: _program(session, start, level) for start in {0, level - 1}}
            self._called = set()
            self._stored = _Level(self._folder)
            self._needed = {i for block in session.blocks[level:] for i in block.model_inputs}
            self._dtype = session.blocks[level - 1].model.output.dtype

    def take(self, data):
        """A batch as the stage's step takes it: with `Features` in place of x."""
        if self.level == 0:
            return data
        x, *rest = data if isinstance(data, (tuple, list)) else (data,)
        keys = _keys(x)
        found = self._stored.read(keys)
        if found is None:
            found = self._compute(keys, x)
        inputs = [None] * len(self._session.model.inputs)
        if self._needed:
            every = self._inputs(x)
            inputs = [value if i in self._needed else None for i, value in enumerate(every)]
        values, mask = found
        values = keras.ops.convert_to_tensor(values, dtype=self._dtype)
        mask = None if mask is None else keras.ops.convert_to_tensor(mask, dtype="bool")
        return (Features(values, mask, tuple(inputs)), *rest)

    def close(self):
        """Gives memory and disk back."""
        self._drop("_previous")
        self._drop("_stored")
        self.level, self._programs = 0, {}
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _compute(self, keys, x):
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
            self._session.compile_seconds += time.perf_counter() - began
        self._stored.write(keys, found)
        if self._previous is not None and len(self._stored) >= len(self._previous):
            self._drop("_previous")
        return found

    def _inputs(self, x):
        x = keras.tree.map_structure(
            lambda a: None if a is None else keras.ops.convert_to_tensor(a), x
        )
        return tuple(internals.flat_inputs(self._session.model, x))

    def _drop(self, name):
        level = getattr(self, name)
        setattr(self, name, None)
        if level is not None:
            level.close()


@contextlib.contextmanager
def caching(schedule, model, where, x, batch_size, steps_per_epoch):
    """While in this context, fits of `model` under `schedule` cache features.

    Raises:
        ValueError: If the features cannot be cached: see `GreedyLayerwise.fit`.
    """
    if where not in ("memory", "disk"):
        raise ValueError(f"cache_features must be 'memory', 'disk' or None, got {where!r}.")
    if internals.overrides(model, "compute_metrics"):
        raise ValueError(
            f"{type(model).__name__} has its own compute_metrics, which would be given features in "
            "place of x. Pass cache_features=None."
        )
    if backend.replicas(model) > 1:
        raise ValueError(
            f"cache_features={where!r} works on one device; this model is spread over "
            f"{backend.replicas(model)}. Pass cache_features=None."
        )
    sample = _look(x, batch_size, steps_per_epoch)
    cache = FeatureCache(where, sample)
    schedule.feature_cache = cache
    try:
        yield
    finally:
        schedule.feature_cache = None
        cache.close()


class _Level:
    """Rows of features and of masks, found by key."""

    def __init__(self, folder):
        self._folder = None if folder is None else tempfile.mkdtemp(dir=folder)
        self._at, self._columns = {}, None

    def __len__(self):
        return len(self._at)

    def read(self, keys):
        """Features and masks (None: there are none) of these keys, or None if a key is unknown."""
        positions = list(map(self._at.get, keys))
        if None in positions:
            return None
        positions = np.array(positions)
        return [None if column is None else column.read(positions) for column in self._columns]

    def write(self, keys, arrays):
        """Keeps the rows whose keys are not known."""
        if self._columns is None:
            self._columns = [None if a is None else _Rows(a, self._folder) for a in arrays]
        new = [i for i, key in enumerate(keys) if key not in self._at]
        first = self._columns[0].size
        for column, array in zip(self._columns, arrays, strict=True):
            if column is not None:
                column.append(array if len(new) == len(keys) else array[new])
        self._at.update(zip([keys[i] for i in new], range(first, first + len(new)), strict=True))

    def close(self):
        self._at, self._columns = {}, None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Rows:
    """A growing array of rows, in chunks, so that growing copies nothing."""

    def __init__(self, like, folder):
        self._shape, self._dtype, self._folder = like.shape[1:], like.dtype, folder
        self._each = max(1, CHUNK_BYTES // max(1, like[:1].nbytes))
        self._chunks, self.size = [], 0

    def append(self, rows):
        if rows.shape[1:] != self._shape:
            raise ValueError(
                f"Features of one shape can be cached, got {self._shape} and then {rows.shape[1:]} "
                "an example. Pad all examples to one length, or pass cache_features=None."
            )
        while len(rows):
            number, start = divmod(self.size, self._each)
            if number == len(self._chunks):
                self._chunks.append(self._new_chunk())
            now, rows = np.split(rows, [min(len(rows), self._each - start)])
            self._chunks[number][start : start + len(now)] = now
            self.size += len(now)

    def read(self, positions):
        numbers, starts = np.divmod(positions, self._each)
        if len(self._chunks) == 1:
            return self._chunks[0][positions]
        rows = np.empty((len(positions), *self._shape), self._dtype)
        for number in np.unique(numbers):
            here = numbers == number
            rows[here] = self._chunks[number][starts[here]]
        return rows

    def _new_chunk(self):
        shape = (self._each, *self._shape)
        if self._folder is None:
            return np.empty(shape, self._dtype)
        file, path = tempfile.mkstemp(dir=self._folder)
        try:
            size = int(np.prod(shape)) * self._dtype.itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(
                    file, 0, max(1, size)
                )  # a full disk raises here; a write to the map would kill
        finally:
            os.close(file)
        return np.memmap(path, self._dtype, mode="r+", shape=shape)


def _program(session, start, stop):
    """The blocks from `start` to before `stop` in inference: takes features, mask and flat inputs."""
    blocks = session.blocks[start:stop]

    def function(features, mask, inputs):
        if features is not None:
            features = Features(features, mask, inputs).masked()
        for block in blocks:
            features = block(features, inputs, training=False)
        return features, internals.mask(features)

    variables = {id(v): v for block in blocks for v in block.model.variables}
    return backend.inference(session.model, function, list(variables.values()))


def _keys(x):
    """A key of each example's content."""
    leaves = [
        keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(x) if leaf is not None
    ]
    contents = [
        [str(row.tolist()) if leaf.dtype == object else row.tobytes() for row in leaf]
        for leaf in leaves
    ]
    return list(map(hash, zip(*contents, strict=True)))


def _look(x, batch_size, steps_per_epoch):
    """The first batch of x, after a check that a dataset holds the same examples when it is looked at again.

    None where x has no batch or is nothing that `fit` takes: that is for `fit` to say.
    """
    remedy = (
        "Features are cached for examples that come again: take augmentation out of the dataset, "
        "let steps_per_epoch cover all of it, or pass cache_features=None."
    )
    if isinstance(x, types.GeneratorType):
        raise ValueError(
            "A generator can be looked at only once, so that it is unknown whether its examples "
            "come again. Pass arrays, a tf.data.Dataset or a keras.utils.PyDataset, or "
            "cache_features=None."
        )
    if isinstance(x, keras.utils.PyDataset):
        first, again = _x(x[0]), _x(x[0])
        if _keys(first) != _keys(again):
            raise ValueError(
                f"Batch 0 of {type(x).__name__} differs when it is looked at again. {remedy}"
            )
        return first
    if isinstance(x, (dict, list, tuple)) or hasattr(x, "shape"):
        if not all(leaf is None or hasattr(leaf, "shape") for leaf in keras.tree.flatten(x)):
            return None
        return keras.tree.map_structure(
            lambda a: None if a is None else _plain(a[: batch_size or 32]), x
        )
    found = [batch for _ in range(2) for batch in itertools.islice(x, 1)]
    if len(found) < 2:
        return None
    first, again = map(_x, found)
    if _keys(first) != _keys(again):
        known = set()
        for batch in itertools.islice(x, steps_per_epoch):
            known.update(_keys(_x(batch)))
        keys = _keys(again)
        new = sum(key not in known for key in keys)
        # A shuffled dataset that drops its last, short batch leaves out other examples each time.
        if new > len(keys) / 4:
            raise ValueError(
                f"{new} of the first {len(keys)} examples of {type(x).__name__} were not among its "
                f"{len(known)} examples when it was looked at before. {remedy}"
            )
    return first


def _x(batch):
    return keras.utils.unpack_x_y_sample_weight(tuple(batch) if isinstance(batch, list) else batch)[
        0
    ]


def _plain(array):
    array = np.asarray(array)
    return array.astype(keras.config.floatx()) if array.dtype == "float64" else array


def _check_deterministic(model, blocks, x):
    """Raises where the finished blocks, in inference, give two outputs for one input."""
    x = keras.tree.map_structure(lambda a: None if a is None else keras.ops.convert_to_tensor(a), x)
    inputs = internals.flat_inputs(model, x)
    seeds = [v for block in blocks[:-1] for v in block.model.non_trainable_variables]
    before = [keras.ops.convert_to_numpy(v.value) for v in seeds]
    features = None
    for block in blocks[:-1]:
        outputs = [block(features, inputs, training=False) for _ in range(2)]
        one, two = (keras.ops.convert_to_numpy(a).astype("float32") for a in outputs)
        if not np.allclose(
            one, two, rtol=1e-5, atol=1e-5 * np.abs(one).max(initial=0), equal_nan=True
        ):
            raise ValueError(
                f"Block {block.name!r} gives other features when it is run again on the same batch: a "
                "layer in it is random in inference. Cached features would freeze one draw. Make the "
                "layer heed training=False, or pass cache_features=None."
            )
        features = outputs[0]
    for variable, value in zip(seeds, before, strict=True):
        variable.assign(value)
