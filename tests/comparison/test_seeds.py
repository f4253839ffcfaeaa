import hashlib
from types import SimpleNamespace

from layerwise.comparison.seeds import derive, seeds_of


def test_derived_seeds_are_the_hash_and_nothing_else():
    expected = int(hashlib.sha256(b"order/3/0").hexdigest()[:8][::1], 16)
    little_endian = int.from_bytes(expected.to_bytes(4, "big"), "little")
    assert derive("order", 3, 0) == little_endian // 2


def test_different_parts_give_different_seeds_in_range():
    seeds = {derive(what, seed) for what in ("order", "weights", "split") for seed in range(500)}
    assert len(seeds) == 1500
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_tuning_seeds_are_never_measured():
    for first in (0, 500):
        grid = SimpleNamespace(seeds=1000, tuning_seeds=1000, first_seed=first)
        assert not set(seeds_of(grid, "tune")) & set(seeds_of(grid, "measure"))
        assert seeds_of(grid, "measure") == range(first, first + 1000)
