"""The user's optimizer, seen block by block: a step count for each, and what becomes of its state at visits."""

from layerwise.optimizers.block_optimizer import BlockOptimizer, check_optimizer
from layerwise.optimizers.slots import Slots, StateAtVisits

__all__ = ["BlockOptimizer", "Slots", "StateAtVisits", "check_optimizer"]
