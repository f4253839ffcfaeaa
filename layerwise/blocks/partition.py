"""Partitions a model into a chain of blocks.

Every leaf of the model gets the number of a block. Where the blocks begin at cut points of the layer graph, each has a
sub-model of its own.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras

from layerwise.blocks.block import Block, Blocks, as_integer
from layerwise.blocks.graph import Graph, has_graph
from layerwise.blocks.grouping import match, split_at_cuts, split_where_matrices_appear
from layerwise.blocks.leaves import Leaf, find_leaves
from layerwise.blocks.segment import Segment, fresh


def partition(
    model: keras.Model,
    by: str | int | Sequence[Sequence[str]] | Blocks = "auto",
    *,
    argument: str = "by",
) -> Blocks:
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
        argument: what messages call `by`, for a caller whose user knows it under another name.

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
    leaves = find_leaves(model, graph)

    number = as_integer(by)
    groups: Sequence[int | None]  # the number of each leaf's block; None where it is in no list
    if isinstance(by, (list, tuple)):
        groups, count = match(leaves, by, argument)
    elif by == "layer":
        groups, count = split_where_matrices_appear(leaves, range(len(leaves)))
    elif by == "auto" or number is not None:
        groups, count = split_at_cuts(model, graph, leaves, number, argument)
    else:
        message = (
            f"{argument} is 'auto', 'layer', a positive int or a list of lists of layer names, "
            f"got {by!r}."
        )
        raise ValueError(message) if isinstance(by, str) else TypeError(message)
    return _assemble(model, graph, leaves, groups, count, by)


def _assemble(
    model: keras.Model,
    graph: Graph | None,
    leaves: list[Leaf],
    groups: Sequence[int | None],
    count: int,
    by: Any,
) -> Blocks:
    """The blocks that the leaves' numbers say, each with its part of the graph."""
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


def _segments(
    graph: Graph | None, leaves: list[Leaf], groups: Sequence[int | None], count: int
) -> list[Segment | None]:
    """The part of the graph each block is, where all blocks begin at cut points, in their order."""
    if graph is None:
        return [None] * count
    placed = {
        (leaf.cuts, group)
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


def _block_names(members: list[list[Leaf]], by: Any) -> list[str]:
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
