"""Where the data of runs lies: on the device, where an epoch is one loop, or with the host, batch by batch."""

import keras

from layerwise.backends import backend, internals
from layerwise.comparison.arrays import Arrays
from layerwise.comparison.streams import Streams

# Of data that is kept on the device; what is larger comes from the host batch by batch.
RESIDENT_BYTES = 2**30


def stays_on_device(model: keras.Model, source: Arrays | Streams) -> bool:
    """Whether runs of a compiled model take their data from the device: it fits, and a loop over an epoch pays there."""
    if not isinstance(source, Arrays) or not internals.keeps_stock_steps(model):
        return False
    return source.nbytes <= RESIDENT_BYTES and backend.loops_pay(model, source.first(1)[0])
