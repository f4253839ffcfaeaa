"""Seeds of what has none of its own, whoever else draws random numbers."""

import contextlib
import random
from collections.abc import Iterator

from keras.src.random import seed_generator


@contextlib.contextmanager
def default_seeds(number: int) -> Iterator[None]:
    """Within this context, initializers and layers without a seed draw theirs from a generator that they have alone.

    They are those that Keras draws after `random.seed(number)` from Python's own generator. From that one other threads of
    a process draw, too: those of a Dask worker do.
    """
    shared = seed_generator.python_random
    seed_generator.python_random = random.Random(number)
    try:
        yield
    finally:
        seed_generator.python_random = shared
