"""After ``fit``, ended, failed or interrupted, model, optimizer and files are stock."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest

import layerwise
from tests.helpers import compiled, mlp, normalized_mlp, same_bits, values, vectors

ROOT = Path(__file__).parent.parent
SCHEDULES = {
    "cyclic": lambda: layerwise.BlockCoordinate(every=2),
    "drop": lambda: layerwise.BlockCoordinate(order="shuffled", state="drop"),
    "sweeps": lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
    "greedy": lambda: layerwise.GreedyLayerwise(epochs_per_block=1),
    "finetuned": lambda: layerwise.GreedyLayerwise(epochs_per_block=1, finetune_epochs=1),
    "simultaneous": layerwise.Simultaneous,
}


class Fails(keras.callbacks.Callback):
    """Raises at a batch of an epoch."""

    def __init__(self, error, epoch=1, batch=2):
        super().__init__()
        self.error, self.at, self.epoch = error, (epoch, batch), 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise self.error


class FailsInValidation(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        raise RuntimeError("in validation")


def trained(model, *callbacks, epochs=4, **arguments):
    x, y = vectors(40)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(x, y, epochs=epochs, callbacks=list(callbacks), **arguments).history


def epochs_of(name):
    return 5 if name == "finetuned" else 4


def stock_twin(model, build):
    """Return a model that never met a schedule, with the same weights and optimizer state.

    By way of a file: after an interrupt under state="drop" the optimizer's slots of resting blocks
    have no memory until the next fit, but a file has them as any loaded model would.
    """
    twin = compiled(build(), "adam", metrics=["accuracy"])
    for optimizer, variables in ((m.optimizer, m.trainable_variables) for m in (model, twin)):
        optimizer.build(variables) if not optimizer.built else None
    with tempfile.TemporaryDirectory() as folder:
        model.save_weights(Path(folder) / "model.weights.h5")
        twin.load_weights(Path(folder) / "model.weights.h5")
    assert int(twin.optimizer.iterations) == int(model.optimizer.iterations)
    return twin


def assert_is_stock(model, build=mlp):
    twin = stock_twin(model, build)
    x, y = vectors(24, seed=9)
    for arguments in ({}, {"batch_size": 7}):
        found = model.evaluate(x, y, verbose=0, **arguments)
        assert found == twin.evaluate(x, y, verbose=0, **arguments)
    assert same_bits([model.predict(x, verbose=0)], [twin.predict(x, verbose=0)])
    assert trained(model, epochs=2) == trained(twin, epochs=2)
    assert same_bits(values(model.weights), values(twin.weights))
    assert same_bits(values(model.optimizer.variables), values(twin.optimizer.variables))
    x, y = vectors(8, seed=2)
    np.testing.assert_array_equal(model.train_on_batch(x, y), twin.train_on_batch(x, y))
    assert same_bits(values(model.weights), values(twin.weights))
    assert attributes(model) == attributes(twin)


def attributes(model):
    """Return the names and types of what is stored on a model and its optimizer."""
    return [
        {name: type(value) for name, value in vars(owner).items()}
        for owner in (model, model.optimizer)
    ]


@pytest.mark.parametrize("name", SCHEDULES)
def test_after_fit_all_is_stock(name):
    model = compiled(mlp(), "adam", metrics=["accuracy"])
    optimizer = model.optimizer
    trained(model, SCHEDULES[name](), epochs=epochs_of(name), validation_data=vectors(8))
    twin = compiled(mlp(), "adam", metrics=["accuracy"])
    trained(twin, validation_data=vectors(8))
    assert attributes(model) == attributes(twin)
    assert model.optimizer is optimizer
    assert_is_stock(model)


@pytest.mark.parametrize(
    ("name", "error"),
    [(name, KeyboardInterrupt()) for name in SCHEDULES]
    + [(name, RuntimeError("stop")) for name in ("cyclic", "greedy")],
)
def test_after_a_fit_that_raised_all_is_stock(name, error):
    model = compiled(mlp(), "adam", metrics=["accuracy"])
    with pytest.raises(type(error)):
        trained(model, SCHEDULES[name](), Fails(error), epochs=epochs_of(name))
    assert_is_stock(model)


@pytest.mark.parametrize("name", ["cyclic", "greedy"])
def test_after_validation_that_raised_all_is_stock(name):
    model = compiled(mlp(), "adam", metrics=["accuracy"])
    with pytest.raises(RuntimeError, match="in validation"):
        trained(model, SCHEDULES[name](), FailsInValidation(), validation_data=vectors(8))
    assert_is_stock(model)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("drop", "train_on_batch"),
        ("greedy", "train_on_batch"),
        ("greedy", "evaluate"),
        ("drop", "save"),
        ("drop", "compile"),
        ("drop", "make_train_function"),
    ],
)
def test_whatever_comes_first_after_an_interrupt(name, method, tmp_path):
    model = compiled(mlp(), "adam", metrics=["accuracy"])
    with pytest.raises(KeyboardInterrupt):
        trained(model, SCHEDULES[name](), Fails(KeyboardInterrupt()))
    x, y = vectors(8)
    if method == "train_on_batch":
        twin = stock_twin(model, mlp)
        np.testing.assert_array_equal(model.train_on_batch(x, y), twin.train_on_batch(x, y))
        assert same_bits(values(model.weights), values(twin.weights))
    elif method == "evaluate":
        twin = stock_twin(model, mlp)
        assert model.evaluate(x, y, verbose=0) == twin.evaluate(x, y, verbose=0)
    elif method == "save":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert same_bits(values(loaded.weights), values(model.weights))
        twin = stock_twin(model, mlp)
        assert same_bits(values(loaded.optimizer.variables), values(twin.optimizer.variables))
    elif method == "make_train_function":
        twin = stock_twin(model, mlp)
        model.make_train_function()
        assert same_bits(values(model.optimizer.variables), values(twin.optimizer.variables))
        assert same_bits(values(model.weights), values(twin.weights))
    else:
        compiled(model, "adam", metrics=["accuracy"])
    assert_is_stock(model)


@pytest.mark.parametrize("name", ["simultaneous", "cyclic"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_after_trainable_and_compile_nothing_old_runs(name, interrupted):
    def only(model, block):
        for layer in model.layers:
            layer.trainable = layer.name == block
        return compiled(model, keras.optimizers.SGD(0.1))

    # Blocks 1 and 2 have the same shapes: on JAX a program for one would run with the other's variables.
    model, schedule = only(mlp(), "block_1"), SCHEDULES[name]()
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            trained(model, schedule, Fails(KeyboardInterrupt()))
    else:
        trained(model, schedule)
    only(model, "block_2")
    twin = mlp()
    twin.set_weights(model.get_weights())
    only(twin, "block_2")
    before = model.get_layer("block_2").get_weights()
    assert trained(model, epochs=1) == trained(twin, epochs=1)
    assert same_bits(model.get_weights(), twin.get_weights())
    assert not same_bits(before, model.get_layer("block_2").get_weights())


@pytest.mark.parametrize("name", ["cyclic", "drop", "greedy"])
def test_after_an_interrupt_another_schedule_and_the_same_one_can_go_on(name):
    model = compiled(mlp(), "adam")
    schedule = SCHEDULES[name]()
    with pytest.raises(KeyboardInterrupt):
        trained(model, schedule, Fails(KeyboardInterrupt()))
    trained(model, SCHEDULES[name](), epochs=4)
    seen = len(schedule.visits)
    trained(model, schedule, epochs=4, initial_epoch=1)
    assert len(schedule.visits) > seen


def test_the_optimizer_holds_trained_slots_and_the_count_of_updates():
    for name, updates in (("cyclic", 20), ("sweeps", 80), ("greedy", 20), ("finetuned", 25)):
        model = compiled(mlp(), "adam")
        seen = []
        look = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs, model=model, seen=seen: seen.append(
                int(look_at(model).iterations)
            )
        )
        trained(model, SCHEDULES[name](), look, epochs=epochs_of(name))
        assert int(model.optimizer.iterations) == updates
        assert seen == list(range(updates // len(seen), updates + 1, updates // len(seen)))
        slots = values(model.optimizer.variables)[2:]
        assert len(slots) == 2 * len(model.trainable_variables)
        assert all(np.any(slot) for slot in slots)


def look_at(model):
    """Return the optimizer with the values that training has now (JAX holds them elsewhere)."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()
    return model.optimizer


@pytest.mark.parametrize("name", ["drop", "greedy"])
def test_the_optimizer_is_the_users_at_every_moment(name):
    model = compiled(mlp(), "adam")
    optimizer, kind, seen = model.optimizer, type(model.optimizer), []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: seen.append(model.optimizer),
        on_train_batch_end=lambda batch, logs: seen.append(model.optimizer),
    )
    trained(model, SCHEDULES[name](), look)
    assert all(found is optimizer for found in seen)
    assert type(optimizer) is kind


LOADER = """
import sys
sys.modules["layerwise"] = None  # importing it fails
import warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np
from pathlib import Path
folder = Path(sys.argv[1])
x, y = np.load(folder / "x.npy"), np.load(folder / "y.npy")
for path in sorted(folder.glob("*.keras")):
    model = keras.saving.load_model(path)
    np.save(f"{path}.predicted.npy", keras.ops.convert_to_numpy(model(x)))
    weights = path.with_suffix(".weights.h5")
    if weights.exists():
        model.set_weights([0 * value for value in model.get_weights()])
        model.load_weights(weights)
        np.save(f"{weights}.predicted.npy", keras.ops.convert_to_numpy(model(x)))
    np.save(f"{path}.iterations.npy", int(model.optimizer.iterations))
    if "after" in path.name:
        model.fit(x, y, verbose=0)
"""


def test_saved_models_load_where_layerwise_is_not_installed(tmp_path):
    x, y = vectors(16)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    expected, updates = {}, {}
    names = ("drop", "sweeps", "finetuned")
    for name in names:
        model = compiled(normalized_mlp(depth=3, dropout=0.2), "adam")
        during = str(tmp_path / f"{name}, epoch {{epoch}}")
        predict = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, model=model, during=during: expected.update(
                {during.format(epoch=epoch + 1): keras.ops.convert_to_numpy(synced(model)(x))}
            )
        )
        trained(
            model,
            keras.callbacks.ModelCheckpoint(during + ".keras"),
            SCHEDULES[name](),
            keras.callbacks.ModelCheckpoint(during + ".weights.h5", save_weights_only=True),
            predict,
            epochs=epochs_of(name),
        )
        after = str(tmp_path / f"{name}, after")
        model.save(after + ".keras")
        expected[after] = keras.ops.convert_to_numpy(model(x))
        updates[after] = int(model.optimizer.iterations)
    run_python(LOADER, str(tmp_path))
    assert len(expected) == sum(epochs_of(name) + 1 for name in names)
    for path, prediction in expected.items():
        np.testing.assert_allclose(
            np.load(path + ".keras.predicted.npy"), prediction, rtol=1e-5, atol=1e-6
        )
        if not path.endswith("after"):
            found = np.load(path + ".weights.h5.predicted.npy")
            np.testing.assert_allclose(found, prediction, rtol=1e-5, atol=1e-6)
    for path, count in updates.items():
        assert int(np.load(path + ".keras.iterations.npy")) == count


def synced(model):
    look_at(model)
    return model


def run_python(code, *arguments):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


INTERRUPTED = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import keras, layerwise
from tests.helpers import compiled, mlp, vectors
from tests.test_left_behind import SCHEDULES, assert_is_stock

class Says(keras.callbacks.Callback):
    batches = 0
    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches % 1000 == 7:
            print("running", flush=True)

x, y = vectors(40)
for schedule in (
    layerwise.BlockCoordinate(order="shuffled", every=3, state="drop"),
    layerwise.GreedyLayerwise(),
):
    model = compiled(mlp(), "adam", metrics=["accuracy"])
    try:
        model.fit(x, y, batch_size=8, epochs=10**6, verbose=0, callbacks=[schedule, Says()])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert_is_stock(model)
    print("stock", flush=True)
"""


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="others do not give arrays away")
def test_an_interrupt_between_a_step_and_its_count_waits_for_the_count():
    model, schedule = compiled(mlp(), "adam"), layerwise.BlockCoordinate(sweep_each_batch=True)

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                run = schedule._session.run

                def interrupted(*arguments):
                    result = run(*arguments)
                    signal.raise_signal(signal.SIGINT)
                    return result

                schedule._session.run = interrupted

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(model, schedule, Interrupt())
    finally:
        signal.signal(signal.SIGINT, handler)
    model.jax_state_sync()
    updates = 2 * len(schedule.blocks) + 1
    assert schedule.counts.total() == int(model.optimizer.iterations) == updates


def test_a_real_interrupt():
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        said = []
        for line in child.stdout:
            said.append(line.strip())
            if said[-1] == "running":
                # Again after a thousand batches: NumPy drops one that it meets while it waits for a JAX array.
                child.send_signal(signal.SIGINT)
        child.wait(timeout=60)
        said = [line for line, _ in itertools.groupby(said)]
        assert said == ["running", "interrupted", "stock"] * 2, child.stderr.read()
        assert child.returncode == 0
    finally:
        child.kill()
        child.communicate()
