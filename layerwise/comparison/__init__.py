"""The comparison of schedules: grid -> runs -> frames -> statistics -> figures.

A `Grid` says what is compared, an `Agenda` which of its runs are next. `Workers`, here or elsewhere, are given one run
after another; each has a `Trainer`, which carries out the runs of one cell. A `Record` keeps what they hand back as frames,
`statistics` and `figures` are functions of the frames.
"""

from layerwise.comparison.compare import compare
from layerwise.comparison.data import Data
from layerwise.comparison.result import Comparison

__all__ = ["Comparison", "Data", "compare"]
