"""The comparison of schedules: grid -> runs -> frames -> statistics -> figures.

A `Grid` says what is compared, a `Trainer` carries out the runs of one cell of it, `frames` are
what is kept, `statistics` and `figures` are functions of the frames.
"""

from layerwise.comparison.comparison import Comparison, compare
from layerwise.comparison.data import Data

__all__ = ["Comparison", "Data", "compare"]
