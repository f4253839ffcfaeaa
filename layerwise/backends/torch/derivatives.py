"""Derivatives of a loss on torch, for what looks at a batch without changing anything."""

import keras
import torch

from layerwise.backends.torch import memory


def look_program(model, forward, groups):
    """Measures the loss, and the gradient norm of each group of variables.

    Args:
        model: The compiled model.
        forward: `(x, y, sample_weight, training) -> (predictions, loss)`.
        groups: A list of lists of variables.

    Returns:
        `look(data) -> {"loss": (), "gradient_norm": (len(groups),)}`, NumPy arrays, for a batch.
    """
    variables = [v for group in groups for v in group]

    def look(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        changing = model.non_trainable_variables
        before = [v.value.detach().clone() for v in changing]
        generators = memory.generator_state()
        try:
            _, loss = forward(x, y, sample_weight, training=True)
            weights = [v.value for v in variables]
            gradients = iter(torch.autograd.grad(loss, weights, allow_unused=True))
        finally:
            with torch.no_grad():
                for variable, value in zip(changing, before, strict=True):
                    variable.assign(value)
            memory.set_generator_state(generators)
        norms = [_norm([next(gradients) for _ in group]) for group in groups]
        measured = {"loss": loss.detach().float(), "gradient_norm": torch.stack(norms)}
        return {name: value.cpu().numpy() for name, value in measured.items()}

    return look


def _norm(gradients):
    squares = [g.float().square().sum() for g in gradients if g is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros(())
