"""Keras imports TensorFlow, where it is installed, only to ask whether an object is one of its: seconds, and 0.3 GiB."""

import contextlib
import sys
from collections.abc import Iterator

from keras.src.utils import module_utils


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """While this lasts Keras does not import TensorFlow: where nobody has before, no object can be one of its."""
    tensorflow = module_utils.tensorflow
    known = tensorflow._available
    if "tensorflow" not in sys.modules:
        tensorflow._available = False
    try:
        yield
    finally:
        tensorflow._available = known
