"""A block, a group of consecutive layers that move as one, and the chain of blocks of a model."""

import difflib
import functools
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import keras
import numpy as np

from layerwise.blocks.segment import Segment, pack


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
        segment: the part of the layer graph that it is; None where it does not begin at a cut point.
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
                "layer graph. Partition a Functional or Sequential model by 'auto' or an int, or by "
                "lists that end where everything learned flows through one tensor."
            )
        return self.segment


class Blocks(tuple[Block, ...]):
    """The blocks of a model, input side first; prints as a table.

    Attributes:
        model: the model that was partitioned.
        has_models: whether the blocks have sub-models (none is built by asking).
    """

    model: keras.Model

    def __new__(cls, blocks: Iterable[Block], model: keras.Model | None = None) -> Self:
        self = super().__new__(cls, blocks)
        self.model = model
        return self

    @property
    def has_models(self) -> bool:
        return all(block.segment is not None for block in self)

    def index(self, block: str | int | Block) -> int:  # type: ignore[override]
        """The index of a block given by name, by index, or as the Block itself.

        Raises:
            ValueError: no such block.
            TypeError: neither a name nor an index.
        """
        if isinstance(block, Block):
            if block not in self:
                raise ValueError(
                    f"Block {block.name!r} is of another division into blocks than these {len(self)} of "
                    f"{self.model.name!r}. Give the block's name or index, or, to a schedule, blocks=the Blocks that it is "
                    "of."
                )
            return super().index(block)
        names = [each.name for each in self]
        if isinstance(block, str):
            if block not in names:
                raise ValueError(f"No block is named {block!r}.{known_names(block, names)}")
            return names.index(block)
        number = as_integer(block)
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
        count = sum(len(block.layers) for block in self)
        total = sum(block.parameters for block in self)
        rows.append(("", "total", f"{count} layers", f"{total:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                f"{cell:{side}{width}}"
                for cell, side, width in zip(row, "><<>", widths, strict=True)
            )
            for row in rows
        )


def as_integer(value: Any) -> int | None:
    """An integer of any kind as an int; None for what is none, bools included."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def known_names(wanted: str, names: list[str]) -> str:
    """The end of a message about a name that is none of `names`."""
    close = difflib.get_close_matches(wanted, names, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    shown = ", ".join(map(repr, names[:50])) + (", ..." if len(names) > 50 else "")
    return f"{hint} Known names: {shown}."
