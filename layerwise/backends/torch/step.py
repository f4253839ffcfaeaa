"""The step of an Update on torch: eager, with a graph that holds the moving blocks' part only."""

import contextlib
from typing import Any

import keras
import torch

from layerwise.backends import internals

# Whether several Updates share a program: steps run eagerly, so that it would only compute more.
SHARES = False

# What stock `fit` calls of an optimizer on the way to `apply`.
BEFORE_APPLY: tuple[str, ...] = ()


def program(spec):
    """The step of a `StepSpec`.

    Returns:
        `run(index, data)`: carries out the Update on a batch, and returns logs (empty unless the step shows any).
    """
    return Program(spec)


class Program:
    """The step of an Update."""

    def __init__(self, spec):
        self.spec, apply = spec, spec.moves[0].apply
        if spec.forward is None:
            self._step = spec.model.train_step
        elif spec.model._should_torch_compile():
            # The optimizer's part differs by block and would break the graph: it stays eager. Of one function
            # torch.compile keeps at most eight versions, so that each program needs one of its own.
            step = eager_step(spec, torch.compiler.disable(apply))
            self._step = torch.compile(internals.with_code_of_its_own(step))
        else:
            self._step = eager_step(spec, apply)
        moving = {id(v) for v in spec.weights}
        self._resting = [v for v in spec.model.trainable_variables if id(v) not in moving]

    def __call__(self, index, data):
        with _resting(self._resting):
            return self._step(data)


def eager_step(spec, apply):
    """The step as a function of a batch; `apply(gradients)` moves the weights."""
    model, (move,) = spec.model, spec.moves

    def step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, loss = spec.forward(x, y, sample_weight, training=True)
        if spec.shows:
            internals.update_loss_tracker(model, loss, batch_size(x))
        scaled = model.optimizer.scale_loss(loss)
        weights = [v.value for v in move.weights]
        gradients: Any = [None]
        if scaled.requires_grad:
            gradients = torch.autograd.grad(scaled, weights, allow_unused=True)
        if all(g is None for g in gradients):
            move.warn_of_no_gradient()
            gradients = [torch.zeros_like(w) for w in weights]
        with torch.no_grad():
            apply(list(gradients))
        if not spec.shows:
            return {}
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)

    return step


@contextlib.contextmanager
def _resting(variables):
    """Takes variables out of autograd, so that no activations are kept for them."""
    tensors = [v.value for v in variables if v.value.requires_grad]
    for tensor in tensors:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in tensors:
            tensor.requires_grad_(True)


def batch_size(x):
    """The number of examples of a batch."""
    return next(i for i in keras.tree.flatten(x) if i is not None).shape[0]
