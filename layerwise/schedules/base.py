"""Schedule: what decides which blocks move at each step, as a Keras callback."""

import abc
import collections
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd

from layerwise.backends import backend, calling
from layerwise.blocks import Blocks
from layerwise.schedules.config import Configurable, plain
from layerwise.schedules.rates import Rates
from layerwise.steps import Look, Update
from layerwise.training import Progress, Session, block_model_of, checks, leave
from layerwise.training.foresight import sharing


class Schedule(Configurable, keras.callbacks.Callback, abc.ABC):
    """Decides which blocks of a model move at each step of a stock `fit`.

    A new schedule writes one method, `updates`, and is passed to `fit` as a callback. All else (programs, step counts,
    saving, resuming, leaving) is done here. Arguments of its constructor are kept as attributes of the same name.

    A schedule may do three more things, each by one or two methods: give each block's learning rate a factor (`factors`),
    look at a batch before it decides (`looks`, `see`, `memory`), and train in stages (`stage_end`).

    Args:
        blocks: What `layerwise.partition(by=...)` takes.
        state: The optimizer's state at the start of a visit: "keep", "reset", or "drop" (reset, and memory is held for
            the moving blocks only).
        head: What builds the auxiliary heads that an Update's losses name: "linear", "mlp", a callable
            `block_output -> tensor`, or `None` for a schedule without heads.
        rates: Factors of the learning rate by block: `{name or index: number, or callable (epoch, step) -> number}`.
            Blocks that are not named have the factor 1. Decoupled weight decay follows the block's rate.
        seed: Decides all randomness of the schedule.

    Example: the last block alone on every other step.

    >>> import keras, layerwise, numpy as np
    >>> class EveryOther(layerwise.Schedule):
    ...     def updates(self, epoch, step):
    ...         everything = tuple(range(len(self.blocks)))
    ...         return (layerwise.Update(blocks=everything if step % 2 else everything[-1:]),)
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> schedule = EveryOther()
    >>> history = model.fit(np.ones((32, 4)), np.ones((32, 1)), batch_size=8, callbacks=[schedule], verbose=0)
    >>> [len(blocks) for blocks in schedule.visits["blocks"]]
    [1, 2, 1, 2]
    """

    def __init__(
        self,
        blocks: Any = "auto",
        state: str = "keep",
        head: Any = None,
        rates: Mapping[str | int, Any] | None = None,
        seed: int = 0,
    ):
        super().__init__()
        if state not in ("keep", "reset", "drop"):
            raise ValueError(f"state must be 'keep', 'reset' or 'drop', got {state!r}.")
        checks.check_seed(seed)
        self.by = blocks if isinstance(blocks, Blocks) else plain(blocks)
        self.state, self.head, self.seed = state, head, seed
        self.rates = None if rates is None else dict(Rates(rates).by_block)
        self._block_model: Any = None
        self._progress: Any = None
        self._session: Any = None

    # --- what a schedule decides

    @abc.abstractmethod
    def updates(self, epoch: int, step: int) -> tuple[Update, ...]:
        """The Updates that one batch brings about, one after another on the same batch.

        A pure function of the position (and of `memory`, where the schedule looks): randomness comes from `seed` and the
        position alone.

        Args:
            epoch: Epochs that the schedule has completed.
            step: Batches that the schedule has seen, over all epochs.

        Returns:
            A tuple of `Update`.
        """

    def meet(self, blocks: Any) -> None:
        """Called with the model's `Blocks` before anything is trained: what names blocks is checked here.

        Raises:
            ValueError: A name or index that is no block's.
        """
        if self.rates is not None:
            Rates(self.rates).resolve(blocks)

    def prepare(self, epochs: int) -> None:
        """Called before the first step with the number of epochs from the schedule's start to this fit's end.

        Raises:
            ValueError: The schedule cannot be carried out in so many.
        """

    def factors(self, epoch: int, step: int) -> dict[int, float]:
        """The factors of the blocks' learning rates for one batch: `{index: factor}`, 1 where there is none.

        They are inputs of the compiled programs, so that any value may come. A schedule that has factors of its own
        overrides this method; else they are those of the argument `rates`.
        """
        return {} if self.rates is None else Rates(self.rates).at(self.blocks, epoch, step)

    def looks(self, epoch: int, step: int) -> tuple[Look, ...]:
        """What to measure of a batch before `updates` is asked about it: a tuple of `Look`, () for nothing.

        A look costs a forward and a backward pass through the whole model, which `counts` holds and `flops` knows.
        """
        return ()

    def see(self, epoch: int, step: int, measured: dict[str, np.ndarray]) -> None:
        """Takes what was measured, `{quantity: array}`, and keeps in `memory` what later decisions need."""

    def sharing(self, update: Update) -> tuple[Update, ...]:
        """The Updates that share a compiled program with this one, itself included, always in the same order."""
        return (update,)

    def stage_end(self, epoch: int) -> int | None:
        """The epoch at which the stage that `epoch` belongs to is over and another begins; None if none does.

        Early stopping ends a stage, not the training.
        """
        return None

    @property
    def divides(self) -> bool:
        """Whether the model has to be divided into blocks."""
        return self.by is not None

    @property
    def rated(self) -> bool:
        """Whether the blocks' learning rates have factors: others than the number 1."""
        rates = (self.rates or {}).values()
        own = type(self).factors is not Schedule.factors
        return own or any(callable(rate) or rate != 1 for rate in rates)

    @property
    def can_look(self) -> bool:
        """Whether the schedule may look at batches: then it cannot say beforehand what it will do."""
        return type(self).looks is not Schedule.looks

    # --- what a user reads

    @property
    def blocks(self) -> Any:
        """The `Blocks` of the model, once the schedule has met it; before, the argument."""
        return self.by if self._block_model is None else self._block_model.blocks

    @property
    def heads(self) -> dict[int, keras.Model]:
        """`{k: keras.Model}`: the auxiliary head after block k."""
        return {} if self._block_model is None else self._block_model.heads

    @property
    def memory(self) -> dict[str, np.ndarray]:
        """What a schedule that looks remembers: `{name: NumPy array}`, saved and restored with the position."""
        return self._met(self._progress).memory

    @property
    def visits(self) -> pd.DataFrame:
        """What moved when: a frame with one row per visit.

        Columns: `visit` (number), `blocks` (names of all that moved), `epoch` and `step` (of the first batch, counted
        from the schedule's start), `steps` (batches), `updates` (optimizer steps).
        """
        if self._progress is None:
            columns = ["visit", "blocks", "epoch", "step", "steps", "updates"]
            return pd.DataFrame([], columns=columns)
        return self._progress.history.visits(self._block_model.block_names)

    @property
    def counts(self) -> collections.Counter:
        """How often each distinct `Update` ran since the start, and each `Look` was taken."""
        return collections.Counter() if self._progress is None else self._progress.history.counts

    @property
    def traces(self) -> collections.Counter:
        """How often each program of the compiled model was traced, whichever schedule asked for it.

        The keys are `(Updates that share it, whether it shows logs, whether it heeds learning-rate factors)`; those of
        programs of several batches (`steps_per_execution`) say what they hold: a tuple `steps` of such keys.
        """
        met = self._block_model
        return collections.Counter() if met is None else met.programs.traces

    @property
    def compile_seconds(self) -> float:
        """Seconds spent in calls that compiled a program since the start; on JAX these trace the next one, too."""
        return 0.0 if self._progress is None else self._progress.compile_seconds

    def optimizer_state_bytes(self) -> int:
        """Bytes of optimizer slots that are held now, those of auxiliary heads apart."""
        return self._met(self._block_model).optimizer_state_bytes()

    def flops(self, update: Update | Look, x: Any, y: Any) -> int:
        """Floating-point operations of one Update, or one Look, on the batch `(x, y)`, as the backend counts them."""
        if not isinstance(update, (Update, Look)):
            raise TypeError(f"flops takes an Update or a Look, got {update!r}.")
        shared: tuple = ()
        if isinstance(update, Update) and update.blocks is not None:
            shared = sharing(self, update)
        return self._met(self._block_model).flops(update, shared, x, y)

    def predict_on_batch(self, x: Any) -> Any:
        """Predictions of what is being trained: through the current stage's head, else the model's output."""
        progress = self._met(self._progress)
        position = progress.position
        update = progress.history.last or self.updates(position.epoch, position.step)[-1]
        return self._block_model.predict_on_batch(update, x)

    def build(self, model: keras.Model) -> None:
        """Meets a compiled model before `fit`, and builds its optimizer.

        With `state="drop"` the optimizer is built without memory for its slots, so that they are never allocated for
        blocks that rest. On TensorFlow `fit` does this by itself; on JAX and torch `fit` builds an optimizer that is not
        built yet, all slots with it, before any callback is called.

        Args:
            model: The compiled and built model.

        Raises:
            ValueError: As `fit` would raise it.
        """
        self._meet(model)
        if self.state == "drop":
            # Whoever trains the model before the schedule does finds slots with memory.
            Session(self, self._block_model, self._progress, None)

    def restart(self, seed: int | None = None) -> None:
        """Forgets the position and all that was learned (heads, step counts), and keeps the compiled programs."""
        self.seed = self.seed if seed is None else seed
        if self._progress is not None:
            leave(self._progress.model)
            self._progress = Progress(self._progress.model, self._block_model)
            self._block_model.restart(self._progress, self.seed)

    # --- what Keras calls

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if calling.evaluates(model):
            return
        callbacks = calling.callback_list()
        checks.check_one(Schedule, callbacks)
        self.arguments()
        if not model.built:
            backend.build(model, with_optimizer=self.state != "drop")
        self._meet(model)
        self._session = Session(self, self._block_model, self._progress, callbacks)

    def on_train_begin(self, logs: Any = None) -> None:
        self._session.enter(self.params)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        try:
            self._session.begin_epoch(epoch)
        except Exception:
            self._session.leave()
            raise

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._session.check_entered()

    def on_test_begin(self, logs: Any = None) -> None:
        if self._session is not None:
            self._session.begin_test()

    def on_test_end(self, logs: Any = None) -> None:
        if self._session is not None:
            self._session.end_test()

    def on_train_end(self, logs: Any = None) -> None:
        self._session.finish()

    def _meet(self, model):
        leave(model, going_on=self._block_model if self.state == "drop" else None)
        checks.check_compiled(model)
        if self.divides:
            checks.check_model(model)
        self._block_model = block_model_of(self, model, self._block_model, self._progress)
        if self._progress is None or self._progress.model is not model:
            self._progress = Progress(model, self._block_model)
        if self.divides:
            self.meet(self.blocks)

    def _met(self, met):
        if met is None:
            raise ValueError("The schedule has met no model yet: pass it to fit(callbacks=[...]).")
        return met
