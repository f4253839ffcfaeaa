"""Blocks: looked up by name or index, printed as a table."""

import numpy as np
import pytest

from layerwise.blocks import Block, Blocks, partition
from tests.blocks.models import on_one_backend, plain

pytestmark = on_one_backend


def test_blocks_know_their_names_and_indices():
    model = plain()[0]
    blocks = partition(model)
    assert isinstance(blocks, Blocks) and isinstance(blocks, tuple) and blocks.model is model
    assert all(isinstance(block, Block) for block in blocks)
    assert [block.index for block in blocks] == [0, 1, 2]
    assert [blocks.index(key) for key in ("second", 1, np.int64(1), blocks[1])] == [1, 1, 1, 1]
    with pytest.raises(
        ValueError, match=r"'heads'.*Did you mean 'head'.*'first', 'second', 'head'"
    ):
        blocks.index("heads")
    for bad in (3, -1):
        with pytest.raises(ValueError, match=f"{bad} is out of range.*0 to 2"):
            blocks.index(bad)
    for bad in (True, 1.0, None):
        with pytest.raises(TypeError, match=str(bad)):
            blocks.index(bad)
    with pytest.raises(ValueError, match=r"'first' is of another division.*name or index"):
        blocks.index(partition(model, 2)[0])


def test_blocks_print_as_a_table():
    model = plain()[0]
    table = str(partition(model)).splitlines()
    assert len(table) == 5 and len({len(line) for line in table}) == 1
    assert table[0].split() == ["block", "layers", "parameters"]
    assert table[2].split() == ["1", "second", "second,", "last_norm", "45"]
    assert table[4].split() == ["total", "9", "layers", f"{8 + 30 + 12 + 35 + 10 + 18}"]
