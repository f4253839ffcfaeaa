"""A model's layer graph with nested models entered, where it can be cut, and a model of each part.

Where exactly one tensor that depends on something learned is alive, the graph can be cut: all that
comes after is a function of that tensor and of the model's inputs.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras


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
        history = tensor._keras_history
        node = history.operation._inbound_nodes[history.node_index]
        if finished:
            order.append(node)
        elif id(node) not in entered:
            entered.add(id(node))
            stack.append((tensor, True))
            stack.extend((tensor, False) for tensor in reversed(node.input_tensors))
    return order


@dataclass(frozen=True, eq=False)
class Step:
    """One call of an operation. Tensors have numbers, the model's inputs the first ones."""

    operation: Callable
    path: str
    arguments: Any  # of the call as recorded; None for a conversion of one tensor
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
        steps: the calls.
        outputs: numbers of the model's outputs.
        used: for each step, whether an output depends on it.
        cuts: `(step, tensor)` of each cut point: after this step, this tensor is all that is
            alive of what depends on something learned.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.tensors = list(model.inputs)
        self.steps: list[Step] = []
        calls: Counter = Counter()
        _count_calls(model, calls)
        self.outputs = self._enter(model, list(range(len(self.tensors))), "", calls)
        self.producers = {t: i for i, step in enumerate(self.steps) for t in step.outputs}
        self.used, self.cuts = self._cut()

    def _enter(self, model: keras.Model, given: list[int], path: str, calls: Counter) -> list[int]:
        numbers = {
            id(tensor): self._convert(number, tensor, path)
            for tensor, number in zip(model.inputs, given, strict=True)
        }
        for node in _nodes(model):
            inputs = {id(tensor): numbers[id(tensor)] for tensor in node.input_tensors}
            inside = path + node.operation.name
            if calls[id(node.operation)] == 1 and _can_enter(node):
                arguments = [numbers[id(t)] for t in keras.tree.flatten(node.arguments.args)]
                outputs = self._enter(node.operation, arguments, inside + "/", calls)
            else:
                outputs = [self._number(tensor) for tensor in node.outputs]
                self.steps.append(
                    Step(node.operation, inside, node.arguments, inputs, tuple(outputs))
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
        self.steps.append(Step(convert, path, None, {id(given): number}, (output,)))
        return output

    def _cut(self) -> tuple[list[bool], list[tuple[int, int]]]:
        last_use = dict.fromkeys(self.outputs, len(self.steps))
        used = [False] * len(self.steps)
        for position in reversed(range(len(self.steps))):
            step = self.steps[position]
            used[position] = any(tensor in last_use for tensor in step.outputs)
            if used[position]:
                for tensor in step.inputs.values():
                    last_use.setdefault(tensor, position)

        trainable = {id(variable) for variable in self.model.trainable_variables}
        learned: set[int] = set()  # tensors that depend on a trainable variable (or on chance)
        alive: set[int] = set()
        cuts: list[tuple[int, int]] = []
        for position, step in enumerate(self.steps):
            if _learns(step.operation, trainable) or not learned.isdisjoint(step.inputs.values()):
                learned.update(step.outputs)
                alive.update(tensor for tensor in step.outputs if tensor in last_use)
            alive = {tensor for tensor in alive if last_use[tensor] > position}
            if len(alive) == 1 and (not cuts or cuts[-1][1] not in alive):
                cuts.append((position, next(iter(alive))))
        return used, cuts


def _count_calls(model: keras.Model, calls: Counter) -> None:
    for node in _nodes(model):
        calls[id(node.operation)] += 1
        if calls[id(node.operation)] == 1 and has_graph(node.operation):
            _count_calls(node.operation, calls)


def _can_enter(node: Any) -> bool:
    """Whether the calls inside a nested model can stand for this call of it."""
    nested, args, kwargs = node.operation, node.arguments.args, dict(node.arguments.kwargs)
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


class Segment:
    """The part of a graph from one cut tensor (None: the inputs) to another (None: the outputs)."""

    def __init__(self, graph: Graph, start: int | None, stop: int | None):
        self.graph, self.start, self.stop = graph, start, stop

    @property
    def is_whole_model(self) -> bool:
        return self.start is None and self.stop is None

    @property
    def model_inputs(self) -> tuple[int, ...]:
        if self.is_whole_model:
            return tuple(range(len(self.graph.model.inputs)))
        return self._needed[1]

    @functools.cached_property
    def _needed(self) -> tuple[list[int], tuple[int, ...]]:
        """Steps (in order) and model inputs between the two cut tensors."""
        steps, inputs, seen = set(), set(), {self.start}
        stack = list(self.graph.outputs) if self.stop is None else [self.stop]
        while stack:
            tensor = stack.pop()
            if tensor in seen:
                continue
            seen.add(tensor)
            position = self.graph.producers.get(tensor)
            if position is None:
                inputs.add(tensor)
            else:
                steps.add(position)
                stack.extend(self.graph.steps[position].inputs.values())
        return sorted(steps), tuple(sorted(inputs))

    def build(self, name: str) -> keras.Model:
        model = self.graph.model
        if self.is_whole_model:
            return model
        steps = [self.graph.steps[position] for position in self._needed[0]]
        names = {model.inputs[index].name: None for index in self.model_inputs}
        names |= {step.operation.name: step.operation for step in reversed(steps) if step.arguments}
        values = {index: model.inputs[index] for index in self.model_inputs}
        entries = list(values.values())
        if self.start is not None:
            cut = self.graph.tensors[self.start]
            values[self.start] = keras.Input(
                batch_shape=cut.shape,
                dtype=cut.dtype,
                sparse=cut.sparse,
                name=fresh(f"{name}_features", names),
            )
            entries.insert(0, values[self.start])
        for step in steps:
            if not step.arguments or names[step.operation.name] is step.operation:
                outputs = step.run(values)
            else:
                # Two nested models may have layers of the same name; one model may not.
                replay = _Replay(step, self.graph, fresh(step.operation.name, names))
                outputs = keras.tree.flatten(replay([values[t] for t in step.inputs.values()]))
            values.update(zip(step.outputs, outputs, strict=True))
        if self.stop is None:
            results = pack(model, "output", [values[tensor] for tensor in self.graph.outputs])
        else:
            results = values[self.stop]
        submodel = keras.Model(entries, results, name=name)
        # The layers inside set the masks of the outputs. By default Keras would warn that a mask
        # that comes in is lost, which it is not.
        submodel.supports_masking = True
        submodel.compute_mask = lambda inputs, previous_mask: None
        return submodel


class _Replay(keras.Layer):
    """One call of an operation, under another name."""

    def __init__(self, step: Step, graph: Graph, name: str):
        super().__init__(name=name, autocast=False)
        self.supports_masking = True
        self.operation = step.operation
        self.step = step
        self.specs = [graph.tensors[tensor] for tensor in step.outputs]

    def call(self, tensors, training=None):
        return self.step.run(dict(zip(self.step.inputs.values(), tensors, strict=True)), training)

    def compute_mask(self, tensors, previous_mask):
        return None

    def compute_output_spec(self, tensors, training=None):
        return [keras.KerasTensor(spec.shape, dtype=spec.dtype) for spec in self.specs]


def fresh(name: str, names: dict[str, Any]) -> str:
    """A name that is not taken, and from now on is."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    fresh = next(candidate for candidate in candidates if candidate not in names)
    names[fresh] = None
    return fresh


def pack(model: keras.Model, which: str, flat: list) -> Any:
    """Flat model inputs or outputs in the model's own structure."""
    if isinstance(model, keras.Function):
        return keras.tree.pack_sequence_as(getattr(model, which), flat)
    return flat[0] if len(flat) == 1 else flat
