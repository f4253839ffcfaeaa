"""Seeds of what has none of its own, whoever else draws random numbers."""

import contextlib
import random
from collections.abc import Iterator

from keras.src.random import seed_generator


@contextlib.contextmanager
def default_seeds(number: int) -> Iterator[None]:
    """Within this context, initializers and layers without a seed draw theirs from a generator that they have alone.

    Keras draws them from Python's own after `random.seed(number)`, to the same numbers; but from that one other threads of a
    process draw, too, as those of a Dask worker do.
    """
    shared = seed_generator.python_random
    seed_generator.python_random = random.Random(number)
    try:
        yield
    finally:
        seed_generator.python_random = shared
