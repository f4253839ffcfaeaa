"""The comparison of schedules: grid -> runs -> frames -> statistics -> figures.

A `Grid` says what is compared, a `Trainer` carries out the runs of one cell of it, a `Record` keeps
them as frames, `statistics` and `figures` are functions of the frames.
"""

from layerwise.comparison.compare import compare
from layerwise.comparison.data import Data
from layerwise.comparison.result import Comparison

__all__ = ["Comparison", "Data", "compare"]
