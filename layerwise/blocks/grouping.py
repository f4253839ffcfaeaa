"""Ways to give every leaf of a model the number of a block: by matrices, by cut points, by names."""

import bisect
import math
import re
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from layerwise.blocks.block import known_names
from layerwise.blocks.graph import Graph
from layerwise.blocks.leaves import Leaf


def split_where_matrices_appear(
    leaves: list[Leaf], positions: Iterable[int]
) -> tuple[list[int], int]:
    """Number the leaves' blocks: a new one at each position where a matrix appears."""
    pairs = list(zip(leaves, positions, strict=True))
    starts = sorted({position for leaf, position in pairs if leaf.opens})
    groups = [max(bisect.bisect_right(starts, position) - 1, 0) for _, position in pairs]
    return groups, max(len(starts), 1)


def split_at_cuts(
    model: keras.Model, graph: Graph | None, leaves: list[Leaf], number: int | None, argument: str
) -> tuple[list[int], int]:
    """Number the leaves' blocks as they lie between the cut points, merged into `number` if given."""
    if number is not None and number < 1:
        raise ValueError(f"{argument} is the number of blocks, at least 1, got {number}.")
    if number == 1:
        return [0] * len(leaves), 1
    if graph is None:
        raise ValueError(
            f"Model {model.name!r} ({type(model).__name__}) has no layer graph to find cut points "
            f"in. Write it as a Functional or Sequential model, or use {argument}='layer', lists of "
            f"layer names, or {argument}=1."
        )
    groups, count = split_where_matrices_appear(leaves, [leaf.cuts for leaf in leaves])
    if number is None:
        return groups, count
    if number > count:
        raise ValueError(
            f"Model {model.name!r} has {count} blocks between its cut points, which cannot make "
            f"{number}: use {argument}={count} or fewer, {argument}='layer', or lists of layer names."
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


def match(leaves: list[Leaf], lists: Any, argument: str) -> tuple[list[int | None], int]:
    """Number the leaves' blocks as lists of names say; None where no list names a leaf."""
    if not lists or not all(
        isinstance(entries, (list, tuple))
        and entries
        and all(isinstance(entry, str) for entry in entries)
        for entries in lists
    ):
        raise TypeError(
            f"{argument} as a list holds, for each block, a list of layer names or regular "
            f"expressions, such as [['stem'], ['stage1_.*', 'stage2_.*']], got {lists!r}."
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
                raise ValueError(
                    f"No layer is named or matches {entry!r}.{known_names(entry, known)}"
                )
            for i in meant:
                if groups[i] not in (None, group):
                    raise ValueError(
                        f"Layer {leaves[i].path!r} is in two blocks, {groups[i]} and {group} "
                        f"(there by {entry!r}): name it in one of them only."
                    )
                groups[i] = group
    for leaf, found in zip(leaves, groups, strict=True):
        if leaf.variables and found is None:
            raise ValueError(
                f"The trainable variable {leaf.variables[0].path!r} of layer {leaf.path!r} is in "
                "no block: add the layer to a list, or set its trainable = False."
            )
    for group, entries in enumerate(lists):
        if not any(
            found == group and leaf.variables for leaf, found in zip(leaves, groups, strict=True)
        ):
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
