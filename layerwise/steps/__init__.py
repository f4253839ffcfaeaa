"""What one optimizer step is: which blocks move, which losses it descends, and how the losses are computed."""

from layerwise.steps.update import Look, Loss, Update

__all__ = ["Look", "Loss", "Update"]
