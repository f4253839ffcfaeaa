"""The schedules, one family a file."""

from layerwise.schedules.base import Schedule
from layerwise.schedules.block_coordinate import BlockCoordinate
from layerwise.schedules.greedy import GreedyLayerwise
from layerwise.schedules.simultaneous import Simultaneous

__all__ = ["BlockCoordinate", "GreedyLayerwise", "Schedule", "Simultaneous"]
