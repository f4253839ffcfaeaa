"""Programs on torch: an eager step per Update, whose graph holds the moving blocks' part only."""

import contextlib
import itertools
import types

import keras
import torch

from layerwise.backends import internals

USED = {
    "keras.src.backend.torch.trainer.TorchTrainer": ("_should_torch_compile",),
}

# Whether several Updates share a program: steps run eagerly, so that it would only compute more.
SHARES = False


def check(model, schedule):
    """Raises where this backend cannot do what the model was compiled for."""
    if model.steps_per_execution > 1:
        raise ValueError(
            f"The torch backend of Keras runs one step per execution; the model was compiled with steps_per_execution="
            f"{model.steps_per_execution}. Compile with steps_per_execution=1."
        )


def scope(model):
    """The context in which variables for a model are created."""
    return contextlib.nullcontext()


def fill(variable, shape, number):
    """Fills a variable with a number, and gives it its memory back if it was released."""
    tensor = variable.value
    if tensor.shape == shape:
        with torch.no_grad():
            tensor.fill_(number)
    else:
        tensor.data = torch.full(shape, number, dtype=tensor.dtype, device=tensor.device)


def release(variable):
    """Frees a variable's memory; `fill` brings it back."""
    variable.value.data = torch.empty(
        (0,), dtype=variable.value.dtype, device=variable.value.device
    )


def nbytes(variable, model):
    """The bytes that a variable holds now."""
    return variable.value.nbytes


def to_numpy(variable):
    """A variable's value as an array."""
    return keras.ops.convert_to_numpy(variable.value)


def replicas(model):
    """The number of devices that share a batch."""
    return 1


def inference(model, function, variables):
    """`function` of tensors without gradients, with `variables` (all that it reads) as they are now."""
    return torch.no_grad()(function)


def wait(result):
    """Returns when a result is there."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def program(session, updates, record):
    """The step of an Update: takes 0 and a batch; returns logs (empty unless `record`)."""
    (update,) = updates
    if update.blocks is None:
        return lambda index, data: session.stock_train_function([data])
    step = _program(session, update, record)
    return lambda index, data: step(data)


def train_function(session):
    """What stands in for `model.train_function`: finds the program of each Update and runs it."""

    def train_function(data):
        batch = session.take(data[0])

        def run(update, record):
            return session.run(update, record, batch)

        return session.carry_out(session.plan(), run, fill, release)

    return train_function


def test_function(session, update):
    """What stands in for `model.test_function` while the stage of an Update is trained."""
    model = session.model

    def test_step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data[0])
        with torch.no_grad():
            y_pred, loss = session.forward(update, x, y, sample_weight, training=False)
            internals.update_loss_tracker(model, loss, _batch_size(x))
            return model.compute_metrics(x, y, y_pred, sample_weight)

    program = session.test_program(update, lambda: test_step)
    return lambda data: program([session.take(batch) for batch in data])


def flops(session, update, x, y):
    """FLOPs of a step on this batch, by torch's counter; weights, statistics and seeds are put back."""
    from torch.utils import flop_counter

    def forward(query, key, value, *rest, **more):
        return flop_counter.sdpa_flop_count(query, key, value)

    def backward(gradient, query, key, value, *rest, **more):
        return flop_counter.sdpa_backward_flop_count(gradient, query, key, value)

    attention = {  # the counter knows attention on GPUs only
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: forward,
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: backward,
    }
    model = session.model
    variables = model.variables + model.optimizer.variables + model.metrics_variables
    variables += [v for head in session.heads.values() for v in head.variables]
    variables += session.optimizer.own_variables() if session.optimizer else []
    released = set(session.optimizer.released) if session.optimizer else set()
    before = [(v, v.value.detach().clone()) for v in variables]
    data = keras.tree.map_structure(keras.ops.convert_to_tensor, (x, y))
    try:
        if released:
            session.optimizer.restore(fill, range(len(session.blocks)))
        with flop_counter.FlopCounterMode(display=False, custom_mapping=attention) as counter:
            if update.blocks is None:
                model.train_step(data)
            else:
                _program(session, update, True)(data)
    finally:
        for variable, value in before:
            variable.value.data = value
        if released:
            session.optimizer.released = released
        model.zero_grad()
    return int(counter.get_total_flops())


def _program(session, update, record):
    step = _step(session, update, record)
    if session.model._should_torch_compile():
        step = torch.compile(_with_code_of_its_own(step))
    moving = {id(v) for v in session.variables(update)}
    resting = [v for v in session.model.trainable_variables if id(v) not in moving]

    def run(data):
        with _resting(resting):
            return step(data)

    return run


def _step(session, update, record):
    model = session.model
    variables = session.variables(update)

    def step(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        y_pred, loss = session.forward(update, x, y, sample_weight, training=True)
        if record:
            internals.update_loss_tracker(model, loss, _batch_size(x))
        scaled = model.optimizer.scale_loss(loss)
        gradients = torch.autograd.grad(scaled, [v.value for v in variables], allow_unused=True)
        with torch.no_grad():
            session.optimizer.apply(list(gradients), variables)
        return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight) if record else {}

    return step


_numbers = itertools.count()


def _with_code_of_its_own(function):
    """A copy that torch.compile takes for another function: of one, it keeps at most eight versions."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    return types.FunctionType(code, function.__globals__, closure=function.__closure__)


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


def _batch_size(x):
    return next(i for i in keras.tree.flatten(x) if i is not None).shape[0]
