"""Private Keras names that all backends share, each behind a function that says what it is for.

The range of Keras that is supported is the one in `setup.cfg`; `check()` names what went missing in another.
"""

import functools
import importlib
import sys

import keras
from keras.src import backend
from keras.src.saving.keras_saveable import KerasSaveable

_USED = {
    "keras.src.backend": ("get_keras_mask", "set_keras_mask"),
    "keras.src.saving.keras_saveable": ("KerasSaveable",),
    "keras.src.models.functional.Functional": ("_standardize_inputs",),
    "keras.src.ops.node.KerasHistory": ("operation", "node_index"),
    "keras.src.ops.node.Node": ("input_tensors",),
    "keras.src.trainers.trainer.Trainer": ("_compute_loss", "_symbolic_build"),
    "keras.src.optimizers.base_optimizer.BaseOptimizer": (
        "_backend_update_step",
        "_check_variables_are_known",
        "_get_variable_index",
    ),
}


def missing(names):
    """The dotted names of `{"module or module.Class": (attribute, ...)}` that this Keras does not have."""
    absent = []
    for owner, attributes in names.items():
        module, _, cls = owner.rpartition(".")
        try:
            found = importlib.import_module(owner)
        except ImportError:
            try:
                found = getattr(importlib.import_module(module), cls)
            except (ImportError, AttributeError):
                absent.append(owner)
                continue
        absent += [f"{owner}.{name}" for name in attributes if not hasattr(found, name)]
    return absent


def check(used):
    """Raises ImportError that names the Keras internals in `used`, or needed here, that this Keras lacks."""
    absent = missing({**_USED, **used})
    if absent:
        raise ImportError(
            f"layerwise needs Keras internals that Keras {keras.__version__} does not have: {', '.join(absent)}. "
            "Install a Keras in the range that layerwise declares: pip install 'keras>=3.15,<3.16'."
        )


# --- callbacks


def callback_list():
    """The CallbackList that is calling, found on the stack: a callback is given no reference to its neighbours."""
    frame = sys._getframe(1)
    while frame is not None:
        if isinstance(frame.f_locals.get("self"), keras.callbacks.CallbackList):
            return frame.f_locals["self"]
        frame = frame.f_back
    return None


def backup_path(callback):
    """Where a BackupAndRestore keeps its weights."""
    return callback._weights_path


# --- saving


class Saved(KerasSaveable):
    """Writes and reads a session with the model that this is an attribute of; ignored where it is not expected."""

    def __init__(self, session):
        self.session = session

    def save_own_variables(self, store):
        self.session.save(store)

    def load_own_variables(self, store):
        self.session.load(store)

    def __dir__(self):
        return ()  # saving walks the attributes for more to save

    def _obj_type(self):
        return "Operation"


# --- tensors


def mask(tensor):
    """The Keras mask that a tensor carries, or None."""
    return backend.get_keras_mask(tensor)


def set_mask(tensor, mask):
    """Lets a tensor carry a Keras mask."""
    backend.set_keras_mask(tensor, mask)


# --- trainer


def compile_identity(model):
    """An object that `compile` replaces: the same one means that compiled programs are still valid."""
    return model._loss_tracker


def call(model, x, training):
    """Calls a model, with `training` where it takes it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def update_loss_tracker(model, loss, batch_size):
    """Adds one batch to the running mean of the loss."""
    model._loss_tracker.update_state(loss, sample_weight=batch_size)


def compute_loss(model, x, y, y_pred, sample_weight, training):
    """The model's total loss, regularizers included."""
    return model._compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=training
    )


def compiled_loss(model, y, y_pred, sample_weight):
    """The loss given to `compile` alone."""
    return model._compile_loss(y, y_pred, sample_weight)


def flat_inputs(model, x):
    """The inputs of a Functional model as the flat list its graph starts from."""
    functional = getattr(model, "_functional", None) or model  # a Sequential holds one
    return functional._standardize_inputs(x)


def overrides(model, method):
    """Whether the class of `model` brings its own version of a method of Keras' trainers."""
    return getattr(type(model), method) is not getattr(keras.Model, method)


# --- optimizer


def trained_variables(optimizer):
    """The variables that an optimizer was built with, in its order."""
    return list(optimizer._trainable_variables)


def slot_lists(optimizer):
    """`{attribute: list}` of the optimizer's state that holds one slot (or None) for each variable."""
    size = len(optimizer._trainable_variables)
    # Adafactor fills its lists up with variables that it does not count among its own.
    own = {id(v) for v in optimizer.variables}
    own -= {id(optimizer._iterations), id(optimizer._learning_rate)}
    lists = {
        name: [item if id(item) in own else None for item in value]
        for name, value in vars(optimizer).items()
        if name not in ("_trainable_variables", "_variables")
        and isinstance(value, list)
        and len(value) == size
        and all(item is None or isinstance(item, keras.Variable) for item in value)
    }
    return {name: value for name, value in lists.items() if any(item is not None for item in value)}


def slots(optimizer):
    """All slots of an optimizer."""
    lists = slot_lists(getattr(optimizer, "inner_optimizer", optimizer)).values()
    return [slot for each in lists for slot in each if slot is not None]


def running_product(optimizer):
    """Nadam's product of momentum factors, a bias correction that counts steps like `iterations`; else None."""
    return getattr(optimizer, "_u_product", None)


@functools.cache
def _clocked(cls):
    """`cls` with an update rule that runs once per group of variables, each group with its own step count."""

    def iterations(self):
        return self._layerwise_count if self._layerwise_count is not None else self._iterations

    def update_step(self, gradients, variables, learning_rate):
        for group, members in self._layerwise_groups(variables):
            group.update(
                self, cls._backend_update_step, [gradients[i] for i in members],
                [variables[i] for i in members], learning_rate,
            )  # fmt: skip

    return type(cls)(
        cls.__name__,
        (cls,),
        {
            "_layerwise_count": None,
            "iterations": property(iterations),
            "_backend_update_step": update_step,
            "_check_variables_are_known": lambda self, variables: (
                None
            ),  # heads are not the optimizer's own
        },
    )


class clocked:
    """While in this context, `optimizer` updates its variables group by group (see `_clocked`).

    The context spans the tracing of a step, or an eager step; nobody else sees the optimizer meanwhile. The replicas of a
    `tf.distribute` strategy enter it one after another before the first leaves, so `stock`, its class, is given.
    """

    def __init__(self, optimizer, stock, groups):
        self.optimizer, self.stock, self.groups = optimizer, stock, groups

    def __enter__(self):
        self.optimizer.__class__ = _clocked(self.stock)
        self.optimizer.__dict__["_layerwise_groups"] = self.groups

    def __exit__(self, *exception):
        self.optimizer.__class__ = self.stock
        self.optimizer.__dict__.pop("_layerwise_groups", None)


def update_with_count(optimizer, rule, gradients, variables, learning_rate, count, product):
    """Runs the update rule `rule` with `count` as the step count (and `product` as Nadam's) that it sees."""
    stock_product = running_product(optimizer)
    optimizer.__dict__["_layerwise_count"] = count
    if product is not None:
        optimizer.__dict__["_u_product"] = product
    try:
        rule(optimizer, gradients, variables, learning_rate)
    finally:
        optimizer.__dict__.pop("_layerwise_count", None)
        if product is not None:
            optimizer.__dict__["_u_product"] = stock_product


def update_step(optimizer, gradients, variables, learning_rate):
    """Runs an optimizer's own update rule on its own variables and counts the step."""
    optimizer._backend_update_step(gradients, variables, learning_rate)
    optimizer.iterations.assign_add(1)


# --- layer graphs


def history(tensor):
    """The operation that a symbolic tensor comes from, and the node of the layer graph that recorded its call."""
    operation, number, _ = tensor._keras_history
    return operation, operation._inbound_nodes[number]
