"""Floating-point operations on torch, counted while a step runs; all that it changes is put back."""

import contextlib

import keras
import torch
from torch.utils import flop_counter

from layerwise.backends.torch import memory
from layerwise.backends.torch.derivatives import look_program
from layerwise.backends.torch.step import program


def step_flops(spec, index, x, y):
    """FLOPs of one Update's step on this batch, by torch's counter."""
    move = spec.moves[index]
    variables = [*spec.model.variables, *spec.model.optimizer.variables, *spec.heads, *move.state]
    empty = [s for s in move.slots if tuple(s.value.shape) != spec.shape(s)]
    with _put_back(spec.model, variables):
        for slot in empty:
            memory.fill(slot, spec.shape(slot), 0)
        return _count(lambda data: program(spec)(0, data), x, y)


def stock_flops(model, x, y):
    """FLOPs of the model's own train step."""
    with _put_back(model, [*model.variables, *model.optimizer.variables]):
        return _count(model.train_step, x, y)


def look_flops(model, forward, groups, x, y):
    """FLOPs of a look at the gradients of groups of variables."""
    return _count(look_program(model, forward, groups), x, y)


def _count(function, x, y):
    def forward(query, key, value, *rest, **more):
        return flop_counter.sdpa_flop_count(query, key, value)

    def backward(gradient, query, key, value, *rest, **more):
        return flop_counter.sdpa_backward_flop_count(gradient, query, key, value)

    attention = {  # the counter knows attention on GPUs only
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    data = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    with flop_counter.FlopCounterMode(display=False, custom_mapping=attention) as counter:
        function(data)
    return int(counter.get_total_flops())


@contextlib.contextmanager
def _put_back(model, variables):
    """Afterwards the variables, metrics and generators are as before."""
    variables = [*variables, *model.metrics_variables]
    before = [(v, v.value.detach().clone()) for v in variables]
    generators = memory.generator_state()
    try:
        yield
    finally:
        for variable, value in before:
            variable.value.data = value
        memory.set_generator_state(generators)
        model.zero_grad()
