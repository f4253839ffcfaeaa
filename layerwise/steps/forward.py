"""The forward pass of an Update: predictions, and the sum of the losses that it descends."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras

from layerwise.backends import internals
from layerwise.blocks.segment import pack


class Features(NamedTuple):
    """What a step takes in place of x where the blocks below are not run.

    Attributes:
        values: The features that the first block of the step takes, `(batch, ...)`.
        mask: Their Keras mask, or None.
        inputs: The flat model inputs, None for those that no block of the step needs.
    """

    values: Any
    mask: Any
    inputs: tuple

    def masked(self) -> Any:
        """The features with their mask on them."""
        if self.mask is not None:
            internals.set_mask(self.values, self.mask)
        return self.values


def forward_pass(model: keras.Model, blocks: Any, heads: dict, update: Any) -> Callable:
    """The forward pass of an Update: `(x, y, sample_weight, training) -> (predictions, loss)`.

    The whole model runs, as in stock `fit`, unless the losses are others than the model's own: then block after block runs
    up to the last loss, blocks below `update.frozen_below` in inference mode. The loss holds the regularizers of the blocks
    that are not frozen, and of the heads.

    Args:
        model: The compiled model.
        blocks: Its `Blocks`.
        heads: `{k: keras.Model}`, the auxiliary heads.
        update: The `Update`.
    """
    if not update.by_blocks:
        return functools.partial(_whole, model)
    return functools.partial(_block_by_block, model, blocks, heads, update)


def _whole(model, x, y, sample_weight, training):
    y_pred = internals.call(model, x, training)
    return y_pred, internals.compute_loss(model, x, y, y_pred, sample_weight, training)


def _block_by_block(model, blocks, heads, update, x, y, sample_weight, training):
    if isinstance(x, Features):
        inputs, features, first = x.inputs, x.masked(), update.frozen_below
    else:
        inputs, features, first = internals.flat_inputs(model, x), None, 0
    cuts = {loss.cut for loss in update.losses} - {0}
    ends = {len(blocks) - 1 if loss.after is None else loss.after for loss in update.losses}
    losses, regularizers, y_pred = [], [], None
    for block in blocks[first : max(ends) + 1]:
        active = block.index >= update.frozen_below
        if block.index in cuts:
            features = _cut(features)
        features = block(features, inputs, training=training and active)
        if active:
            regularizers += block.model.losses
            regularizers += [-v.regularizer(v) for v in _foreign(block)]
        if block.index in ends:
            y_pred = features
            if block.index in update.heads:
                head = heads[block.index]
                y_pred = pack(model, "output", [head(features, training=training)])
                regularizers += head.losses
            losses.append(internals.compiled_loss(model, y, y_pred, sample_weight))
    terms = [*losses, *map(keras.ops.sum, regularizers)]
    return y_pred, keras.ops.sum(terms) if len(terms) > 1 else terms[0]


def _cut(features):
    mask = internals.mask(features)
    features = keras.ops.stop_gradient(features)
    if mask is not None:
        internals.set_mask(features, mask)
    return features


def _foreign(block):
    """Regularized variables of layers that a block shares with one before it, to which they belong."""
    own = {id(v) for v in block.variables}
    return [v for v in block.model.trainable_variables if v.regularizer and id(v) not in own]
