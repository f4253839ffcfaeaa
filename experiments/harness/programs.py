"""One compiled model for many runs: several steps in a program, and a new start."""

import keras
import numpy as np


def steps_together(steps: int) -> int:
    """So many for `compile(steps_per_execution=...)`, or 1 on torch, which runs step by step.

    Small steps take less time than calling a program for each.
    """
    return 1 if keras.backend.backend() == "torch" else steps


def start_again(model: keras.Model, seed: int) -> None:
    """New weights, drawn by the layers' own initializers, and an optimizer that has not moved yet.

    The start of a seed is the same for every schedule, optimizer and learning rate.
    """
    keras.utils.set_random_seed(seed)
    model.set_weights(keras.models.clone_model(model).get_weights())
    for variable in model.optimizer.variables:
        if variable is not model.optimizer.learning_rate:
            variable.assign(np.zeros(variable.shape))
