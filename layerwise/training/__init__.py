"""How a schedule trains a model in a stock `fit`: enters, takes each batch its way, and leaves."""

from layerwise.training.block_model import BlockModel
from layerwise.training.progress import Progress
from layerwise.training.session import Session, leave

__all__ = ["BlockModel", "Progress", "Session", "leave"]
