"""A model's layer graph with nested models entered, and where it can be cut.

Where exactly one tensor that depends on something learned is alive, the graph can be cut: all that
comes after is a function of that tensor and of the model's inputs.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from layerwise.backends import internals


def has_graph(operation: Any) -> bool:
    """Whether this is a Functional or built Sequential model that runs its own layer graph."""
    graphed = isinstance(operation, (keras.Function, keras.Sequential))
    if not (graphed and isinstance(operation, keras.Model)):
        return False
    # A subclass that overrides `call` need not follow its graph.
    by_keras = type(operation).call.__module__.partition(".")[0] == "keras"
    return by_keras and bool(getattr(operation, "outputs", None))


def _nodes(model: keras.Model) -> list:
    """The calls that lead from a model's inputs to its outputs, in topological order."""
    inputs = {id(tensor) for tensor in model.inputs}
    order, entered = [], set()
    stack = [(tensor, False) for tensor in reversed(model.outputs)]
    while stack:
        tensor, finished = stack.pop()
        if id(tensor) in inputs:
            continue
        _, node = internals.history(tensor)
        if finished:
            order.append(node)
        elif id(node) not in entered:
            entered.add(id(node))
            stack.append((tensor, True))
            stack.extend((tensor, False) for tensor in reversed(node.input_tensors))
    return order


@dataclass(frozen=True, eq=False)
class Call:
    """One call of an operation. Tensors have numbers, the model's inputs the first ones."""

    operation: Any  # a Keras operation, or a function that converts one tensor
    path: str
    arguments: Any  # of the call as recorded; None for a conversion
    inputs: dict[int, int]  # id of the recorded symbolic tensor -> number
    outputs: tuple[int, ...]

    def run(self, values: dict[int, Any], training: bool | None = None) -> list:
        """Repeat the call on other tensors, given by number."""
        if self.arguments is None:
            return [self.operation(*(values[number] for number in self.inputs.values()))]
        args, kwargs = self.arguments.fill_in(
            {key: values[number] for key, number in self.inputs.items()}
        )
        if training is not None and "training" in kwargs:
            kwargs["training"] = training
        return keras.tree.flatten(self.operation(*args, **kwargs))


class Graph:
    """The calls of a model in topological order, nested models entered, and where it can be cut.

    Attributes:
        tensors: symbolic tensor (its shape and dtype) of each number.
        calls: the calls.
        outputs: numbers of the model's outputs.
        used: for each call, whether an output depends on it.
        cuts: `(call, tensor)` of each cut point: after this call, this tensor is all that is
            alive of what depends on something learned.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.tensors = list(model.inputs)
        self.calls: list[Call] = []
        counts: Counter = Counter()
        _count_calls(model, counts)
        self.outputs = self._enter(model, list(range(len(self.tensors))), "", counts)
        self.producers = {t: i for i, call in enumerate(self.calls) for t in call.outputs}
        self.used, self.cuts = self._cut()

    def _enter(self, model: keras.Model, given: list[int], path: str, counts: Counter) -> list[int]:
        numbers = {
            id(tensor): self._convert(number, tensor, path)
            for tensor, number in zip(model.inputs, given, strict=True)
        }
        for node in _nodes(model):
            inputs = {id(tensor): numbers[id(tensor)] for tensor in node.input_tensors}
            inside = path + node.operation.name
            if counts[id(node.operation)] == 1 and _can_enter(node):
                arguments = [numbers[id(t)] for t in keras.tree.flatten(_given(node))]
                outputs = self._enter(node.operation, arguments, inside + "/", counts)
            else:
                outputs = [self._number(tensor) for tensor in node.outputs]
                self.calls.append(
                    Call(node.operation, inside, node.arguments, inputs, tuple(outputs))
                )
            numbers.update(zip(map(id, node.outputs), outputs, strict=True))
        return [numbers[id(tensor)] for tensor in model.outputs]

    def _number(self, tensor: keras.KerasTensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def _convert(self, number: int, wanted: keras.KerasTensor, path: str) -> int:
        """A nested model converts what it is given to the dtype of its input."""
        given = self.tensors[number]
        if given.dtype == wanted.dtype:
            return number
        output = self._number(wanted)
        convert = _converter(given.dtype, wanted.dtype)
        self.calls.append(Call(convert, path, None, {id(given): number}, (output,)))
        return output

    def _cut(self) -> tuple[list[bool], list[tuple[int, int]]]:
        last_use = dict.fromkeys(self.outputs, len(self.calls))
        used = [False] * len(self.calls)
        for position in reversed(range(len(self.calls))):
            call = self.calls[position]
            used[position] = any(tensor in last_use for tensor in call.outputs)
            if used[position]:
                for tensor in call.inputs.values():
                    last_use.setdefault(tensor, position)

        trainable = {id(variable) for variable in self.model.trainable_variables}
        learned: set[int] = set()  # tensors that depend on a trainable variable (or on chance)
        alive: set[int] = set()
        cuts: list[tuple[int, int]] = []
        for position, call in enumerate(self.calls):
            if _learns(call.operation, trainable) or not learned.isdisjoint(call.inputs.values()):
                learned.update(call.outputs)
                alive.update(tensor for tensor in call.outputs if tensor in last_use)
            alive = {tensor for tensor in alive if last_use[tensor] > position}
            if len(alive) == 1 and (not cuts or cuts[-1][1] not in alive):
                cuts.append((position, next(iter(alive))))
        return used, cuts


def _count_calls(model: keras.Model, counts: Counter) -> None:
    for node in _nodes(model):
        counts[id(node.operation)] += 1
        if counts[id(node.operation)] == 1 and has_graph(node.operation):
            _count_calls(node.operation, counts)


def _given(node: Any) -> tuple:
    """What a nested model is called with, by position or as `inputs=`."""
    args, kwargs = node.arguments.args, node.arguments.kwargs
    return (*args, kwargs["inputs"]) if "inputs" in kwargs else args


def _can_enter(node: Any) -> bool:
    """Whether the calls inside a nested model can stand for this call of it."""
    nested, args, kwargs = node.operation, _given(node), dict(node.arguments.kwargs)
    kwargs.pop("inputs", None)
    # Keras records the mask a tensor carries as an argument; the tensor still carries it inside.
    kwargs.pop("mask", None)
    # training=True for the nested model alone has no counterpart in its layers' recorded calls.
    if not has_graph(nested) or kwargs.pop("training", None) or kwargs or len(args) != 1:
        return False
    given = keras.tree.flatten(args[0])
    expected = nested.input if isinstance(nested, keras.Function) else nested.inputs
    if isinstance(args[0], dict) or isinstance(expected, dict):
        matches = isinstance(args[0], dict) and isinstance(expected, dict)
        if not matches or set(args[0]) != set(expected):
            return False
    return len(given) == len(nested.inputs) and all(
        isinstance(tensor, keras.KerasTensor) and len(tensor.shape) == len(inner.shape)
        for tensor, inner in zip(given, nested.inputs, strict=True)
    )


def _converter(given: str, wanted: str) -> Callable:
    if "float" in given and "float" in wanted:
        # Unlike a cast, a layer hands on the mask of its input.
        return lambda tensor: keras.layers.Identity(dtype=wanted)(tensor)
    return functools.partial(keras.ops.cast, dtype=wanted)


def _learns(operation: Any, trainable: set[int]) -> bool:
    """Whether what an operation returns depends on trainable variables, or is drawn by chance.

    What is drawn by chance must not be drawn a second time on the other side of a cut.
    """
    if not isinstance(operation, keras.Layer):
        return False
    weights = {id(variable) for variable in operation.weights}
    return any(id(v) in trainable or id(v) not in weights for v in operation.variables)
