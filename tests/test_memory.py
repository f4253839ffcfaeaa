"""state="drop" from the first byte on: slots of blocks that rest are never allocated, before, in or after `fit`."""

import gc

import keras
import numpy as np
import pytest

import layerwise
from layerwise.backends import backend, internals
from tests.helpers import compiled, mlp, pooled, same_bits, values, vectors


class SlotBytes(keras.callbacks.Callback):
    """Counts the bytes of the optimizer's slots whenever Keras calls."""

    def __init__(self):
        super().__init__()
        self.held = []

    def count(self, *arguments, **named):
        optimizer = self.model.optimizer
        slots = internals.slots(optimizer) if optimizer.built else []
        self.held.append(sum(backend.nbytes(slot, self.model) for slot in slots))

    on_train_begin = on_epoch_begin = on_train_batch_begin = on_train_batch_end = count
    on_epoch_end = on_train_end = count


def two_blocks():
    return mlp(depth=2)


def whole_twin():
    """Return a model whose optimizer has all its slots: the same one for all tests, as it was made."""
    return pooled(two_blocks, keras.optimizers.Adam)


def largest(schedule):
    return max(2 * 4 * block.parameters for block in schedule.blocks)


def dropped(model, schedule, **arguments):
    """Train with counting callbacks on both sides of the schedule; return all that was counted."""
    before, after = SlotBytes(), SlotBytes()
    x, y = vectors(40)
    arguments = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0, **arguments}
    model.fit(x, y, callbacks=[before, schedule, after], **arguments)
    return [*before.held, *after.held]


def built(model, schedule):
    """Before fit, where fit would build the optimizer with all its slots before callbacks are called."""
    if keras.backend.backend() != "tensorflow":
        schedule.build(model)
    return schedule


@pytest.mark.parametrize("optimizer", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_no_slot_of_a_resting_block_is_ever_allocated(optimizer):
    model = compiled(mlp(depth=2), optimizer(0.01))
    schedule = built(model, layerwise.BlockCoordinate(state="drop", every=2))
    held = dropped(model, schedule)
    assert 0 < max(held) <= largest(schedule) < 2 * 4 * model.count_params()
    held = dropped(model, schedule)  # and a second fit
    assert 0 < max(held) <= largest(schedule)
    assert schedule.optimizer_state_bytes() <= largest(schedule)


def test_the_build_itself_holds_one_slot_at_a_time():
    released = []
    release = backend.release
    optimizer = keras.optimizers.Adam()
    model = compiled(mlp(depth=2), optimizer)
    held = []

    def counted(slot):
        slots = [v for v in optimizer.variables if v.path.startswith("adam/") and v.shape != ()]
        released.append(slot)
        release(slot)
        held.append(sum(backend.nbytes(v, model) for v in slots))

    from layerwise.optimizers.slots import build_released

    backend.release = counted
    try:
        shapes = build_released(optimizer, optimizer, model.trainable_variables)
    finally:
        backend.release = release
    assert len(shapes) == len(released) == 2 * len(model.trainable_variables)
    assert max(held) == 0


def test_the_weights_are_those_of_a_fit_that_allocated_first():
    model = compiled(mlp(depth=2), "adam")
    dropped(model, built(model, layerwise.BlockCoordinate(state="drop", every=2)))
    twin = whole_twin()
    dropped(twin, layerwise.BlockCoordinate(state="drop", every=2))
    assert same_bits(values(model.weights), values(twin.weights))


@pytest.mark.parametrize("next_call", ["fit", "train_on_batch", "save", "make_train_function"])
def test_whatever_comes_next_finds_a_whole_optimizer(next_call, tmp_path):
    def prepared(whole):
        model = whole_twin() if whole else compiled(two_blocks(), "adam")
        schedule = layerwise.BlockCoordinate(state="drop", every=2)
        if not whole:
            built(model, schedule)
        dropped(model, schedule)
        return model

    model, twin = prepared(False), prepared(True)
    x, y = vectors(8)
    if next_call == "fit":
        for each in (model, twin):
            each.fit(x, y, shuffle=False, verbose=0)
    elif next_call == "train_on_batch":
        for each in (model, twin):
            each.train_on_batch(x, y)
    elif next_call == "save":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert same_bits(values(loaded.optimizer.variables), values(twin.optimizer.variables))
    if next_call != "save":
        model.make_train_function()
        assert same_bits(values(model.optimizer.variables), values(twin.optimizer.variables))
    assert same_bits(values(model.weights), values(twin.weights))


def test_an_optimizer_that_had_its_slots_has_them_again_after_fit():
    model = compiled(mlp(depth=2), "adam")
    model.fit(*vectors(8), verbose=0)
    shapes = [tuple(np.shape(v)) for v in values(model.optimizer.variables)]
    dropped(model, layerwise.BlockCoordinate(state="drop"))
    assert [tuple(np.shape(v)) for v in values(model.optimizer.variables)] == shapes


def test_another_partition_after_a_released_fit():
    model = compiled(mlp(), "adam")
    dropped(model, built(model, layerwise.BlockCoordinate(state="drop")))
    schedule = layerwise.BlockCoordinate(blocks=2, state="drop")
    dropped(model, schedule)
    model.make_train_function()
    twin = compiled(mlp(), "adam")
    twin.optimizer.build(twin.trainable_variables)
    shapes = [tuple(np.shape(v)) for v in values(twin.optimizer.variables)]
    assert [tuple(np.shape(v)) for v in values(model.optimizer.variables)] == shapes


@pytest.mark.thorough
@pytest.mark.parametrize("made_ready", ["build", "a fit that fails before it begins"])
@pytest.mark.parametrize(
    "next_call", ["fit", "train_on_batch", "another schedule", "stock schedule", "save"]
)
def test_slots_without_memory_before_a_fit_are_nobody_elses_trouble(
    made_ready, next_call, tmp_path
):
    x, y = vectors(8)
    model, twin = compiled(two_blocks(), "adam"), whole_twin()
    schedule = layerwise.BlockCoordinate(state="drop")
    if made_ready == "build":
        schedule.build(model)
        assert schedule.optimizer_state_bytes() == 0
    else:
        fails = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.fit(x, y, verbose=0, callbacks=[fails, schedule])
    if next_call == "save":
        model.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
    others = {
        "another schedule": layerwise.BlockCoordinate,
        "stock schedule": layerwise.Simultaneous,
    }
    for each in (model, twin):
        if next_call == "train_on_batch":
            each.train_on_batch(x, y)
        else:
            callbacks = [others[next_call]()] if next_call in others else []
            each.fit(x, y, shuffle=False, verbose=0, callbacks=callbacks)
    assert same_bits(values(model.weights), values(twin.weights))
    assert same_bits(values(model.optimizer.variables), values(twin.optimizer.variables))
    assert "_layerwise" not in vars(model)
    assert "make_train_function" not in vars(model)


def test_building_twice_changes_nothing():
    model, twin = compiled(two_blocks(), "adam"), whole_twin()
    schedule = layerwise.BlockCoordinate(state="drop")
    schedule.build(model)
    schedule.build(model)
    assert schedule.optimizer_state_bytes() == 0
    held = dropped(model, schedule)
    assert max(held) <= largest(schedule)
    dropped(twin, layerwise.BlockCoordinate(state="drop"))
    assert same_bits(values(model.weights), values(twin.weights))


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="others have no list of live arrays")
def test_no_array_outlives_its_step():
    """What a process holds beside weights and slots is XLA's programs, not arrays that programs keep."""
    import jax

    def held():
        gc.collect()
        return sum(array.nbytes for array in jax.live_arrays())

    class Held(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.jax_state_sync()
            taken.append(held() - before)

    model, taken = compiled(mlp(depth=3, width=128), "adam"), []
    schedule = layerwise.BlockCoordinate(state="drop")
    schedule.build(model)
    x, y = vectors(48)
    before = held()
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[Held(), schedule])
    small = (
        20_000  # batches, metrics, seeds and counts; the largest block has 130,000 bytes of slots
    )
    assert max(taken) <= largest(schedule) + small


def test_a_model_that_is_compiled_again_with_its_optimizer_has_its_slots_again():
    model = mlp()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy")
    schedule = layerwise.BlockCoordinate(every=4, state="drop")
    schedule.build(model)
    x, y = vectors(32)
    fit = {"batch_size": 8, "verbose": 0}
    model.fit(x, y, callbacks=[schedule], **fit)
    model.compile(optimizer=model.optimizer, loss="sparse_categorical_crossentropy")
    model.fit(x, y, callbacks=[schedule], **fit)
    model.fit(x, y, **fit)
    assert all(np.isfinite(w).all() for w in values(model.weights))
