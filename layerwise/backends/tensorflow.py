"""Programs on TensorFlow: one `tf.function` per Update, made by the model's own `_make_function`."""

import contextlib
import functools
import itertools
import math

import keras
import numpy as np
import tensorflow as tf

from layerwise.backends import internals

USED = {
    "keras.src.backend.tensorflow.trainer.TensorFlowTrainer": (
        "_make_function",
        "_autoconvert_optionals",
        "distribute_strategy",
    ),
}

# Whether several Updates share a program.
SHARES = True


def check(model, schedule):
    """Raises where this backend cannot do what the model was compiled for."""
    replicas = model.distribute_strategy.num_replicas_in_sync
    if schedule.max_programs is not None and replicas > 1:
        raise ValueError(
            f"max_programs={schedule.max_programs} shares programs by a branch, in which {replicas} replicas of a "
            "tf.distribute strategy cannot reduce gradients. Leave max_programs=None."
        )


def scope(model):
    """The context in which variables for a model are created."""
    if model.distribute_strategy is tf.distribute.get_strategy():
        return contextlib.nullcontext()
    return model.distribute_strategy.scope()


def fill(variable, shape, number):
    """Fills a variable with a number, and gives it its memory back if it was released."""
    value = tf.convert_to_tensor(np.full(shape, number, "float32"), dtype=variable.dtype)
    for component in _components(variable):
        tf.raw_ops.AssignVariableOp(resource=component.handle, value=value)


def release(variable):
    """Frees a variable's memory. Programs that hold the variable stay valid: `fill` brings it back."""
    for component in _components(variable):
        empty = tf.zeros((0,), dtype=component.dtype)
        tf.raw_ops.AssignVariableOp(resource=component.handle, value=empty)


def nbytes(variable, model):
    """The bytes that a variable holds now."""
    return sum(
        int(np.prod(tf.raw_ops.VariableShape(input=component.handle).numpy()))
        * component.dtype.size
        for component in _components(variable)
    )


def to_numpy(variable):
    """A variable's value as an array."""
    return _components(variable)[0].numpy()


def replicas(model):
    """The number of devices that share a batch."""
    return model.distribute_strategy.num_replicas_in_sync


def inference(model, function, variables):
    """`function` of tensors compiled, with `variables` (all that it reads) as they are now."""
    if model.run_eagerly:
        return function
    return tf.function(
        function, reduce_retracing=True, autograph=False, jit_compile=model.jit_compile
    )


def wait(result):
    """Returns when a result is there."""
    tf.nest.map_structure(lambda t: t.numpy() if hasattr(t, "numpy") else t, result)


def program(session, updates, record):
    """The compiled step that some Updates share: takes which one, and an iterator; returns logs (empty unless `record`)."""
    if updates[0].blocks is None:
        return lambda index, iterator: session.stock_train_function(iterator)
    if len(updates) == 1:
        function = session.model._make_function(_step(session, updates, record))
        return lambda index, iterator: function(iterator)
    which = tf.Variable(0, dtype="int32", trainable=False)
    shared = session.model._make_function(_step(session, updates, record, which))

    def run(index, iterator):
        which.assign(index)
        return shared(iterator)

    return run


def train_function(session):
    """What stands in for `model.train_function`: finds the program of each Update and runs it."""
    model = session.model

    def train_function(iterator):
        n = model.steps_per_execution
        if n > 1 and not session.caches:
            update = session.same(n)
            if update is not None:
                session.before(update, False, fill, release)
                logs = session.run(update, True, iterator)
                session.done(update, n)
                return session.shown(update, logs)
        logs = None
        for _ in range(n):
            try:
                logs = _one_batch(session, iterator)
            except (StopIteration, tf.errors.OutOfRangeError):
                if logs is None:
                    raise StopIteration from None
                break
        return logs

    return train_function


def test_function(session, update):
    """What stands in for `model.test_function` while the stage of an Update is trained."""
    model = session.model

    def step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, loss = session.forward(update, x, y, sample_weight, training=False)
        internals.update_loss_tracker(model, _unscaled(loss), _batch_size(x))
        return model.compute_metrics(x, y, y_pred, sample_weight)

    program = session.test_program(update, lambda: model._make_function(step))
    if not session.caches:
        return program

    def test_function(iterator):
        first = session.take(next(iterator))
        return program(itertools.chain([first], map(session.take, iterator)))

    return test_function


def flops(session, update, x, y):
    """FLOPs of the traced step, by TensorFlow's profiler; two operations that it gets wrong are put right."""
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    options = tf.compat.v1.profiler.ProfileOptionBuilder(options).with_empty_output().build()
    traced = graph(session, update, x, y)
    # A convolution's gradient lays out the part for its input and that for its kernel; what nobody uses is not run.
    run = [t.op.name for t in traced.outputs] + [op.name for op in traced.control_outputs]
    definition = tf.compat.v1.graph_util.extract_sub_graph(
        traced.as_graph_def(add_shapes=True), run
    )
    with tf.Graph().as_default() as pruned:
        tf.import_graph_def(definition, name="")
    counted = tf.compat.v1.profiler.profile(pruned, options=options).total_float_ops
    return int(counted) + sum(map(_miscounted, pruned.get_operations()))


def graph(session, update, x, y):
    """The graph of an Update's step on a batch of these shapes."""
    specs = keras.tree.map_structure(
        lambda a: tf.TensorSpec(a.shape, tf.as_dtype(keras.backend.standardize_dtype(a.dtype))),
        (x, y),
    )
    if update.blocks is None:
        step = session.model.train_step
    else:
        step = _step(session, session.sharing(update), True, only=update)
    return tf.function(step, autograph=False).get_concrete_function(specs).graph


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


def _one_batch(session, iterator):
    plan = session.plan()
    alone = len(plan) == 1 and session.model.steps_per_execution == 1 and not session.caches
    data = (
        iterator if alone else [session.take(next(iterator))]
    )  # a program takes its batch from either
    return session.carry_out(
        plan, lambda update, record: session.run(update, record, data), fill, release
    )


def _step(session, updates, record, which=None, only=None):
    """The step of Updates that share a program. `which`: the index of the one that runs; `only`: it is always this one."""
    model = session.model
    variables = session.variables(*updates)

    def step(data):
        if only is None:
            session.traces[updates, record] += 1
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for variable in variables:
                tape.watch(variable.value)
            y_pred, loss = session.forward(updates[0], x, y, sample_weight, training=True)
            if record:
                internals.update_loss_tracker(model, _unscaled(loss), _batch_size(x))
            loss = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, variables)
        by_variable = {id(v): g for v, g in zip(variables, gradients, strict=True)}

        def apply(update):
            moving = session.variables(update)
            session.optimizer.apply([by_variable[id(v)] for v in moving], moving)
            return 0

        if which is None:
            apply(only or updates[0])
        else:
            tf.switch_case(
                which.read_value(), [functools.partial(apply, update) for update in updates]
            )
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight) if record else {}

    return step


def _components(variable):
    """The variable on each replica."""
    value = variable.value
    return getattr(value, "values", None) or [value]


def _unscaled(loss):
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss * replicas if replicas > 1 else loss


def _batch_size(x):
    return tf.shape(next(i for i in keras.tree.flatten(x) if i is not None))[0]
