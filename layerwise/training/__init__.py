"""How a schedule trains a model in a stock `fit`: enters, takes each batch its way, and leaves."""

from layerwise.training.block_model import block_model_of
from layerwise.training.progress import Progress
from layerwise.training.session import Session, leave

__all__ = ["Progress", "Session", "block_model_of", "leave"]
