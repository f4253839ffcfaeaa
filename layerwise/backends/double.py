"""A model's loss in double precision: the model's own layers and variables, under another dtype policy for as long as
the loss is computed.

Nothing is cloned, so custom layers, shared variables and subclassed models need no config. Random layers draw the numbers
that training would draw at this state of their seeds, in the precision that training draws in, so that masks are
training's own.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import keras
from keras.src import backend as keras_backend
from keras.src.backend.common import dtypes

USED = {
    "keras.src.backend": ("random",),
    "keras.src.backend.common.dtypes": ("BIT64_TO_BIT32_DTYPE",),
    "keras.src.models.model.Model": ("_compute_loss", "_flatten_layers"),
    "keras.src.trainers.compile_utils.CompileLoss": ("call", "build"),
}

_NOISE = ("normal", "uniform", "truncated_normal", "gamma", "beta", "binomial")


class Exact(NamedTuple):
    """The compiled functions of a loss; all numbers that go in and out are NumPy arrays.

    Attributes:
        loss: `(weights, rest, data) -> float`.
        gradient: `(weights, rest, data) -> (float, list)`; None for a weight that the loss does not depend on, where the
            backend can tell.
        hessian_vector: `(weights, vectors, rest, data) -> list`, the Hessian times a vector.
    """

    loss: Callable
    gradient: Callable
    hessian_vector: Callable


def check_loss(model: keras.Model, data: tuple) -> None:
    """Computes the loss of a batch with shapes alone, which lets the compiled loss know the structure of the outputs.

    Args:
        model: The compiled model. Its optimizer and metrics stay as they are.
        data: A batch, `(x, y, sample_weight)`.

    Raises:
        Exception: Whatever Keras raises where the batch does not fit the model's outputs and loss.
    """
    x, y, sample_weight = keras.tree.map_structure(_spec, data)
    predicted = keras_backend.compute_output_spec(model, x, training=False)
    keras_backend.compute_output_spec(
        model._compute_loss, x, y, predicted, sample_weight, training=False
    )


def _spec(array):
    return None if array is None else keras.KerasTensor(array.shape, str(array.dtype))


def layers_of(model: keras.Model) -> list:
    """All layers of a model, those within layers too."""
    return [layer for layer in model._flatten_layers() if layer is not model]


def reductions(model: keras.Model) -> set:
    """How the compiled losses become one number: "sum_over_batch_size", "sum" and the like."""
    return {loss.reduction for loss in _losses(model) if loss is not model._compile_loss}


def of_the_batch(model: keras.Model) -> list:
    """The names of the compiled losses that are no mean over examples: they leave out examples of a class
    (`ignore_class`), or are computed of a whole batch at once (Dice and Tversky with `axis=None`).
    """
    whole = (keras.losses.dice, keras.losses.tversky)
    return [
        loss.name
        for loss in _losses(model)
        if getattr(loss, "ignore_class", None) is not None
        or (getattr(loss, "fn", None) in whole and getattr(loss, "axis", None) is None)
    ]


@contextlib.contextmanager
def variables_as(mapping: Iterable[tuple[Any, Any]]) -> Iterator[None]:
    """While in this context, variables have the values given, of whatever dtype; what is assigned to them is forgotten."""
    with keras.StatelessScope(collect_losses=True) as scope:
        # Not as an argument, which is cast to the variable's dtype.
        scope.state_mapping.update({id(variable): value for variable, value in mapping})
        yield


@contextlib.contextmanager
def _putting() -> Iterator[Callable]:
    """`put(dict, key, value)`, undone at the end of the context."""
    restore = []

    def put(owner, name, value):
        restore.append((owner, name, owner[name]))
        owner[name] = value

    try:
        yield put
    finally:
        for owner, name, value in reversed(restore):
            owner[name] = value


@contextlib.contextmanager
def promoting(replaced: Iterable[tuple] = ()) -> Iterator[None]:
    """While in this context, what Keras computes of float64 is float64: on JAX and torch it makes it float32.

    Args:
        replaced: `(namespace, name, function)` of Keras' functions that the backend replaces.
    """
    with _putting() as put:
        for namespace, name, function in replaced:
            put(namespace, name, function)
        put(dtypes.BIT64_TO_BIT32_DTYPE, "float64", "float64")
        yield


@contextlib.contextmanager
def double_precision(
    model: keras.Model, others: Iterable[Any], dropout: Callable, replaced: Iterable[tuple]
) -> Iterator[None]:
    """While in this context, the layers and the loss of a model compute in float64.

    Args:
        model: The compiled model.
        others: Further models whose layers are called: heads, sub-models.
        dropout: `(original, inputs, rate, noise_shape, seed, dtype)`: dropout of double precision with the mask of
            another.
        replaced: `(namespace, name, function)` of Keras' functions that the backend replaces.
    """
    policy = keras.dtype_policies.DTypePolicy("float64")
    draws = model.compute_dtype
    entered = {id(tensor) for tensor in getattr(model, "inputs", None) or ()}
    layers = [layer for each in (model, *others) for layer in each._flatten_layers()]
    # A Sequential model casts what comes in to the dtype of its InputLayer, and hands it on to a
    # Functional one that it holds.
    layers += [f for layer in layers if (f := getattr(layer, "_functional", None)) is not None]
    with promoting(replaced), _putting() as put:
        for layer in {id(layer): layer for layer in layers}.values():
            if "_dtype_policy" in vars(layer):
                put(vars(layer), "_dtype_policy", policy)
            if isinstance(layer, keras.layers.InputLayer) and keras_backend.is_float_dtype(
                layer.dtype
            ):
                put(vars(layer), "_dtype", "float64")
            for tensor in getattr(layer, "_inputs", ()) if isinstance(layer, keras.Model) else ():
                # Nested models cast what comes in to the dtype of their inputs.
                if id(tensor) not in entered and keras_backend.is_float_dtype(tensor.dtype):
                    put(vars(tensor), "_dtype", "float64")
        for loss in _losses(model):
            put(vars(loss), "_dtype", "float64")
        _draw_as(vars(keras_backend.random), draws, dropout, put)
        yield


def _losses(model):
    compiled = model._compile_loss
    if compiled is None:
        return []
    losses = [compiled, *(each.loss for each in compiled._flat_losses or ())]
    return [
        loss for loss in {id(loss): loss for loss in losses}.values() if hasattr(loss, "_dtype")
    ]


def _draw_as(module, dtype, dropout, put):
    """Lets Keras' random functions draw in `dtype` what is asked of them in float64."""

    def drawing(draw):
        def drawn(*arguments, **named):
            if named.get("dtype") != "float64":
                return draw(*arguments, **named)
            return keras.ops.cast(draw(*arguments, **{**named, "dtype": dtype}), "float64")

        return drawn

    for name in _NOISE:
        put(module, name, drawing(module[name]))
    original = module["dropout"]

    def exact_dropout(inputs, rate, noise_shape=None, seed=None):
        if rate in (0.0, 1.0) or keras_backend.standardize_dtype(inputs.dtype) != "float64":
            return original(inputs, rate, noise_shape, seed)
        return dropout(original, inputs, rate, noise_shape, seed, dtype)

    put(module, "dropout", exact_dropout)
