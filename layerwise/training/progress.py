"""How far a schedule has come with a model: what lasts from one `fit` to the next, also over a `compile`."""

from typing import Any

from layerwise.steps.normalization import MovingAverages
from layerwise.training.history import History
from layerwise.training.position import Position


class Progress:
    """What a schedule has done with a model so far.

    Args:
        model: The model.
        block_model: The `BlockModel` that it is trained as.

    Attributes:
        position: The `Position`.
        history: The `History`.
        memory: What a schedule that looks remembers: `{name: NumPy array}`.
        averages: The `MovingAverages` of blocks that will be frozen.
        compile_seconds: Seconds spent in calls that compiled a program.
        heads: The values of the heads and their optimizers, while another schedule trains them; None otherwise.
    """

    def __init__(self, model: Any, block_model: Any):
        self.model = model
        self.paths = {id(v): v.path for block in block_model.blocks for v in block.variables}
        self.position, self.history = Position(), History()
        self.memory: dict[str, Any] = {}
        self.averages = MovingAverages(block_model.blocks if block_model.heads else ())
        self.compile_seconds = 0.0
        self.heads: list | None = None

    def add_compiling(self, seconds: float) -> None:
        """So many seconds were spent in a call that compiled a program."""
        self.compile_seconds += seconds
