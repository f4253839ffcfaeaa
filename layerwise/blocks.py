"""A model as a chain of blocks: groups of consecutive layers that move as one.

The *leaves* are the layers in the order in which the model's graph meets them, each with the
trainable variables it is the first to use. A partition gives every leaf the number of a block;
where the blocks begin at cut points of the graph, each has a sub-model of its own.
"""

import bisect
import difflib
import functools
import itertools
import math
import operator
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from layerwise.graph import Graph, Segment, fresh, has_graph, pack


@dataclass(frozen=True, eq=False)
class Block:
    """A group of consecutive layers that moves as one.

    Attributes:
        index: position in the chain, 0 at the input.
        name: name of the first layer that holds a trainable variable of rank 2 or more.
        layers: the leaf layers, in the order in which the model meets them, those without variables
            included, and composite layers that hold variables of their own. A shared layer is
            in the first block that uses it.
        variables: the trainable variables, in the order of `model.trainable_variables`.
        parameters: number of scalars in `variables`.
    """

    index: int
    name: str
    layers: tuple[keras.Layer, ...]
    variables: tuple[keras.Variable, ...]
    segment: Segment | None

    @property
    def parameters(self) -> int:
        return sum(math.prod(variable.shape) for variable in self.variables)

    @property
    def model_inputs(self) -> tuple[int, ...]:
        """Indices, among the flat model inputs, of those the sub-model takes beside the cut tensor.

        Raises:
            ValueError: the block has no sub-model.
        """
        return self._segment_or_raise().model_inputs

    @functools.cached_property
    def model(self) -> keras.Model:
        """The sub-model from the block's cut tensor to the next, built when first asked for.

        It takes the list `[cut tensor, *model inputs it needs]` (the first block: model inputs
        only), shares the layers of the model, and returns the next cut tensor; the last block
        returns what the model returns. The composition of all blocks equals the model.

        Raises:
            ValueError: the block has no sub-model.
        """
        return self._segment_or_raise().build(self.name.replace("/", "_"))

    def __call__(self, features: Any, inputs: list, training: bool | None = None) -> Any:
        """Run the sub-model on the cut tensor (None for the first block) and all model inputs.

        Args:
            features: what the block before returned, Keras mask included; None for the first.
            inputs: every input of the whole model, as a flat list (`keras.tree.flatten(x)`).
            training: as for any Keras model.

        Raises:
            ValueError: the block has no sub-model.
        """
        segment = self._segment_or_raise()
        model = segment.graph.model
        # Keras refuses lists that mix tensors with arrays.
        inputs = [
            value
            if value is None or keras.ops.is_tensor(value)
            else keras.ops.convert_to_tensor(value, dtype=symbolic.dtype)
            for value, symbolic in zip(inputs, model.inputs, strict=True)
        ]
        if segment.is_whole_model:
            return model(pack(model, "input", inputs), training=training)
        tensors = [] if segment.start is None else [features]
        tensors += [inputs[index] for index in segment.model_inputs]
        return self.model(tensors, training=training)

    def _segment_or_raise(self) -> Segment:
        if self.segment is None:
            raise ValueError(
                f"Block {self.name!r} has no sub-model: the blocks do not begin at cut points of a "
                "layer graph. Use a Functional or Sequential model, with by='auto' or an int, or "
                "with lists that end where everything learned flows through one tensor."
            )
        return self.segment


class Blocks(tuple):
    """The blocks of a model, input side first; prints as a table.

    Attributes:
        model: the model that was partitioned.
        has_models: whether the blocks have sub-models (none is built by asking).
    """

    model: keras.Model

    def __new__(cls, blocks: Any, model: keras.Model | None = None):
        self = super().__new__(cls, blocks)
        self.model = model
        return self

    @property
    def has_models(self) -> bool:
        return all(block.segment is not None for block in self)

    def index(self, block: str | int | Block) -> int:
        """The index of a block given by name, by index, or as the Block itself.

        Raises:
            ValueError: no such block.
            TypeError: neither a name nor an index.
        """
        if isinstance(block, Block):
            return super().index(block)
        names = [each.name for each in self]
        if isinstance(block, str):
            if block not in names:
                raise ValueError(f"No block is named {block!r}.{_known(block, names)}")
            return names.index(block)
        number = _integer(block)
        if number is None:
            raise TypeError(f"A block is given by its name or its index, got {block!r}.")
        if not 0 <= number < len(self):
            raise ValueError(
                f"Block index {number} is out of range: the {len(self)} blocks of "
                f"{self.model.name!r} have the indices 0 to {len(self) - 1}."
            )
        return number

    def __repr__(self) -> str:
        rows = [("", "block", "layers", "parameters")]
        for block in self:
            names = ", ".join(layer.name for layer in block.layers[:3])
            more = len(block.layers) - 3
            layers = names + (f", ... (+{more})" if more > 0 else "")
            rows.append((str(block.index), block.name, layers, f"{block.parameters:,}"))
        total = sum(block.parameters for block in self)
        layers = sum(len(block.layers) for block in self)
        rows.append(("", "total", f"{layers} layers", f"{total:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                f"{cell:{side}{width}}"
                for cell, side, width in zip(row, "><<>", widths, strict=True)
            )
            for row in rows
        )


def partition(model: keras.Model, by: "str | int | list[list[str]] | Blocks" = "auto") -> Blocks:
    """Partition a built model into a chain of blocks; every trainable variable is in exactly one.

    A block starts only where a variable of rank 2 or more appears: what holds only biases, scales
    or nothing joins the block before it (at the beginning, the first). A shared layer belongs to
    the first block that uses it. Only variables that are trainable now count.

    Args:
        model: any built model. `"auto"` and ints above 1 need a Functional or Sequential one.
        by: `"auto"`, blocks between all cut points of the layer graph (a cut point is a tensor
            through which everything learned flows; nested models are entered); an int n,
            neighbours merged into n blocks such that the largest is as small as can be;
            `"layer"`, one block a leaf layer, nested models and composite layers entered; or a list
            with, for each block, a list of layer names, paths such as `"outer/inner"`, or regular
            expressions that match a whole name or path; or the Blocks of this very model.

    Raises:
        TypeError: `model` is no `keras.Model`, or `by` is none of the above.
        ValueError: the model is not built, has nothing trainable, or no layer graph where one is
            needed; there are fewer than n blocks; an unknown layer name; a layer in two blocks, a
            trainable variable in none, or a block without any.

    Example:
        >>> import keras
        >>> layers = [keras.Input((4,)), keras.layers.Dense(8, name="hidden"),
        ...           keras.layers.ReLU(name="relu"), keras.layers.Dense(2, name="head")]
        >>> partition(keras.Sequential(layers))
           block   layers        parameters
        0  hidden  hidden, relu          40
        1  head    head                  18
           total   3 layers              58
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"partition takes a keras.Model, got {type(model).__name__}: {model!r}.")
    if isinstance(by, Blocks):
        if by.model is not model:
            raise ValueError(
                f"These blocks belong to another model ({by.model.name!r}, not {model.name!r}): "
                "call partition on the model that is trained."
            )
        return by
    if not model.built:
        raise ValueError(
            f"Model {model.name!r} is not built, so its variables do not exist yet: "
            "add keras.Input(shape) as its first layer, or call it on a batch once."
        )
    if not model.trainable_variables:
        raise ValueError(
            f"Model {model.name!r} has no trainable variables, so there is nothing to partition: "
            "set trainable = True on at least one layer."
        )
    graph = Graph(model) if has_graph(model) else None
    leaves = _find_leaves(model, graph)

    number = _integer(by)
    if isinstance(by, (list, tuple)):
        groups, count = _match(leaves, by)
    elif by == "layer":
        groups, count = _split_where_matrices_appear(leaves, range(len(leaves)))
    elif by == "auto" or number is not None:
        groups, count = _split_at_cuts(model, graph, leaves, number)
    else:
        message = (
            f"by is 'auto', 'layer', a positive int or a list of lists of layer names, got {by!r}."
        )
        raise ValueError(message) if isinstance(by, str) else TypeError(message)
    return _assemble(model, graph, leaves, groups, count, by)


# --- the leaves -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Leaf:
    """A layer without sublayers, or with variables of its own, at its first use."""

    layer: keras.Layer
    path: str
    unit: str  # path of the layer in the graph (or directly in a subclassed model) it is part of
    variables: tuple[keras.Variable, ...]  # trainable, and not of an earlier leaf
    segment: int  # number of cut points before it
    used: bool  # False where no output depends on it

    @property
    def opens(self) -> bool:
        return self.used and any(len(variable.shape) >= 2 for variable in self.variables)


def _find_leaves(model: keras.Model, graph: Graph | None) -> list[_Leaf]:
    """Every leaf layer of the model once, in order of first use, unused ones last."""
    unclaimed = {id(variable): variable for variable in model.trainable_variables}
    seen: set[int] = set()
    leaves: list[_Leaf] = []

    def add(layer, path, unit, segment, used):
        for leaf, leaf_path, weights in _leaves(layer, path, seen):
            variables = tuple(unclaimed.pop(id(v)) for v in weights if id(v) in unclaimed)
            leaves.append(_Leaf(leaf, leaf_path, unit or leaf_path, variables, segment, used))

    if graph is not None:
        positions = [position for position, _ in graph.cuts]
        for position, step in enumerate(graph.steps):
            if isinstance(step.operation, keras.Layer):
                segment = bisect.bisect_left(positions, position)
                add(step.operation, step.path, step.path, segment, graph.used[position])
    last = len(graph.cuts) if graph is not None else 0
    add(model, "", "", last, graph is None)
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


# --- from leaves to blocks ------------------------------------------------------------------------


def _split_where_matrices_appear(leaves: list[_Leaf], positions) -> tuple[list[int], int]:
    """Number the leaves' blocks: a new one at each position where a matrix appears."""
    pairs = list(zip(leaves, positions, strict=True))
    starts = sorted({position for leaf, position in pairs if leaf.opens})
    groups = [max(bisect.bisect_right(starts, position) - 1, 0) for _, position in pairs]
    return groups, max(len(starts), 1)


def _split_at_cuts(model, graph, leaves, number: int | None) -> tuple[list[int], int]:
    if number is not None and number < 1:
        raise ValueError(f"by is the number of blocks, at least 1, got {number}.")
    if number == 1:
        return [0] * len(leaves), 1
    if graph is None:
        raise ValueError(
            f"Model {model.name!r} ({type(model).__name__}) has no layer graph to find cut points "
            "in. Write it as a Functional or Sequential model, or use by='layer', lists of layer "
            "names, or by=1."
        )
    groups, count = _split_where_matrices_appear(leaves, [leaf.segment for leaf in leaves])
    if number is None:
        return groups, count
    if number > count:
        raise ValueError(
            f"Model {model.name!r} has {count} blocks between its cut points, which cannot make "
            f"{number}: use by={count} or fewer, by='layer', or lists of layer names."
        )
    sizes = [0] * count
    for leaf, group in zip(leaves, groups, strict=True):
        sizes[group] += sum(math.prod(variable.shape) for variable in leaf.variables)
    starts = _balance(sizes, number)
    return [bisect.bisect_right(starts, group) - 1 for group in groups], number


def _balance(sizes: list[int], count: int) -> list[int]:
    """Where to start each of `count` runs of neighbours: smallest maximum, then least squares."""
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(float)
    size = ends[None, :] - ends[:, None]
    size[np.tril_indices(len(ends))] = np.inf  # a run is not empty
    largest = size[0]
    for _ in range(count - 1):
        largest = np.maximum(largest[:, None], size).min(axis=0)
    squares = np.where(size <= largest[-1], (size / ends[-1]) ** 2, np.inf)
    cost, choices = squares[0], []
    for _ in range(count - 1):
        total = cost[:, None] + squares
        choices.append(total.argmin(axis=0))
        cost = total.min(axis=0)
    starts, end = [], len(sizes)
    for choice in reversed(choices):
        end = int(choice[end])
        starts.append(end)
    return [0, *reversed(starts)]


def _match(leaves: list[_Leaf], lists: Any) -> tuple[list[int | None], int]:
    """Number the leaves' blocks as lists of names say; None where no list names a leaf."""
    if not lists or not all(
        isinstance(entries, (list, tuple))
        and entries
        and all(isinstance(entry, str) for entry in entries)
        for entries in lists
    ):
        raise TypeError(
            "by as a list holds, for each block, a list of layer names or regular expressions, "
            f"such as [['stem'], ['stage1_.*', 'stage2_.*']], got {lists!r}."
        )
    # A leaf is meant by its own name or path and by those of the layers and models around it.
    names = [_names(leaf.path) for leaf in leaves]
    groups: list[int | None] = [None] * len(leaves)
    for group, entries in enumerate(lists):
        for entry in entries:
            meant = [i for i, known in enumerate(names) if _means(entry, known)]
            if not meant:
                known = list(
                    dict.fromkeys(part for leaf in leaves for part in leaf.path.split("/"))
                )
                raise ValueError(f"No layer is named or matches {entry!r}.{_known(entry, known)}")
            for i in meant:
                if groups[i] not in (None, group):
                    raise ValueError(
                        f"Layer {leaves[i].path!r} is in two blocks, {groups[i]} and {group} "
                        f"(there by {entry!r}): name it in one of them only."
                    )
                groups[i] = group
    for leaf, group in zip(leaves, groups, strict=True):
        if leaf.variables and group is None:
            raise ValueError(
                f"The trainable variable {leaf.variables[0].path!r} of layer {leaf.path!r} is in "
                "no block: add the layer to a list, or set its trainable = False."
            )
    for group, entries in enumerate(lists):
        if not any(g == group and leaf.variables for leaf, g in zip(leaves, groups, strict=True)):
            raise ValueError(
                f"Block {group} ({list(entries)!r}) has no trainable variable of its own: "
                "merge it with a neighbour. (A shared layer belongs to the first that uses it.)"
            )
    return groups, len(lists)


def _names(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[i:j]) for j in range(1, len(parts) + 1) for i in range(j)}


def _means(entry: str, names: set[str]) -> bool:
    if entry in names:
        return True
    try:
        pattern = re.compile(entry)
    except re.error as error:
        raise ValueError(
            f"{entry!r} is neither a layer name nor a regular expression ({error})."
        ) from error
    return any(pattern.fullmatch(name) for name in names)


def _assemble(model, graph, leaves, groups, count, by) -> Blocks:
    segments = _segments(graph, leaves, groups, count)
    # A leaf that no list names joins the leaf before it, leading ones the first that is named.
    joined, group = [], next(group for group in groups if group is not None)
    for named in groups:
        group = group if named is None else named
        joined.append(group)
    owners = {
        id(v): group for leaf, group in zip(leaves, joined, strict=True) for v in leaf.variables
    }
    variables: list[list] = [[] for _ in range(count)]
    for variable in model.trainable_variables:
        variables[owners[id(variable)]].append(variable)
    members = [
        [leaf for leaf, g in zip(leaves, joined, strict=True) if g == i] for i in range(count)
    ]
    names = _block_names(members, by)
    return Blocks(
        (
            Block(i, names[i], tuple(m.layer for m in members[i]), tuple(variables[i]), segments[i])
            for i in range(count)
        ),
        model,
    )


def _segments(graph, leaves, groups, count) -> list[Segment | None]:
    """The part of the graph each block is, where all blocks begin at cut points, in their order."""
    if graph is None:
        return [None] * count
    placed = {
        (leaf.segment, group)
        for leaf, group in zip(leaves, groups, strict=True)
        if leaf.used and group is not None
    }
    starts: dict[int, int] = {}
    for segment, group in sorted(placed):
        starts.setdefault(group, segment)
    apart = len({segment for segment, _ in placed}) == len(placed)
    in_order = [group for _, group in sorted(placed)] == sorted(group for _, group in placed)
    if count > 1 and not (apart and in_order and list(starts) == list(range(count))):
        return [None] * count
    cuts = [None, *(graph.cuts[starts[group] - 1][1] for group in range(1, count)), None]
    return [Segment(graph, start, stop) for start, stop in itertools.pairwise(cuts)]


def _block_names(members: list[list[_Leaf]], by: Any) -> list[str]:
    """The name of each block's first layer with a matrix; its path where the name is not unique."""
    choices = []
    for leaves in members:
        holders = [leaf for leaf in leaves if leaf.variables]
        first = next((leaf for leaf in holders if leaf.opens), holders[0])
        path = first.path if by == "layer" else first.unit
        choices.append((path.rpartition("/")[2], path, first.path))
    names = [bare for bare, _, _ in choices]
    for level in (1, 2):
        count = Counter(names)
        names = [
            choice[level] if count[name] > 1 else name
            for name, choice in zip(names, choices, strict=True)
        ]
    taken: dict[str, Any] = {}
    return [fresh(name, taken) for name in names]


# --- messages -------------------------------------------------------------------------------------


def _integer(value: Any) -> int | None:
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _known(wanted: str, names: list[str]) -> str:
    close = difflib.get_close_matches(wanted, names, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    shown = ", ".join(map(repr, names[:50])) + (", ..." if len(names) > 50 else "")
    return f"{hint} Known names: {shown}."
