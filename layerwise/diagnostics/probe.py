"""Probe: the quantities of a step, measured in anyone's `fit`."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import pandas as pd

from layerwise.backends import backend, calling, internals
from layerwise.blocks import partition
from layerwise.diagnostics import batches, checks
from layerwise.diagnostics.quantities import QUANTITIES, reversals
from layerwise.diagnostics.record import Record, keys_of
from layerwise.diagnostics.step import Step
from layerwise.steps import Update


class Probe(keras.callbacks.Callback):
    """Measures quantities of the step that training would take next, in any `fit`, with or without a schedule.

    Training is not changed: weights, optimizer, seeds and metrics are bit for bit those without the Probe. Its place among
    the callbacks does not matter.

    At a step that is due, when the batch has been trained on, a `Step` is made of the model as it is then; all blocks move
    in it, also where a schedule moves one at a time, so that schedules can be compared; under greedy it is the stage's own
    step. `steps` are batches, counted over all epochs and fits from 1; a step 0 that is due is measured before the first
    batch, with `data`. A further fit of the same model goes on counting; with another model the frame begins anew.

    At the end of an epoch the logs hold the last value of each scalar, as "quantity/measure" (the row of "all", else the
    mean over the blocks; NaN before the first), which History, TensorBoard, CSVLogger and the like show; those of a second
    Probe in the list begin with "probe_1/".

    Args:
        quantities: Names (`layerwise.diagnostics.QUANTITIES`), or functions of a `Step` that return a frame, for example
            `functools.partial(layerwise.diagnostics.linearization, multiples=(1, 10))`.
        every: A positive int: every so many steps; a list of steps; or a callable `step -> bool`, asked once a step.
        data: `(x, y)` or `(x, y, sample_weight)`, the batch to measure on; None: the batch just trained.
        blocks: What `layerwise.partition(by=...)` takes.
        chunk_size: The most examples that go through the model at once, as for a `Step`.

    Attributes:
        frame: What was measured: one row a number. Columns: `epoch` (Keras' own), `step`, `update` (optimizer steps so
            far), `quantity`, `block` ("all" where it is about no single one), `other` (the other block of a pair, or the
            multiple or radius), `measure`, `value`, `passes` (forward, backward and Hessian-vector passes that the quantity
            took; what an earlier one of the same step has computed is not computed again).
        seconds: Seconds that measuring took; they are no training time.

    Raises:
        TypeError: A quantity is neither name nor function.
        ValueError: An unknown quantity, an `every` that is none of the above; when `fit` begins: a model that is not built
            or has no blocks, a batch that does not fit the model, or the same Probe twice in the list.

    Example:
    >>> import keras, layerwise, numpy as np
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    >>> model.compile(optimizer="sgd", loss="mse")
    >>> x, y = np.ones((32, 4)), np.ones((32, 1))
    >>> probe = layerwise.Probe(quantities=("interaction",), every=2, data=(x, y))
    >>> history = model.fit(x, y, batch_size=8, callbacks=[probe], verbose=0)
    >>> probe.frame.query("measure == 'additivity'")[["epoch", "step", "update", "quantity", "passes"]]
        epoch  step  update     quantity  passes
    3       0     0       0  interaction       3
    8       0     2       2  interaction       3
    13      0     4       4  interaction       3
    >>> "interaction/additivity" in history.history
    True
    """

    def __init__(
        self,
        quantities: Sequence[str | Callable[[Step], pd.DataFrame]] = (
            "interaction",
            "gauss_seidel",
        ),
        every: int | Iterable[int] | Callable[[int], bool] = 100,
        data: Any = None,
        blocks: Any = "auto",
        chunk_size: int | None = None,
    ):
        super().__init__()
        self.quantities = checks.quantities(quantities, QUANTITIES)
        self.every, self.by, self.chunk_size = every, blocks, chunk_size
        self._due = checks.cadence(every)
        self.data = checks.probe_data(data)
        self.seconds = 0.0
        self._record, self._epoch, self._first = Record(), 0, 0
        self._probed: Any = None
        self._taken: Any = None
        self._before: Any = None
        self._dues: dict[int, bool] = {}  # of the steps that the execution that runs may hold

    @property
    def frame(self) -> pd.DataFrame:
        return self._record.frame

    # --- what Keras calls

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        if calling.evaluates(model):
            return
        listed = calling.callback_list()
        probes = [c for c in listed.callbacks if isinstance(c, Probe)] if listed else [self]
        checks.check_once(self, probes)
        if not model.built:
            backend.build(model)
        checks.check_model(model)
        if reversals in self.quantities.values():
            checks.check_single_steps(model)
        data: Any = (None, None, None)
        if self.data is None:
            checks.check_executions(model)
        else:
            data = batches.batch(model, *keras.utils.unpack_x_y_sample_weight(self.data))
        if self.chunk_size is not None:
            batches.check_chunks(model, self.chunk_size, data)
        self._blocks = partition(model, self.by, argument="blocks")
        if self._probed is not None and self._probed is not model:
            self._record, self._dues = Record(), {}
        number = probes.index(self)
        self._probed, self._place = model, f"_layerwise_probe_{number}"
        internals.attach(model, self._record, self._place)
        if listed is not None:
            # Whatever reads logs at the end of an epoch comes after this. A new list: Keras goes through the old one now.
            logs = _Logs(self._record, self.quantities, f"probe_{number}/" if number else "")
            listed.callbacks = [logs, *listed.callbacks]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        record = self._record
        if record.step == 0 and self.data is not None and self._due(0) and not record.measured(0):
            self._measure(self.data)
        self._first = batch
        # Asked once: a callable may answer otherwise when it is asked again.
        known, steps = self._dues, _after(record.step, self._probed.steps_per_execution)
        self._dues = {k: known[k] if k in known else bool(self._due(k)) for k in steps}
        if not any(self._dues.values()):
            return
        if reversals in self.quantities.values():
            variables = self.model.trainable_variables  # on JAX this fetches the weights from fit
            self._before = {id(v): np.array(backend.to_numpy(v), "float64") for v in variables}
        if self.data is None:
            self._tap()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # With several steps per execution, Keras counts those that the last one of an epoch lacks.
        last = min(batch, (self.params.get("steps") or batch + 1) - 1)
        count = last - self._first + 1
        steps = _after(self._record.step, count)
        self._record.step += count
        if any(self._dues[step] for step in steps):
            data, self._taken = self._taken if self.data is None else self.data, None
            self._measure(data)
        self._before = None

    def on_train_end(self, logs: Any = None) -> None:
        internals.detach(self._probed, self._place)

    # --- inside

    def _tap(self):
        """Lets the next call of the train function tell which batch it trains on: this one call."""
        model, function = self._probed, self._probed.train_function

        def take(data):
            model.train_function = function
            self._taken = data

        model.train_function = backend.tap(function, take)

    def _measure(self, data):
        start = time.perf_counter()
        model = self.model  # on JAX this fetches the state from fit
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(tuple(data))
        session = checks.session_of(model)
        update, updates = None, self._record.step
        if session is not None:
            current = session.current_update()
            update = current if current.by_blocks else None
            counts = session.progress.history.counts
            updates = sum(n for key, n in counts.items() if isinstance(key, Update))
        with np.errstate(all="ignore"):
            step = Step(
                model, x, y, sample_weight, self._blocks, update, chunk_size=self.chunk_size
            )
            place = self._epoch, self._record.step, _moves(model.optimizer, updates)
            for name, quantity in self.quantities.items():
                before = step.passes.total
                found = quantity(step, self._before) if quantity is reversals else quantity(step)
                found = checks.check_found(name, found, keys_of)
                self._record.add(place, name, found, step.passes.total - before)
        self.seconds += time.perf_counter() - start


def _after(step, count):
    """The numbers of so many steps after one."""
    return range(step + 1, step + 1 + count)


def _moves(optimizer, steps):
    """How often an optimizer has moved weights in its last so many steps: not in those that accumulate gradients."""
    rule = getattr(optimizer, "inner_optimizer", optimizer)
    every = rule.gradient_accumulation_steps
    if not every:
        return steps
    counted = int(backend.to_numpy(rule.variables[0]))  # of steps; `iterations` is that of moves
    return counted // every - (counted - steps) // every


class _Logs(keras.callbacks.Callback):
    """Puts the last values of a Probe's scalars into the logs, before any other callback sees these."""

    async_safe = True

    def __init__(self, record, quantities, prefix):
        super().__init__()
        self._record, self._prefix = record, prefix
        self._known = {
            f"{name}/{measure}": float("nan")
            for name, quantity in quantities.items()
            if set(getattr(quantity, "by", ("?",))) <= {"block"}
            for measure in quantity.measures
        }

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            values = self._known | self._record.latest
            logs.update({f"{self._prefix}{name}": value for name, value in values.items()})
