"""Seeds by stable hashing: every schedule meets the same initial weights, batches and splits."""

import hashlib

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


def seeds_of(phase: str, count: int) -> range:
    """The `count` seeds of a phase: 0, 1, ... to measure; others to tune."""
    first = FIRST_TUNING_SEED if phase == "tune" else 0
    return range(first, first + count)
