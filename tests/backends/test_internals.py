"""The canary: which private names of Keras are needed, and that a missing one is named."""

import keras
import pytest

from layerwise.backends import backend, internals


def test_this_keras_has_every_private_name_that_is_used():
    assert backend.USED
    internals.check(backend.USED)


def test_what_went_missing_is_named():
    names = {
        "keras.src.trainers.trainer.Trainer": ("_compute_loss", "_went_missing"),
        "keras.src.trainers.gone": ("anything",),
        "keras.src.trainers.trainer.Gone": ("anything",),
    }
    assert internals.missing(names) == [
        "keras.src.trainers.trainer.Trainer._went_missing",
        "keras.src.trainers.gone",
        "keras.src.trainers.trainer.Gone",
    ]


def test_a_keras_that_lacks_one_is_refused():
    gone = {"keras.src.trainers.trainer.Trainer": ("_went_missing",)}
    with pytest.raises(ImportError, match=r"_went_missing.*keras>=3\.15,<3\.16"):
        internals.check(gone)


def test_the_range_that_is_supported_is_the_one_that_is_declared():
    assert keras.__version__.startswith("3.15.")
