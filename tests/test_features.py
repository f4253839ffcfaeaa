"""Greedy training on cached features: the same run as without a cache, and each feature once."""

import os
import tempfile

import keras
import numpy as np
import pytest

import layerwise
from layerwise.backends import backend
from tests import helpers
from tests.helpers import (
    CLASSES,
    FEATURES,
    compiled,
    normalized_mlp,
    same_bits,
    values,
    vectors,
)

COUNT, BATCH = 44, 8


def mlp():
    """Return a net of three blocks."""
    return helpers.mlp(depth=3)


def two_blocks():
    """Return a net of two blocks: for facts that do not need features made of features."""
    return helpers.mlp(depth=2)


def normalized():
    """Return a net of three blocks with batch normalization and dropout."""
    return normalized_mlp(depth=2, dropout=0.2)


def fitted(cache, build, *data, optimizer="adam", schedule=None, compile_with=(), **arguments):
    """Train with or without a cache, from the same seeds; return history, weights and schedule."""
    # A model of its own: the first fit of a model draws random numbers that a further one does not.
    keras.utils.set_random_seed(3)
    model = compiled(build(), optimizer, metrics=["accuracy"], **dict(compile_with))
    schedule = schedule or layerwise.GreedyLayerwise()
    arguments = {"epochs": 2 * len(layerwise.partition(model)), "verbose": 0, **arguments}
    if len(data) == 2:
        arguments = {"batch_size": BATCH, **arguments}
    elif not isinstance(data[0], keras.utils.PyDataset):
        arguments["shuffle"] = (
            False  # a tf.data.Dataset shuffles by itself; fit warns if it is asked to
        )
    history = schedule.fit(model, *data, cache_features=cache, **arguments)
    heads = [v for head in schedule.heads.values() for v in head.variables]
    return history, values(model.weights + heads), schedule


def same_runs(build, data, cache="memory", **arguments):
    """Check that a run with a cache is the run without it, and return its History.

    Args:
        build: a callable that returns a model.
        data: a callable that returns the positional arguments of fit.
        cache: "memory" or "disk".
        arguments: of `fitted`.
    """
    plain, expected, without = fitted(None, build, *data(), **arguments)
    history, found, schedule = fitted(cache, build, *data(), **arguments)
    assert history.epoch == plain.epoch
    assert sorted(history.history) == sorted(plain.history)
    for name, column in plain.history.items():
        np.testing.assert_allclose(history.history[name], column, rtol=1e-5, atol=1e-6)
    for one, two in zip(expected, found, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-6)
    assert schedule.counts == without.counts
    return history


def weighted():
    return (*vectors(COUNT), np.linspace(0.1, 2.0, COUNT).astype("float32"))


class Slices(keras.utils.PyDataset):
    """Batches of the vectors; with noise, others each time."""

    def __init__(self, noise=0.0):
        super().__init__()
        self.x, self.y = vectors(COUNT)
        self.noise = noise

    def __len__(self):
        return -(-COUNT // BATCH)

    def __getitem__(self, index):
        here = slice(BATCH * index, BATCH * (index + 1))
        x = self.x[here]
        return x + self.noise * np.random.normal(size=x.shape).astype("float32"), self.y[here]


def tensor_slices():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(weighted())


def two_inputs():
    """Return a model of tokens and vectors; vectors and mask enter after the first block."""
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    vector = keras.Input((FEATURES,), name="vector")
    embedded = keras.layers.Embedding(7, 4, mask_zero=True, name="block_0")(tokens)
    value = keras.layers.Dense(4, activation="tanh", name="block_1")(embedded)
    value = keras.layers.GlobalAveragePooling1D()(value)
    value = keras.layers.Concatenate()([value, vector])
    value = keras.layers.Dense(5, activation="tanh", name="block_2")(value)
    return keras.Model(
        {"tokens": tokens, "vector": vector}, keras.layers.Dense(CLASSES, name="block_3")(value)
    )


def tokens_and_vectors():
    x, y = vectors(COUNT)
    tokens = np.random.default_rng(0).integers(1, 7, (COUNT, 5)).astype("int32")
    tokens[::2, 3:] = 0
    return {"tokens": tokens, "vector": x}, y


# --- the same run


@pytest.mark.parametrize(
    ("cache", "arguments"),
    [
        ("memory", {"validation_data": vectors(20, seed=5), "validation_freq": 2}),
        ("disk", {"class_weight": {0: 1.0, 1: 0.5, 2: 2.0}, "validation_split": 0.3}),
        pytest.param(
            "disk",
            {"sample_weight": weighted()[2], "steps_per_epoch": 3, "shuffle": "batch"},
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_arrays(cache, arguments):
    # Not Adam: a bias before batch normalization has no gradient but rounding, which Adam makes steps of.
    same_runs(normalized, lambda: vectors(COUNT), cache, optimizer="sgd", **arguments)


@pytest.mark.thorough
def test_finetuning_goes_back_to_the_data():
    def schedule():
        return layerwise.GreedyLayerwise(finetune_epochs=2)

    one, two = (
        fitted(
            cache, two_blocks, *vectors(COUNT), schedule=schedule(), epochs=4, validation_split=0.3
        )
        for cache in (None, "memory")
    )
    assert same_bits(one[1], two[1])
    assert one[0].history == two[0].history


@pytest.mark.thorough
# Heads pool over all positions, masked ones included, which Keras warns of.
@pytest.mark.filterwarnings("ignore:Layer 'head_after_block:UserWarning")
def test_several_inputs_and_masks():
    same_runs(two_inputs, tokens_and_vectors, validation_split=0.3)


@pytest.mark.thorough
@pytest.mark.parametrize("shuffled", [True, False])
def test_datasets(shuffled):
    tf = pytest.importorskip("tensorflow")
    now = []
    counter = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: now.append(epoch))

    def rows():  # a dataset's own shuffling would also depend on how often it was looked at
        x, y, weights = weighted()
        order = np.random.default_rng(len(now) if shuffled else 0).permutation(COUNT)
        yield from zip(x[order], y[order], weights[order], strict=True)

    signature = [tf.TensorSpec(*spec) for spec in (((FEATURES,), "float32"), ((), "int32"), ((),))]

    def data():
        now.clear()
        dataset = tf.data.Dataset.from_generator(rows, output_signature=tuple(signature))
        # On TensorFlow, stock fit counts a step too many where a dataset of unknown length ends.
        return (dataset.apply(tf.data.experimental.assert_cardinality(COUNT)).batch(BATCH),)

    validation = tensor_slices().batch(BATCH)
    same_runs(two_blocks, data, "disk", validation_data=validation, callbacks=[counter])


def test_shuffled_datasets_are_cached():
    dataset = tensor_slices().shuffle(COUNT).batch(BATCH, drop_remainder=True)
    history, _, _ = fitted("memory", mlp, dataset, epochs=3)
    assert history.history["stage"] == [0, 1, 2]


def test_dataset_without_end():
    def data():
        return (tensor_slices().repeat().batch(BATCH),)

    same_runs(two_blocks, data, steps_per_epoch=7, epochs=4)


@pytest.mark.thorough
def test_half_precision_and_many_chunks(monkeypatch):
    monkeypatch.setattr("layerwise.features.store.CHUNK_BYTES", 5 * 16)
    keras.config.set_dtype_policy("mixed_bfloat16")
    one, two = (
        fitted(cache, two_blocks, *vectors(COUNT), shuffle=False) for cache in (None, "disk")
    )
    if backend.device() == "gpu":  # where a product's rounding depends on how many rows it has
        for a, b in zip(one[1], two[1], strict=True):
            np.testing.assert_allclose(a, b, atol=0.02)
    else:
        assert same_bits(one[1], two[1])


@pytest.mark.thorough
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses it on torch")
def test_steps_per_execution():
    compile_with = {"steps_per_execution": 4}
    same_runs(two_blocks, lambda: vectors(COUNT), compile_with=compile_with, validation_split=0.3)


# --- each feature once


class Counted(keras.layers.Dense):
    """Dense layer that counts the examples it is run on."""

    def __init__(self, *arguments, **keywords):
        super().__init__(*arguments, **keywords)
        self.examples = 0

    def call(self, inputs, training=None):
        if inputs.shape[0] is not None and keras.ops.is_tensor(inputs):
            self.examples += inputs.shape[0]
        return super().call(inputs)


def test_finished_blocks_run_once_on_every_example():
    widths = [8, 8, 8, CLASSES]
    counted = [Counted(width, name=f"block_{k}") for k, width in enumerate(widths)]
    model = compiled(keras.Sequential([keras.Input((FEATURES,)), *counted]), run_eagerly=True)
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append([layer.examples for layer in counted])
    )
    validation = vectors(20, seed=5)
    layerwise.GreedyLayerwise(epochs_per_block=3).fit(
        model,
        *vectors(40),
        callbacks=[callback],
        validation_data=validation,
        epochs=12,
        batch_size=10,
        verbose=0,
    )
    seen.append([layer.examples for layer in counted])
    ran = np.diff(seen, axis=0).tolist()
    every = 40 + 20
    assert ran == [
        *([[every, 0, 0, 0]] * 3),
        [every, every, 0, 0],  # block 0 for its features
        *([[0, every, 0, 0]] * 2),
        [0, every, every, 0],
        *([[0, 0, every, 0]] * 2),
        [0, 0, every, every],
        *([[0, 0, 0, every]] * 2),
    ]


@pytest.mark.thorough
def test_features_of_an_earlier_stage_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    levels = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: levels.append(len(list(tmp_path.glob("layerwise_*/*"))))
    )
    schedule = layerwise.GreedyLayerwise(finetune_epochs=1)
    fitted(
        "disk", mlp, *vectors(COUNT), schedule=schedule, epochs=7, callbacks=[callback],
        validation_split=0.3,
    )  # fmt: skip
    assert levels == [0, 0, 1, 1, 1, 1, 0]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("error", "epoch"), [(RuntimeError, 0), (KeyboardInterrupt, 3)])
def test_nothing_is_left_behind(error, epoch, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, now, logs=None):
            if now == epoch:
                raise error

    model, (x, y) = compiled(mlp()), vectors(COUNT)
    schedule = layerwise.GreedyLayerwise()
    arguments = {"epochs": 8, "batch_size": BATCH, "verbose": 0}
    with pytest.raises(error):
        schedule.fit(model, x, y, cache_features="disk", callbacks=Stop(), **arguments)
    assert os.listdir(tmp_path) == []
    model.fit(x, y, batch_size=BATCH, verbose=0)
    assert "stage" not in model.history.history


# --- the user's callbacks


class Events(keras.callbacks.Callback):
    """Keeps what is called, and with which number."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(epoch)

    def on_train_end(self, logs=None):
        self.seen.append("end")


@pytest.mark.thorough
def test_py_datasets_and_callbacks_see_one_run():
    events = Events()
    history = same_runs(mlp, lambda: (Slices(),), validation_data=Slices(), callbacks=[events])
    assert events.seen == 2 * ["begin", *range(6), "end"]  # without and with a cache
    assert history.epoch == list(range(6))
    assert history.history["stage"] == [0, 0, 1, 1, 2, 2]


@pytest.mark.thorough
def test_early_stopping_ends_the_stage():
    class Never(keras.callbacks.EarlyStopping):
        def get_monitor_value(self, logs):
            return 1.0

    def run(cache):
        stopping = Never(patience=1, mode="min", baseline=0.0)
        return fitted(cache, two_blocks, *vectors(COUNT), epochs=8, callbacks=[stopping])

    one, two = run(None), run("memory")
    assert two[0].history["stage"] == one[0].history["stage"]
    assert sorted(set(two[0].history["stage"])) == [0, 1]
    for plain, cached in zip(one[1], two[1], strict=True):
        np.testing.assert_allclose(cached, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
def test_a_run_that_was_killed_goes_on(tmp_path):
    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 3:
                raise KeyboardInterrupt

    def run(*callbacks):
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        return fitted(
            "memory", normalized, *vectors(COUNT), callbacks=[backup, *callbacks], shuffle=False
        )

    _, whole, _ = fitted("memory", normalized, *vectors(COUNT), shuffle=False)
    with pytest.raises(KeyboardInterrupt):
        run(Kill())
    history, resumed, _ = run()
    assert history.epoch == [3, 4, 5]
    assert same_bits(whole, resumed)


# --- where a cache would be wrong


class Noisy(keras.layers.Layer):
    """Adds noise in inference too."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), seed=self.seed)


def noisy():
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(8, name="block_0"),
            Noisy(),
            keras.layers.Dense(CLASSES, name="block_1"),
        ]
    )


def augmented():
    tf = pytest.importorskip("tensorflow")

    def noise(x):  # tf.random in a dataset starts again with each iterator once a seed is set
        return x + np.random.normal(size=x.shape).astype("float32")

    def add(x, *y):
        return tf.ensure_shape(tf.numpy_function(noise, [x], "float32"), (FEATURES,)), *y

    return tensor_slices().map(add).batch(BATCH)


@pytest.mark.parametrize(
    ("build", "data", "cache", "message"),
    [
        (mlp, lambda: (iter_batches(),), "memory", "generator"),
        (mlp, lambda: (Slices(noise=0.1),), "memory", "looked at again"),
        (mlp, lambda: (augmented(),), "disk", "augmentation"),
        (noisy, lambda: vectors(COUNT), "memory", "block_0.*random in inference"),
        (mlp, lambda: vectors(COUNT), "ram", "'memory', 'disk' or None, got 'ram'"),
        (lambda: measured(), lambda: vectors(COUNT), "memory", "compute_metrics"),
    ],
)
def test_it_says_so_instead_of_caching(build, data, cache, message):
    model = compiled(build())
    before = values(model.weights)
    with pytest.raises(ValueError, match=message):
        layerwise.GreedyLayerwise().fit(model, *data(), cache_features=cache, epochs=4, verbose=0)
    assert same_bits(values(model.weights), before)


def test_the_model_comes_first():
    with pytest.raises(TypeError, match=r"first argument.*ndarray.*model, x, y"):
        layerwise.GreedyLayerwise().fit(*vectors(COUNT), epochs=4)


def test_data_that_fit_does_not_take_is_left_to_its_own_error():
    x, y = vectors(COUNT)
    with pytest.raises(ValueError, match="Unrecognized data type"):
        layerwise.GreedyLayerwise().fit(compiled(mlp()), x.tolist(), y.tolist(), epochs=4)


def iter_batches():
    while True:
        yield vectors(BATCH)


class Measured(keras.Model):
    """Model with metrics of its own."""

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return {}


def measured():
    net = mlp()
    return Measured(net.inputs, net.outputs)


def test_features_of_several_lengths_are_refused():
    class Lengths(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.ones((4, 3 + index, 2), "float32"), np.zeros(4, "int32")

    inputs = keras.Input((None, 2))
    value = keras.layers.Dense(4, name="block_0")(inputs)
    value = keras.layers.GlobalAveragePooling1D()(keras.layers.Dense(4, name="block_1")(value))
    model = compiled(keras.Model(inputs, keras.layers.Dense(CLASSES, name="block_2")(value)))
    with pytest.raises(ValueError, match="one length"):
        layerwise.GreedyLayerwise().fit(model, Lengths(), epochs=3, verbose=0)
