"""Learning-rate factors by block."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Rates:
    """Factors of the learning rate by block.

    Args:
        by_block: `{name or index: number, or callable (epoch, step) -> number}`.

    Raises:
        ValueError: A factor is negative or no number.

    Example:
    >>> from layerwise.schedules.rates import Rates
    >>> Rates({"stem": -1.0})
    Traceback (most recent call last):
        ...
    ValueError: rates must give numbers of at least 0, got -1.0 for block 'stem'.
    """

    def __init__(self, by_block: Mapping[str | int, Any]):
        if not isinstance(by_block, Mapping):
            raise ValueError(
                f"rates must be a dict {{block name or index: factor}} or None, got {by_block!r}."
            )
        self.by_block = by_block
        for block, factor in by_block.items():
            if not callable(factor):
                _checked(factor, block)

    def resolve(self, blocks: Any) -> dict[int, Any]:
        """`{index: factor}` for these `Blocks`.

        Raises:
            ValueError: No such block, or one that is named twice.
        """
        resolved: dict[int, Any] = {}
        for block, factor in self.by_block.items():
            index = blocks.index(block)
            if index in resolved:
                raise ValueError(f"rates names block {blocks[index].name!r} twice. Name it once.")
            resolved[index] = factor
        return resolved

    def at(self, blocks: Any, epoch: int, step: int) -> dict[int, float]:
        """`{index: factor}` at a position."""
        return {
            index: _checked(factor(epoch, step) if callable(factor) else factor, blocks[index].name)
            for index, factor in self.resolve(blocks).items()
        }


def _checked(factor, block):
    number = isinstance(factor, (int, float, np.number)) and not isinstance(factor, bool)
    if not number or not 0 <= factor < np.inf:
        raise ValueError(
            f"rates must give numbers of at least 0, got {factor!r} for block {block!r}."
        )
    return float(factor)
