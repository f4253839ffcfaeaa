"""The compiled programs of a model, found again by the Updates that share them."""

import collections
import time
from collections.abc import Callable
from typing import Any

import keras

from layerwise.backends import ExecutionSpec, backend
from layerwise.training.execution import Held


class Programs:
    """The programs of one compiled model, shared by all schedules that train it.

    Args:
        model: The compiled model.
        make_spec: `make_spec(updates, shows, rated)`: the `StepSpec` of a program.

    Attributes:
        traces: How often each program was traced, by its key: the Updates that share it, whether it shows logs, and whether
            it heeds learning-rate factors; of an execution, what it holds.
    """

    def __init__(self, model: keras.Model, make_spec: Callable):
        self._model, self._make_spec = model, make_spec
        self._programs: dict[Any, Any] = {}
        self._ran: set[Any] = set()
        self.traces: collections.Counter = collections.Counter()

    def __contains__(self, key: Any) -> bool:
        return key in self._programs

    def get(self, key: Any) -> Callable:
        """The program of a key, `(updates, shows, rated)` or a `Held`, made when first asked for."""
        if key not in self._programs:
            self._programs[key] = self._made(key)
        return self._programs[key]

    def known(self, kind: type) -> list:
        """The keys of a kind."""
        return [key for key in self._programs if isinstance(key, kind)]

    def is_new(self, key: Any) -> bool:
        """Whether a program has not run yet."""
        return key not in self._ran

    def _made(self, key):
        if not isinstance(key, Held):
            return backend.program(self._make_spec(*key))

        def traced():
            self.traces[key] += 1

        steps = tuple(self.get(step) for step in key.steps)
        return backend.execution(ExecutionSpec(self._model, steps, traced))

    def run(self, key: Any, program: Any, call: Callable) -> tuple[Any, float]:
        """Calls a program.

        Args:
            key: The program's key.
            program: The program.
            call: `call(program)` calls it with its arguments.

        Returns:
            What it returned, and the seconds of the call if it compiled the program, else 0.
        """
        new, traces = key not in self._ran, self.traces[key]
        if new:
            backend.settle(self._model)  # what earlier steps still compute is not compiling
        start = time.perf_counter()
        result = call(program)
        if not new and (self.traces[key] == traces or self._model.run_eagerly):
            return result, 0.0
        backend.wait(result)
        self._ran.add(key)
        return result, time.perf_counter() - start
