"""The leaves of a model: the layers that hold its variables, in the order in which it meets them."""

import bisect
from collections.abc import Iterator
from dataclasses import dataclass

import keras

from layerwise.blocks.graph import Graph


@dataclass(frozen=True, eq=False)
class Leaf:
    """A layer without sublayers, or with variables of its own, at its first use."""

    layer: keras.Layer
    path: str
    unit: str  # path of the layer in the graph (or directly in a subclassed model) it is part of
    variables: tuple[keras.Variable, ...]  # trainable, and not of an earlier leaf
    cuts: int  # number of cut points before it
    used: bool  # False where no output depends on it

    @property
    def opens(self) -> bool:
        """Whether a block may start here: it holds a matrix that the outputs depend on."""
        return self.used and any(len(variable.shape) >= 2 for variable in self.variables)


def find_leaves(model: keras.Model, graph: Graph | None) -> list[Leaf]:
    """Every leaf layer of the model once, in order of first use, unused ones last."""
    unclaimed = {id(variable): variable for variable in model.trainable_variables}
    seen: set[int] = set()
    leaves: list[Leaf] = []

    def add(layer: keras.Layer, path: str, unit: str, cuts: int, used: bool) -> None:
        for leaf, leaf_path, weights in _leaves(layer, path, seen):
            variables = tuple(unclaimed.pop(id(v)) for v in weights if id(v) in unclaimed)
            leaves.append(Leaf(leaf, leaf_path, unit or leaf_path, variables, cuts, used))

    if graph is not None:
        positions = [position for position, _ in graph.cuts]
        for position, call in enumerate(graph.calls):
            if isinstance(call.operation, keras.Layer):
                cuts = bisect.bisect_left(positions, position)
                add(call.operation, call.path, call.path, cuts, graph.used[position])
    add(model, "", "", 0 if graph is None else len(graph.cuts), graph is None)
    return leaves


def _leaves(layer: keras.Layer, path: str, seen: set[int]) -> Iterator[tuple]:
    """The leaf layers below a layer, their paths and own weights; `seen` holds ids met before."""
    if id(layer) in seen or isinstance(layer, keras.layers.InputLayer):
        return
    seen.add(id(layer))
    children = _children(layer)
    below = {id(weight) for child in children for weight in child.weights}
    own = [weight for weight in layer.weights if id(weight) not in below]
    if own or not children:
        yield layer, path or layer.name, own
    for child in children:
        yield from _leaves(child, f"{path}/{child.name}" if path else child.name, seen)


def _children(layer: keras.Layer) -> list[keras.Layer]:
    # Composite layers track their sublayers as models do, but only models have a property for it.
    tracked = keras.Model.layers.fget(layer)
    ordered = layer.layers if isinstance(layer, keras.Model) else []
    return list({id(child): child for child in [*ordered, *tracked]}.values())
