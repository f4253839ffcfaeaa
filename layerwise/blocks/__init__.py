"""A model as a chain of blocks: groups of consecutive layers that move as one."""

from layerwise.blocks.block import Block, Blocks
from layerwise.blocks.partition import partition

__all__ = ["Block", "Blocks", "partition"]
