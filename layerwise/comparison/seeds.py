"""Seeds by stable hashing: every schedule meets the same initial weights, batches and splits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerwise.comparison.grid import Grid

# Far from the measured seeds 0, 1, ...: no run is measured on a seed that chose its learning rate.
FIRST_TUNING_SEED = 1000


def derive(*parts: object) -> int:
    """A seed in [0, 2^31) that depends on nothing but `parts`: not on the process, its hash salt or
    the order of runs.

    Example:
    >>> from layerwise.comparison.seeds import derive
    >>> derive("order", 3, 0)
    625176974
    >>> derive("order", 3, 1) == derive("order", 3, 0)
    False
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def seeds_of(grid: Grid, phase: str) -> range:
    """The seeds of a comparison's phase: from its `first_seed` on to "measure"; others to "tune"."""
    if phase == "measure":
        return range(grid.first_seed, grid.first_seed + grid.seeds)
    first = grid.first_seed + FIRST_TUNING_SEED
    return range(first, first + grid.tuning_seeds)
