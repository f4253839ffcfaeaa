"""The part of a layer graph between two cuts, and a model of it."""

import functools
import itertools
from typing import Any

import keras

from layerwise.blocks.graph import Call, Graph


class Segment:
    """The part of a graph from one cut tensor (None: the inputs) to another (None: the outputs)."""

    def __init__(self, graph: Graph, start: int | None, stop: int | None):
        self.graph, self.start, self.stop = graph, start, stop

    @property
    def is_whole_model(self) -> bool:
        return self.start is None and self.stop is None

    @property
    def model_inputs(self) -> tuple[int, ...]:
        """Indices of the model's inputs that this part takes beside the cut tensor."""
        if self.is_whole_model:
            return tuple(range(len(self.graph.model.inputs)))
        return self._needed[1]

    @functools.cached_property
    def _needed(self) -> tuple[list[int], tuple[int, ...]]:
        """Positions of the calls (in order), and model inputs, between the two cut tensors."""
        calls: set[int] = set()
        inputs: set[int] = set()
        seen = {self.start}
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
                calls.add(position)
                stack.extend(self.graph.calls[position].inputs.values())
        return sorted(calls), tuple(sorted(inputs))

    def build(self, name: str) -> keras.Model:
        """A model of this part, which shares the layers of the whole model."""
        model = self.graph.model
        if self.is_whole_model:
            return model
        calls = [self.graph.calls[position] for position in self._needed[0]]
        names: dict[str, Any] = {model.inputs[index].name: None for index in self.model_inputs}
        names |= {call.operation.name: call.operation for call in reversed(calls) if call.arguments}
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
        for call in calls:
            if not call.arguments or names[call.operation.name] is call.operation:
                outputs = call.run(values)
            else:
                # Two nested models may have layers of the same name; one model may not.
                replay = _Replay(call, self.graph, fresh(call.operation.name, names))
                outputs = keras.tree.flatten(replay([values[t] for t in call.inputs.values()]))
            values.update(zip(call.outputs, outputs, strict=True))
        if self.stop is None:
            results = pack(model, "output", [values[tensor] for tensor in self.graph.outputs])
        else:
            results = values[self.stop]
        return with_masks(keras.Model(entries, results, name=name))


class _Replay(keras.Layer):
    """One call of an operation, under another name."""

    def __init__(self, call: Call, graph: Graph, name: str):
        super().__init__(name=name, autocast=False)
        self.supports_masking = True
        self.operation = call.operation
        self.recorded = call
        self.specs = [graph.tensors[tensor] for tensor in call.outputs]

    def call(self, tensors, training=None):
        values = dict(zip(self.recorded.inputs.values(), tensors, strict=True))
        return self.recorded.run(values, training)

    def compute_mask(self, tensors, previous_mask):
        return None

    def compute_output_spec(self, tensors, training=None):
        return [keras.KerasTensor(spec.shape, dtype=spec.dtype) for spec in self.specs]


def with_masks(model: keras.Model) -> keras.Model:
    """The same model, which takes masked tensors: the layers inside set the masks of its outputs."""
    # By default Keras would warn that a mask that comes in is lost, which it is not.
    model.supports_masking = True
    model.compute_mask = lambda inputs, previous_mask: None
    return model


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
