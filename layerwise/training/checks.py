"""What is wrong is said before training starts."""

from typing import Any

import keras
import numpy as np

from layerwise.backends import double, internals
from layerwise.blocks.graph import has_graph
from layerwise.steps import Look, Update


def check_seed(seed: Any) -> None:
    """Raises ValueError where a seed is no integer of at least 0."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}.")


def check_one(kind: type, callbacks: Any) -> None:
    """Raises ValueError where a CallbackList (None: there is none) holds several schedules, the same one twice included."""
    schedules = [c for c in callbacks.callbacks if isinstance(c, kind)] if callbacks else []
    if len(schedules) > 1:
        raise ValueError(
            f"One fit takes one schedule, got {len(schedules)}: {schedules}. Remove all but one from callbacks."
        )


def check_compiled(model: keras.Model) -> None:
    """Raises ValueError where the model is not compiled."""
    if not getattr(model, "compiled", False):
        raise ValueError(
            "The model is not compiled. Call model.compile(optimizer=..., loss=...) before fit()."
        )


def check_model(model: keras.Model) -> None:
    """Raises ValueError where no block of the model can be moved by itself."""
    if not model.built:
        raise ValueError(
            "The model is not built, so that it has no layers to divide into blocks. Start it with keras.Input(shape), or "
            "call model.build(input_shape), before fit()."
        )
    if internals.overrides(model, "train_step"):
        raise ValueError(
            f"{type(model).__name__} has its own train_step, which a schedule would replace. Use a model with Keras' "
            "train_step, or layerwise.Simultaneous(), which leaves it as it is."
        )
    spectral = [
        layer.name
        for layer in double.layers_of(model)
        if isinstance(layer, keras.layers.SpectralNormalization)
    ]
    if spectral:
        raise ValueError(
            f"The layers {spectral[:3]} (SpectralNormalization) change their own weights in every forward pass, so that "
            "none of their blocks rests, and no step is the optimizer's alone. Use layers without it, or "
            "layerwise.Simultaneous(), which leaves them as they are."
        )


def check_graph(schedule: Any, model: keras.Model) -> None:
    """Raises ValueError where a schedule with heads has no layer graph to find cut points in."""
    if not has_graph(model):
        raise ValueError(
            f"{type(schedule).__name__} trains each block under a head at a cut point of the layer graph, and "
            f"{model.name!r} ({type(model).__name__}) has no layer graph. Write it as a Functional or Sequential model "
            "with cut points, or use BlockCoordinate(blocks='layer'), which needs none."
        )


def check_head(schedule: Any, model: keras.Model, blocks: Any) -> None:
    """Raises ValueError where auxiliary heads cannot stand in for the model's output."""
    name, outputs = (
        type(schedule).__name__,
        keras.tree.flatten(getattr(model, "outputs", None) or []),
    )
    if not blocks.has_models:
        raise ValueError(
            f"{name} trains on the features between blocks, and this partition has none: the blocks do not lie between cut "
            "points of a Functional or Sequential model. Use blocks='auto' or an int with such a model, or "
            "layerwise.BlockCoordinate(blocks='layer'), which needs no cut points."
        )
    if len(outputs) != 1:
        raise ValueError(
            f"{name} trains each block under a head that stands in for the model's one output; this model has "
            f"{len(outputs)} outputs. Train a model with one output, or use BlockCoordinate."
        )
    if internals.overrides(model, "compute_loss"):
        raise ValueError(
            f"{type(model).__name__} has its own compute_loss, which a stage's head cannot go through. Use a "
            "BlockCoordinate schedule."
        )


def check_trainable(known: dict[int, str], model: keras.Model) -> None:
    """Raises ValueError where layers were frozen or unfrozen since the model was divided into blocks.

    Args:
        known: `{id: path}` of the variables of its blocks.
        model: The model.
    """
    now = {id(v): v.path for v in model.trainable_variables}
    changed = [path for key, path in (known | now).items() if (key in known) != (key in now)]
    if changed:
        raise ValueError(
            f"`trainable` was changed since the schedule divided this model into blocks: {changed[:4]} were frozen or "
            "unfrozen. Call compile() and pass a new schedule to fit()."
        )


def check_updates(updates: Any, schedule: Any, block_model: Any, place: str) -> None:
    """Raises where a schedule's `updates` did not return a tuple of Updates that this model can carry out."""
    if not isinstance(updates, tuple) or not updates:
        raise ValueError(
            f"{type(schedule).__name__}.updates must return a tuple of one or more Update, got {updates!r} for {place}."
        )
    for update in updates:
        if not isinstance(update, Update):
            raise TypeError(
                f"{type(schedule).__name__}.updates must return a tuple of Update, got {update!r} in it."
            )
        if update.blocks is None and schedule.state != "keep":
            n = len(block_model.blocks)
            raise ValueError(
                "Update(blocks=None) is the model's own step, which has no state by block; the schedule was given "
                f"state={schedule.state!r}. Use state='keep', or name them: Update(blocks={tuple(range(n))})."
            )
        check_update(update, len(block_model.blocks), block_model.heads)
        if update.by_blocks and block_model.model.loss is None:
            raise ValueError(
                f"{type(schedule).__name__} trains block by block on the loss of compile(), and the model was "
                "compiled without one: what layers add by add_loss() cannot train a head. Call compile(loss=...), or use "
                "BlockCoordinate, which needs none."
            )


def check_update(update: Update, n: int, heads: dict) -> None:
    """Raises ValueError where a model of n blocks cannot carry out an Update.

    Args:
        update: The Update.
        n: The number of blocks.
        heads: The auxiliary heads, by block.
    """
    if update.blocks is None:
        return
    blocks = update.blocks
    if blocks[0] < 0 or blocks[-1] >= n or not 0 <= update.frozen_below <= blocks[0]:
        raise ValueError(
            f"An Update's blocks must be indices from 0 to {n - 1}, and frozen_below at most the lowest, got {update!r}."
        )
    for block in blocks:
        if not any(loss.reaches(block) for loss in update.losses):
            raise ValueError(
                f"Block {block} moves, but feels none of the losses of {update!r}: let a loss reach it, or let it rest."
            )
    missing = [after for after in update.heads if after not in heads]
    if missing:
        raise ValueError(
            f"An Update's losses must be taken after the model or after a block with a head, {sorted(heads)}, got "
            f"{update!r}. Heads are built where the schedule is given head=..."
        )
    for loss in update.losses:
        for other in update.losses:
            if other.reaches(loss.cut) and other.cut < loss.cut:
                raise ValueError(
                    f"The losses of an Update share one forward pass, so they must agree where it is cut: {loss!r} is cut "
                    f"at the input of block {loss.cut}, {other!r} flows through it. Cut both there, or descend them in two "
                    "Updates."
                )


def check_looks(looks: Any, schedule: Any) -> None:
    """Raises where a schedule's `looks` did not return a tuple of Looks."""
    if not isinstance(looks, tuple) or not all(isinstance(look, Look) for look in looks):
        raise TypeError(
            f"{type(schedule).__name__}.looks must return a tuple of Look, () for none, got {looks!r}."
        )
