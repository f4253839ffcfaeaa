"""Several batches in one call: steps run eagerly, one after another."""

import keras
import numpy as np
import torch

from layerwise.backends import internals


def execution(spec):
    """The execution of an `ExecutionSpec`.

    Returns:
        `run(turns, source)`: carries out some `Turns` on the batches that their rows of arrays are, and returns the logs of
        the last and how many there were.
    """

    def run(turns, source):
        logs = {}
        for i in range(int(turns.batches)):
            data = rows_of(source, turns.rows[i])
            for t in range(turns.count[i]):
                program = spec.programs[turns.step[i, t]]
                resets, rates = (
                    None if a is None else torch.as_tensor(a[i, t])
                    for a in (turns.resets, turns.rates)
                )
                with torch.no_grad():
                    program.spec.begin(resets, rates)
                logs = program(0, data) or logs
        return logs, int(turns.batches)

    return run


def can_execute(model, sets_state):
    """Whether steps of a model can be looped over; `sets_state`: state is reset or rates are set within the loop."""
    return internals.keeps_stock_steps(model)


def loops_pay(model, x):
    """Whether steps of a model, which takes such x, are as fast within a loop as one by one."""
    return True


def resident(arrays):
    """Arrays on the device, from which batches are taken by their rows."""
    return keras.tree.map_structure(keras.ops.convert_to_tensor, arrays)


def nothing():
    """Batches without end that nobody reads, for a `fit` whose data is resident."""
    while True:
        yield (np.zeros((1, 1), "float32"),)


def rows_of(arrays, rows):
    """Some rows of arrays."""
    device = keras.tree.flatten(arrays)[0].device
    rows = torch.as_tensor(rows, dtype=torch.int64, device=device)
    return keras.tree.map_structure(lambda array: array[rows], arrays)
