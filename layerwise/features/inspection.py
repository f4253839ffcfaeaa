"""What is looked at before features are cached: whether examples come again, and whether blocks are functions."""

import itertools
import types

import keras
import numpy as np

from layerwise.backends import internals
from layerwise.features.store import keys_of


def first_batch(x, batch_size, steps_per_epoch):
    """The first batch of x, after a check that a dataset holds the same examples when it is looked at again.

    None if x is empty or of no type that `fit` takes, so that `fit` raises its own error.
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
        if keys_of(first) != keys_of(again):
            raise ValueError(
                f"Batch 0 of {type(x).__name__} differs when it is looked at again. {remedy}"
            )
        return first
    if isinstance(x, (dict, list, tuple)) or hasattr(x, "shape"):
        if not all(leaf is None or hasattr(leaf, "shape") for leaf in keras.tree.flatten(x)):
            return None
        return keras.tree.map_structure(
            lambda a: None if a is None else _as_fit_gives_it(a[: batch_size or 32]), x
        )
    found = [batch for _ in range(2) for batch in itertools.islice(x, 1)]
    if len(found) < 2:
        return None
    first, again = map(_x, found)
    if keys_of(first) != keys_of(again):
        known = set()
        for batch in itertools.islice(x, steps_per_epoch):
            known.update(keys_of(_x(batch)))
        keys = keys_of(again)
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


def _as_fit_gives_it(array):
    array = np.asarray(array)
    return array.astype(keras.config.floatx()) if array.dtype == "float64" else array


def check_deterministic(model, blocks, x):
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
