"""Tiny models, data and callbacks that several test files use."""

import functools
import os

import keras
import numpy as np
import pytest

import layerwise

FEATURES, CLASSES = 6, 3


def mostly_thorough(cases, fast):
    """Return parameters, or tuples of several, of which the fast tests have these, and the thorough ones the others."""
    every, fast = ([c if isinstance(c, tuple) else (c,) for c in some] for some in (cases, fast))
    return [pytest.param(*c, marks=[] if c in fast else pytest.mark.thorough) for c in every]


class AtBatch(keras.callbacks.Callback):
    """Calls a function when a batch of an epoch is over."""

    def __init__(self, epoch, batch, function):
        super().__init__()
        self.at, self.function, self.epoch = (epoch, batch), function, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            self.function()


class Counts(keras.layers.Layer):
    """Hands its input on and counts how often its Python code runs: where steps are compiled, when they are traced."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


def mlp(depth=4, width=8, seed=1, **arguments):
    """Return Dense layers block_0 ... with tanh between them, one block each; logits at the end."""
    layers = [keras.Input((FEATURES,))]
    for number in range(depth):
        last = number == depth - 1
        layers.append(
            keras.layers.Dense(
                CLASSES if last else width,
                activation=None if last else "tanh",
                kernel_initializer=keras.initializers.GlorotUniform(seed=seed + number),
                bias_initializer=keras.initializers.RandomNormal(stddev=0.1, seed=seed + number),
                name=f"block_{number}",
                **arguments,
            )
        )
    return keras.Sequential(layers)


def normalized_mlp(depth=3, width=8, momentum=0.9, dropout=0.0, seed=1, first=None):
    """Return depth blocks of Dense, BatchNormalization, tanh (and Dropout), and a Dense block.

    `first` is a layer to put before them. With `seed=None` dropout has no seed of its own, either.
    """
    inputs = keras.Input((FEATURES,))
    value = inputs if first is None else first(inputs)
    dropout_seed, seed = seed, 1 if seed is None else seed
    for number in range(depth):
        initializer = keras.initializers.GlorotUniform(seed=seed + number)
        value = keras.layers.Dense(
            width, use_bias=False, kernel_initializer=initializer, name=f"block_{number}"
        )(value)
        value = keras.layers.BatchNormalization(
            momentum=momentum, scale=False, name=f"normalization_{number}"
        )(value)
        value = keras.layers.Activation("tanh", name=f"tanh_{number}")(value)
        if dropout:
            own = None if dropout_seed is None else seed + number
            value = keras.layers.Dropout(dropout, seed=own, name=f"dropout_{number}")(value)
    initializer = keras.initializers.GlorotUniform(seed=seed + depth)
    outputs = keras.layers.Dense(CLASSES, kernel_initializer=initializer, name=f"block_{depth}")(
        value
    )
    return keras.Model(inputs, outputs)


def convnet():
    """Return a small residual net with batch normalization and dropout; logits."""
    inputs = keras.Input((8, 8, 1))
    value = keras.layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    value = keras.layers.BatchNormalization()(value)
    value = trunk = keras.layers.ReLU()(value)
    value = keras.layers.Conv2D(4, 3, padding="same", name="inside")(value)
    value = keras.layers.BatchNormalization()(value)
    value = keras.layers.ReLU()(keras.layers.Add()([value, trunk]))
    value = keras.layers.Dropout(0.3)(value)
    value = keras.layers.Conv2D(6, 3, strides=2, name="down")(value)
    value = keras.layers.GlobalAveragePooling2D()(value)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, name="classify")(value))


def compiled(model, optimizer="sgd", **arguments):
    """Compile a model for integer labels and return it."""
    arguments.setdefault("loss", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.compile(optimizer=optimizer, **arguments)
    return model


def vectors(count=40, seed=0):
    """Return float32 features and integer labels that depend on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, FEATURES)).astype("float32")
    return x, (x @ rng.normal(size=(FEATURES, CLASSES))).argmax(axis=1).astype("int32")


def images(count=24, seed=0):
    """Return small float32 images and integer labels."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 8, 8, 1)).astype("float32"), rng.integers(
        0, CLASSES, count
    ).astype("int32")


def batches(x, y, batch_size, epochs):
    """Return the batches that fit sees without shuffling, over all epochs."""
    starts = range(0, len(x), batch_size)
    return [(x[s : s + batch_size], y[s : s + batch_size]) for _ in range(epochs) for s in starts]


def values(variables):
    """Return copies of the variables as NumPy arrays."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def same_bits(left, right):
    """Whether two lists of arrays agree bit for bit, NaN and signed zero included."""
    return len(left) == len(right) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(left, right, strict=True)
    )


def attributes(model):
    """Return the names and types of what is stored on a model and its optimizer."""
    return [
        {name: type(value) for name, value in vars(owner).items()}
        for owner in (model, model.optimizer)
    ]


def update(blocks, head=None, frozen_below=0, **arguments):
    """Return an Update that descends the loss of the head after a block, or the model's own where that is None."""
    losses = (layerwise.Loss(after=head),)
    return layerwise.Update(blocks, losses=losses, frozen_below=frozen_below, **arguments)


def met(schedule, model):
    """Show a schedule a compiled model, as `fit` does before its first step, and return the schedule."""
    schedule.set_model(model)
    return schedule


def after_each_program(schedule, function):
    """Call a function whenever a program of a schedule has run and before the Update is counted, until the fit ends.

    This reaches into the package: where its inside changes, this is the place to mend.
    """
    programs = schedule._block_model.programs
    run = programs.run

    def then(*arguments):
        result = run(*arguments)
        function()
        return result

    programs.run = then


def optimize_graphs(always):
    """Let TensorFlow rewrite graphs before they first run, as it does for users, or not, unless OPTIMIZED_GRAPHS is set.

    It takes longer than most graphs of tests ever run, and changes last bits: who compares processes does the same in each.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        unwanted = not always and "OPTIMIZED_GRAPHS" not in os.environ
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": unwanted})


# --- compiled models that several tests share


def state_of(model):
    """Return copies of all that training changes: the model's variables (seeds of dropout included) and the optimizer's."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return values([*model.variables, *model.optimizer.variables])


def put_back(model, state):
    """Give a model and its optimizer back what `state_of` returned, and make the metrics forget."""
    if "make_train_function" in vars(model):
        model.make_train_function()  # takes off the schedule of a fit that was interrupted
    for variable, value in zip([*model.variables, *model.optimizer.variables], state, strict=True):
        variable.assign(value)
    model.reset_metrics()
    model._initial_epoch = None  # where a BackupAndRestore has let an earlier fit go on


@functools.cache
def _made(build, optimizer, arguments, policy, twin):
    arguments = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments}
    model = compiled(build(), optimizer(), **arguments)
    return model, state_of(model)


def pooled(build, optimizer, twin=False, **arguments):
    """Return a compiled model as it was before it was first trained: one model for all tests of a process.

    A schedule on it finds the programs that schedules before it have compiled, so a test that trains by the same Updates
    as another costs next to nothing. Whoever asks again gets the same object: copy what is to be compared, or ask for the
    twin.

    Args:
        build: a function that makes a model, from fixed seeds.
        optimizer: a function that makes an optimizer.
        twin: whether to return another such model, for what must exist beside the first.
        arguments: of `compile`, lists as tuples.
    """
    policy = keras.config.dtype_policy().name
    model, state = _made(build, optimizer, tuple(sorted(arguments.items())), policy, twin)
    put_back(model, state)
    return model


def block_values(model):
    """Return the trainable values of each ``block_<number>`` layer and what follows it."""
    blocks = []
    for layer in model.layers:
        if layer.name.startswith("block_"):
            blocks.append([])
        if layer.trainable_variables:
            blocks[-1].extend(values(layer.trainable_variables))
    return blocks


class Snapshots(keras.callbacks.Callback):
    """Keeps the trainable values of every block before training and after every batch."""

    def on_train_begin(self, logs=None):
        self.taken = [block_values(self.model)]

    def on_train_batch_end(self, batch, logs=None):
        self.taken.append(block_values(self.model))

    def ends(self):
        """Return the values before the first batch and after the last."""
        return self.taken[0], self.taken[-1]

    def moved(self):
        """Return for each batch the indices of the blocks with any bit changed, ascending."""
        return [
            tuple(
                k for k, pair in enumerate(zip(before, after, strict=True)) if not same_bits(*pair)
            )
            for before, after in zip(self.taken, self.taken[1:], strict=False)
        ]


def masked_stock(model, steps, before_step=None):
    """Train by stock ``train_on_batch``, undoing every step for the blocks that should not move.

    A second way to the same weights for every optimizer without a step count in its update rule
    (SGD, momentum, RMSprop) and without a norm over all gradients: trainable values and slots of
    the blocks that stand still are put back after each step.

    Args:
        model: a compiled model whose blocks are named ``block_<number>``.
        steps: a list of (arguments of train_on_batch, a tuple or a dict; moving blocks).
        before_step: called with the number of the step, e.g. to set the learning rate.

    Returns:
        The losses, one a step, each for its own batch.
    """
    variables, owner = [], []
    block = -1
    for layer in model.layers:
        block += layer.name.startswith("block_")
        variables += layer.trainable_variables
        owner += [block] * len(layer.trainable_variables)
    model.optimizer.build(model.trainable_variables)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    by_path = {
        variable.path.replace("/", "_"): k for variable, k in zip(variables, owner, strict=True)
    }
    slots = []
    for slot in optimizer.variables:
        owners = [k for path, k in by_path.items() if path in slot.path]
        if owners:
            slots.append((slot, owners[0]))
    losses = []
    for number, (arguments, moving) in enumerate(steps):
        if before_step is not None:
            before_step(number)
        watched = [*zip(variables, owner, strict=True), *slots]
        kept = [(variable, values([variable])[0]) for variable, k in watched if k not in moving]
        model.reset_metrics()
        if not isinstance(arguments, dict):
            arguments = dict(zip(("x", "y", "sample_weight"), arguments, strict=False))
        losses.append(float(np.asarray(model.train_on_batch(**arguments)).ravel()[0]))
        for variable, value in kept:
            variable.assign(value)
    return losses
