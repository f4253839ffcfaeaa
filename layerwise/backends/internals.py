"""Private Keras names that all backends share, each behind a function that says what it is for.

The range of Keras that is supported is the one in `setup.cfg`; `check()` names what went missing in another.
"""

import importlib
import itertools
import types

import keras
from keras.src import backend
from keras.src.saving.keras_saveable import KerasSaveable
from keras.src.utils import io_utils

_USED = {
    "keras.src.backend": ("get_keras_mask", "set_keras_mask"),
    "keras.src.saving.keras_saveable": ("KerasSaveable",),
    "keras.src.utils.io_utils": ("print_msg",),
    "keras.src.utils.module_utils": ("tensorflow",),
    "keras.src.random.seed_generator": ("python_random",),
    "keras.src.models.functional.Functional": ("_standardize_inputs",),
    "keras.src.ops.node.KerasHistory": ("operation", "node_index"),
    "keras.src.ops.node.Node": ("input_tensors",),
    "keras.src.trainers.trainer.Trainer": ("_compute_loss", "_symbolic_build"),
    "keras.src.optimizers.base_optimizer.BaseOptimizer": (
        "_apply_weight_decay",
        "_backend_update_step",
        "_check_variables_are_known",
        "_get_current_learning_rate",
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


def backup_path(callback):
    """Where a BackupAndRestore keeps its weights."""
    return callback._weights_path


def previous_backup_path(callback):
    """Where a BackupAndRestore(double_checkpoint=True) keeps the weights before the newest."""
    return callback._prev_weights_path


def print_message(text):
    """Prints a line as Keras prints its own."""
    io_utils.print_msg(text)


# --- tracing

_numbers = itertools.count()


def with_code_of_its_own(function):
    """A copy of a function that tracers take for another one: they count the versions of a piece of Python code."""
    code = function.__code__.replace(co_name=f"{function.__name__}_{next(_numbers)}")
    return types.FunctionType(
        code, function.__globals__, argdefs=function.__defaults__, closure=function.__closure__
    )


# --- saving


class Saved(KerasSaveable):
    """Writes and reads a checkpoint with the model that it is attached to; ignored where it is not expected."""

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def save_own_variables(self, store):
        self.checkpoint.save(store)

    def load_own_variables(self, store):
        self.checkpoint.load(store)

    def __dir__(self):
        return ()  # saving walks the attributes for more to save

    def _obj_type(self):
        return "Operation"


def attach(model, checkpoint, name="_layerwise"):
    """Lets a model save and load a checkpoint (`save(store)`, `load(store)`) beside its weights."""
    setattr(model, name, Saved(checkpoint))


def attached(model):
    """The checkpoint that is attached to a model, or None."""
    saved = vars(model).get("_layerwise")
    return None if saved is None else saved.checkpoint


def detach(model, name="_layerwise"):
    """The model saves and loads nothing but its own."""
    if name in vars(model):
        delattr(model, name)


# --- tensors


def mask(tensor):
    """The Keras mask that a tensor carries, or None."""
    return backend.get_keras_mask(tensor)


def set_mask(tensor, mask):
    """Lets a tensor carry a Keras mask."""
    backend.set_keras_mask(tensor, mask)


# --- trainer


class _Kept:
    """Holds what is to last until the next `compile`; no container that Keras would walk and save."""

    def __init__(self):
        self.entries = {}


def until_compile(model):
    """A dict that lasts until the next `compile` of the model: it is held by something that `compile` replaces."""
    return vars(model._loss_tracker).setdefault("_layerwise", _Kept()).entries


def call(model, x, training):
    """Calls a model, with `training` where it takes it."""
    return model(x, training=training) if model._call_has_training_arg else model(x)


def symbolic_build(model, spec, with_optimizer=True):
    """Builds a model, and what `compile` leaves unbuilt, from the spec of a batch."""
    optimizer = model.optimizer
    if not with_optimizer:
        vars(model)["optimizer"] = None
    try:
        model._symbolic_build(data_batch=spec)
    finally:
        vars(model)["optimizer"] = optimizer


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


def keeps_stock_steps(model):
    """Whether a train step, and the logs that it returns, are Keras' own."""
    return not (overrides(model, "train_step") or overrides(model, "compute_metrics"))


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


def config_without_rate(optimizer):
    """An optimizer's config with a learning rate of 1, also where its learning-rate schedule has no config."""
    rate = optimizer._learning_rate
    optimizer.__dict__["_learning_rate"] = 1.0
    try:
        return {**optimizer.get_config(), "learning_rate": 1.0}
    finally:
        optimizer.__dict__["_learning_rate"] = rate


def watch_slots(optimizer, created):
    """While in this context, `created(slot)` hears of each slot as soon as the optimizer's `build` has made it."""
    return _WatchSlots(optimizer, created)


class _WatchSlots:
    def __init__(self, optimizer, created):
        self.optimizer, self.created = optimizer, created

    def __enter__(self):
        add = self.optimizer.add_variable_from_reference

        def add_and_tell(*arguments, **named):
            slot = add(*arguments, **named)
            self.created(slot)
            return slot

        self.optimizer.__dict__["add_variable_from_reference"] = add_and_tell

    def __exit__(self, *exception):
        self.optimizer.__dict__.pop("add_variable_from_reference", None)


# --- layer graphs


def history(tensor):
    """The operation that a symbolic tensor comes from, and the node of the layer graph that recorded its call."""
    operation, number, _ = tensor._keras_history
    return operation, operation._inbound_nodes[number]
