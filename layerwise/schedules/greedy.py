"""Greedy layer-wise training: each block under a head of its own, then frozen."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from layerwise.features import fit_with_features
from layerwise.schedules.base import Schedule
from layerwise.steps import Loss, Update


@keras.saving.register_keras_serializable("layerwise")
class GreedyLayerwise(Schedule):
    """Trains the blocks from the input side, each under its own auxiliary head, and freezes it.

    Stage k computes `L(head_k(f_k(...f_1(x))), y)` and moves f_k and head_k. The finished blocks run in inference mode,
    and nothing beyond the block and its head is computed. The last stage uses the model's own output. Loss and metrics,
    in training and validation, are those of the stage, and the logs say which `stage` it was; losses of different stages
    cannot be compared, so `EarlyStopping` ends a stage (not the training), and monitors start afresh at each: the best
    value that they end with is the last stage's. A further fit with the same object goes on with the last stage; a new
    object begins with the first.

    Args:
        blocks: What `layerwise.partition(by=...)` takes; the blocks must lie between cut points.
        epochs_per_block: `None` shares fit's epochs, less `finetune_epochs`, out evenly, earlier stages first; or an int,
            or one int per block: then they must add up to fit's epochs.
        head: "linear", "mlp", or a callable `block_output -> tensor` that makes new layers at each call. A model that ends
            in a layer made of others, whose activation nobody can know, needs a callable.
        finetune_epochs: Epochs in which all blocks move together, after the stages.
        seed: Decides the heads' initial weights.

    Raises:
        ValueError: For epochs that do not add up, a model with several outputs or without cut points, or a head that does
            not fit.

    References:
        Bengio et al., Greedy layer-wise training of deep networks (2007); Belilovsky et al., Greedy layerwise learning can
        scale to ImageNet (2019), for auxiliary heads.

    Example:
    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(1, name="b")])
    >>> model.compile(optimizer="adam", loss="mse")
    >>> schedule = layerwise.GreedyLayerwise(finetune_epochs=1)
    >>> history = model.fit(np.ones((8, 4)), np.ones((8, 1)), epochs=4, callbacks=[schedule], verbose=0)
    >>> schedule.visits[["blocks", "epoch", "steps"]].values.tolist()
    [[('a',), 0, 2], [('b',), 2, 1], [('a', 'b'), 3, 1]]
    >>> history.history["stage"]
    [0.0, 0.0, 1.0, 2.0]
    """

    def __init__(
        self,
        blocks: Any = "auto",
        epochs_per_block: int | Sequence[int] | None = None,
        head: str | Callable = "linear",
        finetune_epochs: int = 0,
        seed: int = 0,
    ):
        super().__init__(blocks=blocks, head=head, seed=seed)
        if not callable(head) and head not in ("linear", "mlp"):
            raise ValueError(
                f"head must be 'linear', 'mlp' or a callable block_output -> tensor, got {head!r}."
            )
        if blocks is None:
            raise ValueError(
                "blocks must be 'auto', an int or a list of lists of layer names, got None."
            )
        if isinstance(epochs_per_block, (list, tuple)):
            epochs_per_block = list(epochs_per_block)
        for epochs in np.ravel([] if epochs_per_block is None else epochs_per_block):
            if not isinstance(epochs, (int, np.integer)) or epochs < 1:
                raise ValueError(
                    f"epochs_per_block must be None, a positive int, or one positive int per block, "
                    f"got {epochs_per_block!r}."
                )
        if (
            isinstance(finetune_epochs, bool)
            or not isinstance(finetune_epochs, int)
            or finetune_epochs < 0
        ):
            raise ValueError(
                f"finetune_epochs must be an int of at least 0, got {finetune_epochs!r}."
            )
        self.epochs_per_block, self.finetune_epochs = epochs_per_block, finetune_epochs
        self._ends: list[int] = []

    def fit(
        self,
        model: keras.Model,
        x: Any = None,
        y: Any = None,
        cache_features: str | None = "memory",
        callbacks: Any = None,
        **arguments: Any,
    ) -> keras.callbacks.History:
        """Runs `model.fit` under this schedule, each finished block's features computed once per stage.

        The same batches give the same weights as the schedule as a callback does, to float32 rounding: it is one stock
        `fit` of the same data. From the second stage on, a step takes `F_k = f_{k-1}(...f_0(x))` from a cache instead of
        running the finished blocks. The cache finds an example by its content, so that arrays and datasets may be
        shuffled; validation data is cached too. The features of a stage are computed from those of the stage before, in
        the stage's first epoch, and these are dropped as soon as all are. While they are computed, the cache holds both:
        up to `examples * (features of block k-1 + features of block k)` numbers.

        Args:
            model: The compiled model.
            x: As for `model.fit`: arrays, a `tf.data.Dataset`, a `keras.utils.PyDataset`, or another dataset that can be
                iterated again.
            y: As for `model.fit`.
            cache_features: "memory"; "disk", memory-mapped files in a temporary directory (where the environment
                variable TMPDIR says), which is removed afterwards, also after an exception or Ctrl-C; or `None` for no
                cache, which is `model.fit(..., callbacks=[self])`.
            callbacks: As for `model.fit`. They see one run.
            arguments: All other arguments of `model.fit`.

        Returns:
            The `keras.callbacks.History` of the run.

        Raises:
            TypeError: `model` is no `keras.Model`, or x is missing.
            ValueError: Where cached features would be wrong or of no use: x is a generator, a dataset whose first batch
                differs when it is looked at again (augmentation), or a finished block is random in inference. (Examples
                that differ later on are taken for new ones and computed: that is right, but saves nothing.) Also for a
                model with its own `compute_metrics` or on several devices, and all that the schedule itself raises.

        Example:
        >>> import keras, layerwise, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
        >>> model.compile(optimizer="adam", loss="mse")
        >>> x, y = np.ones((8, 4)), np.ones((8, 1))
        >>> schedule = layerwise.GreedyLayerwise()
        >>> history = schedule.fit(model, x, y, cache_features="memory", epochs=4, verbose=0)
        >>> history.epoch, history.history["stage"]
        ([0, 1, 2, 3], [0.0, 0.0, 1.0, 1.0])
        """
        return fit_with_features(self, model, x, y, cache_features, callbacks, **arguments)

    def prepare(self, epochs: int) -> None:
        """Lays the stages out over the epochs."""
        self._ends = list(itertools.accumulate(self._plan(epochs, len(self.blocks))))

    def _plan(self, epochs, n):
        plan = self.epochs_per_block
        if plan is None:
            each, more = divmod(epochs - self.finetune_epochs, n)
            if each < 1:
                raise ValueError(
                    f"{n} blocks need at least one epoch each: {n} + {self.finetune_epochs} of fine-tuning, but fit runs "
                    f"{epochs}. Pass fit(epochs={n + self.finetune_epochs}) or more (on top of initial_epoch), or fewer "
                    "blocks (blocks=<int>)."
                )
            return [each + (k < more) for k in range(n)]
        plan = [plan] * n if isinstance(plan, (int, np.integer)) else plan
        if len(plan) != n:
            raise ValueError(
                f"epochs_per_block has {len(plan)} entries, the model has {n} blocks: give one for each."
            )
        if sum(plan) + self.finetune_epochs != epochs:
            raise ValueError(
                f"epochs_per_block ({'+'.join(map(str, plan))}) and finetune_epochs ({self.finetune_epochs}) add up to "
                f"{sum(plan) + self.finetune_epochs}, but fit runs {epochs} epochs. Pass fit(epochs="
                f"{sum(plan) + self.finetune_epochs}) (on top of initial_epoch), or epochs_per_block=None to share fit's "
                "epochs out."
            )
        return plan

    def updates(self, epoch: int, step: int) -> tuple[Update, ...]:
        n = len(self.blocks)
        ends = self._ends or [1] * n  # before the first fit knows its epochs: the first stage
        stage = sum(epoch >= end for end in ends)
        if stage >= n and not self.finetune_epochs:
            stage = n - 1  # a further fit goes on with the last stage
        if stage >= n:
            return (Update(blocks=tuple(range(n)), visit=n),)
        loss = Loss(after=stage if stage < n - 1 else None)
        return (Update(blocks=(stage,), losses=(loss,), frozen_below=stage, visit=stage),)

    def stage_end(self, epoch: int) -> int | None:
        """The epoch at which the next block's stage, or the fine-tuning, begins."""
        ends = self._ends if self.finetune_epochs else self._ends[:-1]
        return next((end for end in ends if end > epoch), None)
