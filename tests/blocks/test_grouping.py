"""Blocks by number and by lists of names."""

import itertools

import keras
import pytest
from keras import layers

from layerwise.blocks import partition
from tests.blocks.models import (
    VECTORS,
    check_composition,
    check_variables,
    composite,
    names,
    on_one_backend,
    plain,
    same_names,
)

pytestmark = on_one_backend


def best_largest(sizes, count):
    """The smallest possible largest run, by trying every way to cut."""
    ways = itertools.combinations(range(1, len(sizes)), count - 1)
    return min(
        max(sum(sizes[i:j]) for i, j in itertools.pairwise((0, *cuts, len(sizes)))) for cuts in ways
    )


@pytest.mark.parametrize("widths", [(3, 50, 2, 2, 9, 30, 1), (5, 5, 5, 5, 5, 5), (1, 2, 3, 40)])
def test_an_int_merges_neighbours_evenly(widths):
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(width) for width in widths)])
    finest = [block.parameters for block in partition(model)]
    for count in range(1, len(widths) + 1):
        blocks = partition(model, count)
        assert len(blocks) == count
        check_variables(model, blocks)
        assert max(block.parameters for block in blocks) == best_largest(finest, count)
        check_composition(model, blocks, VECTORS)
    with pytest.raises(ValueError, match=f"{len(widths)} blocks"):
        partition(model, len(widths) + 1)


def test_equal_blocks_are_merged_equally():
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(12))])
    for count in (2, 3, 4, 6):
        assert {len(block.layers) for block in partition(model, count)} == {12 // count}


def test_blocks_below_the_largest_are_nearly_equal_too():
    widths = (4, 4, 4, 4, 100)
    model = keras.Sequential([keras.Input((4,)), *(layers.Dense(width) for width in widths)])
    assert [block.parameters for block in partition(model, 3)] == [40, 40, 500]


@pytest.mark.parametrize(
    ("by", "expected", "has_models"),
    [
        ([["first", ".*norm"], ["second", "head"]], "first second", False),
        ([["first", "norm", "input_norm"], ["second", "last_norm", "head"]], "first second", True),
        ([["input_norm", "first", "norm"], ["(second|head|last_.*)"]], "first second", True),
        ([["head"], ["first", "second", ".*norm"]], "head first", False),
        ([[".*"]], "first", True),
    ],
)
def test_lists_of_names_and_regular_expressions(by, expected, has_models):
    model, x, _ = plain()
    blocks = partition(model, by)
    assert " ".join(names(blocks)) == expected
    check_variables(model, blocks)
    assert blocks.has_models == has_models
    assert sum(len(block.layers) for block in blocks) == 9
    if has_models:
        check_composition(model, blocks, x)


def test_lists_may_name_paths_models_and_composite_layers():
    model, x, _ = same_names()
    by = [["start"], ["one/a"], ["one/b", "one/norm"], ["three", "two/.*", "head"]]
    blocks = partition(model, by)
    assert names(blocks) == ["start", "one/a", "b", "three/a"]
    check_composition(model, blocks, x)
    by = [["embedding", "attention_0"], ["layer_norm.*", "wrapped.*", "attention_1", "head"]]
    assert [len(block.variables) for block in partition(composite()[0], by)] == [9, 18]
