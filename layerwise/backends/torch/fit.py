"""What stands in for the functions of a running `fit` on torch."""

import keras
import torch

from layerwise.backends import internals
from layerwise.backends.torch.execution import rows_of
from layerwise.backends.torch.memory import fill, release
from layerwise.backends.torch.step import batch_size


def check(model):
    """Raises where this backend cannot do what the model was compiled for."""
    if model.steps_per_execution > 1:
        raise ValueError(
            f"The torch backend of Keras runs one step per execution; the model was compiled with steps_per_execution="
            f"{model.steps_per_execution}. Compile with steps_per_execution=1."
        )


def build(model, with_optimizer=True):
    """Builds a model from the data of the calling `fit`: here `fit` did that itself."""


def train_function(model, batches):
    """What stands in for `model.train_function`: takes each batch its way through `batches`."""
    executions, memory = batches.executions, (fill, release)

    def train_function(data):
        if batches.resident is not None:
            return executions.epoch(several, one_row)
        (batch,) = data
        return one_batch(batch)

    def one_batch(batch):
        if batches.looks():
            batches.look(lambda program: program(batch))
        batch = batches.substitute(batch)
        return batches.carry_out(
            batches.plan(), lambda program, index: program(index, batch), memory
        )

    def several(plans, room, arrays, rows):
        return executions.carry_out(
            plans, room, lambda program, turns: program(turns, arrays), memory, rows
        )

    def one_row(arrays, rows):
        return one_batch(rows_of(arrays, rows))

    return train_function


def stock_program(function):
    """The model's own train function as a program."""
    return lambda index, data: function([data])


def test_program(model, forward, heads):
    """The test step of a forward pass."""

    def step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data[0])
        with torch.no_grad():
            y_pred, loss = forward(x, y, sample_weight, training=False)
            internals.update_loss_tracker(model, loss, batch_size(x))
            return model.compute_metrics(x, y, y_pred, sample_weight)

    return step


def test_function(program, batches):
    """What stands in for `model.test_function` while a stage is trained."""
    return lambda data: program([batches.substitute(batch) for batch in data])


def inference(model, function, variables):
    """`function` of tensors without gradients, with `variables` (all that it reads) as they are now."""
    return torch.no_grad()(function)


def wait(result):
    """Returns when a result is there."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def settle(model):
    """Returns when all is done that steps of a model have begun."""
    wait(None)
