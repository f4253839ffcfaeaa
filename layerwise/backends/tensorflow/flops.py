"""Floating-point operations on TensorFlow, counted in traced graphs."""

import math

import keras
import tensorflow as tf

from layerwise.backends.tensorflow.derivatives import traced_look
from layerwise.backends.tensorflow.step import traced_step


def step_flops(spec, index, x, y):
    """FLOPs of one Update's step on a batch of these shapes, by TensorFlow's profiler.

    Two operations that it gets wrong are put right.
    """
    return _count(step_graph(spec, index, x, y))


def stock_flops(model, x, y):
    """FLOPs of the model's own train step."""
    return _count(_graph(model.train_step, (x, y)))


def look_flops(model, forward, groups, x, y):
    """FLOPs of a look at the gradients of groups of variables."""
    return _count(_graph(traced_look(model, forward, groups), (x, y)))


def step_graph(spec, index, x, y):
    """The graph of an Update's step on a batch of these shapes."""
    return _graph(traced_step(spec, only=index), (x, y))


def _graph(step, data):
    specs = keras.tree.map_structure(
        lambda a: tf.TensorSpec(a.shape, tf.as_dtype(keras.backend.standardize_dtype(a.dtype))),
        data,
    )
    return tf.function(step, autograph=False).get_concrete_function(specs).graph


def _count(traced):
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options = tf.compat.v1.profiler.ProfileOptionBuilder(options).with_empty_output().build()
    # A convolution's gradient lays out the part for its input and that for its kernel; what nobody uses is not run.
    run = [t.op.name for t in traced.outputs] + [op.name for op in traced.control_outputs]
    definition = tf.compat.v1.graph_util.extract_sub_graph(
        traced.as_graph_def(add_shapes=True), run
    )
    with tf.Graph().as_default() as pruned:
        tf.import_graph_def(definition, name="")
    counted = tf.compat.v1.profiler.profile(pruned, options=options).total_float_ops
    return int(counted) + sum(map(_miscounted, pruned.get_operations()))


def _miscounted(op):
    """FLOPs that the profiler leaves out of an operation (or adds to it: then negative)."""
    if op.type == "Einsum" and len(op.inputs) == 2:  # it counts none
        terms = op.get_attr("equation").decode().partition("->")[0].split(",")
        sizes = {}
        for term, operand in zip(terms, op.inputs, strict=True):
            first, _, last = term.partition("...")
            shape = operand.shape.as_list()
            middle = range(len(first), len(shape) - len(last))
            labels = [*first, *(i - middle.stop for i in middle), *last]
            for label, size in zip(labels, shape, strict=True):
                sizes[label] = max(size, sizes.get(label, 1))
        return 2 * math.prod(sizes.values())
    if op.type.startswith("BatchMatMul") and op.get_attr("adj_x"):
        rows, inner = op.inputs[0].shape.as_list()[-1], op.inputs[0].shape.as_list()[-2]
        return 2 * (inner - rows) * op.outputs[0].shape.num_elements()  # it takes rows for inner
    return 0
