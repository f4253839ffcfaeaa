"""Schedules for Keras models: which layers move at each step of a stock `fit`, and what that costs and brings."""

from layerwise.blocks import Block, Blocks, partition
from layerwise.schedules import BlockCoordinate, GreedyLayerwise, Schedule, Simultaneous
from layerwise.steps import Look, Loss, Update
from layerwise.version import __version__ as __version__

__all__ = [
    "Block",
    "BlockCoordinate",
    "Blocks",
    "Comparison",
    "Data",
    "GreedyLayerwise",
    "Look",
    "Loss",
    "Probe",
    "Schedule",
    "Simultaneous",
    "Update",
    "compare",
    "diagnostics",
    "partition",
]


def __getattr__(name):
    # pandas plots and scipy load when they are first asked for, not with every training script
    if name in ("Probe", "diagnostics"):
        import importlib

        diagnostics = importlib.import_module("layerwise.diagnostics")
        return diagnostics if name == "diagnostics" else diagnostics.Probe
    if name in ("compare", "Comparison", "Data"):
        from layerwise import comparison

        return getattr(comparison, name)
    raise AttributeError(f"module 'layerwise' has no attribute {name!r}")
