"""Schedules that look at a batch before they decide: Gauss-Southwell."""

import functools

import keras
import numpy as np
import pytest

import layerwise
from layerwise import Look, Update
from tests import references
from tests.helpers import (
    AtBatch,
    batches,
    compiled,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    values,
    vectors,
)


def as_layers(model):
    """Return the network in the form of references.py, in float64."""
    pairs = zip(*[iter(values(model.trainable_variables))] * 2, strict=True)
    return [{"kernel": k.astype("float64"), "bias": b.astype("float64")} for k, b in pairs]


def norms(layers, x, y):
    """Return the norm of each block's gradient."""
    found = references.gradients(layers, x, y, references.softmax_cross_entropy)
    return np.array([np.sqrt(sum((g**2).sum() for g in block.values())) for block in found])


def uneven():
    """Return a net whose blocks differ in size, so that the two scores choose differently."""
    widths = [24, 4, 24, 3]
    layers = [
        keras.layers.Dense(
            n,
            None if k == 3 else "tanh",
            kernel_initializer=keras.initializers.GlorotUniform(seed=k),
            name=f"block_{k}",
        )
        for k, n in enumerate(widths)
    ]
    return keras.Sequential([keras.Input((6,)), *layers])


def steep():
    return keras.optimizers.SGD(0.5)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("order", ["gauss_southwell", "gauss_southwell_rms"])
def test_the_block_with_the_largest_gradient_moves(order, every):
    model, (x, y) = pooled(uneven, steep), vectors(40)
    schedule = layerwise.BlockCoordinate(order=order, every=every)
    layers, chosen = as_layers(model), []
    sizes = np.array([sum(v.size for v in layer.values()) for layer in layers])
    for step, (a, b) in enumerate(batches(x.astype("float64"), y, 8, 4)):
        if step % every == 0:
            score = norms(layers, a, b)
            turn = int(np.argmax(score / np.sqrt(sizes) if order.endswith("rms") else score))
        steps, loss = [(a, b, (turn,), False)], references.softmax_cross_entropy
        layers = references.train(layers, steps, references.SGD(0.5), loss)[-1]
        chosen.append(turn)
    model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0, callbacks=[schedule])
    visits = schedule.visits
    assert list(visits["blocks"]) == [(f"block_{k}",) for k in chosen[::every]]
    assert len(set(chosen)) > 1
    assert schedule.counts[Look("gradient_norm")] == len(chosen[::every])
    for found, expected in zip(as_layers(model), layers, strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5)


def test_visits_of_an_epoch_look_once_an_epoch():
    schedule = layerwise.BlockCoordinate(order="gauss_southwell", every="epoch", always=["block_3"])
    model = pooled(mlp, keras.optimizers.Adam)
    model.fit(*vectors(40), batch_size=8, epochs=3, verbose=0, callbacks=[schedule])
    assert schedule.counts[Look("gradient_norm")] == 3
    assert list(schedule.visits["steps"]) == [5, 5, 5]
    assert all("block_3" in blocks and len(blocks) == 2 for blocks in schedule.visits["blocks"])


class LooksAndDoesNothing(layerwise.Schedule):
    """Looks at every batch and trains as if it had not."""

    def looks(self, epoch, step):
        return Look("gradient_norm"), Look("loss")

    def see(self, epoch, step, measured):
        self.memory.setdefault("losses", np.zeros(0))
        self.memory["losses"] = np.append(self.memory["losses"], measured["loss"])

    def updates(self, epoch, step):
        return (Update(tuple(range(len(self.blocks)))),)


@pytest.mark.thorough
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_looking_changes_nothing(dropout):
    def run(callbacks):
        keras.utils.set_random_seed(0)
        model = compiled(normalized_mlp(depth=2, dropout=dropout), "adam", metrics=["accuracy"])
        arguments = {"batch_size": 8, "epochs": 2, "shuffle": False, "verbose": 0}
        history = model.fit(*vectors(40), callbacks=callbacks, **arguments).history
        return values(model.variables), values(model.optimizer.variables), history

    schedule = LooksAndDoesNothing()
    found, stock = run([schedule]), run([])
    assert same_bits(found[0], stock[0])
    assert same_bits(found[1], stock[1])
    assert found[2] == stock[2]
    # What it saw is the loss that the step then took: the same masks, the same statistics.
    assert found[2]["loss"][0] == pytest.approx(np.mean(schedule.memory["losses"][:5]), rel=1e-5)


def test_looking_without_a_seed_for_dropout_changes_nothing():
    def run(callbacks):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dropout(0.5), keras.layers.Dense(3)]
        model = compiled(keras.Sequential([keras.Input((6,)), *layers]), "sgd")
        model.fit(*vectors(40), batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)
        return values(model.weights)

    assert same_bits(run([LooksAndDoesNothing()]), run([]))


def test_a_look_is_charged():
    schedule = layerwise.BlockCoordinate(order="gauss_southwell")
    model, (x, y) = pooled(mlp, keras.optimizers.Adam), vectors(8)
    model.fit(x, y, verbose=0, callbacks=[schedule])
    everything = schedule.flops(Update((0, 1, 2, 3)), x, y)
    look = schedule.flops(Look("gradient_norm"), x, y)
    # A forward and a whole backward pass, and no optimizer.
    assert schedule.flops(Update((3,)), x, y) < look <= everything * 1.1


class Stop(Exception):
    pass


def stop_here():
    raise Stop


def with_dropout():
    return normalized_mlp(depth=3, dropout=0.3)


def run(folder=None, stop=None):
    """Train until the end or a stop; whoever resumes does so with another model."""
    resumes = folder is not None and stop is None
    model = pooled(with_dropout, keras.optimizers.AdamW, twin=resumes)
    schedule = layerwise.BlockCoordinate(order="gauss_southwell", every=7, state="reset")
    callbacks = [schedule] + ([AtBatch(*stop, stop_here)] if stop else [])
    callbacks += [keras.callbacks.BackupAndRestore(folder)] if folder else []
    try:
        x, y = vectors(40)
        model.fit(x, y, batch_size=8, epochs=5, shuffle=False, verbose=0, callbacks=callbacks)
    except Stop:
        assert stop
    return values(model.variables), values(model.optimizer.variables), schedule


@functools.cache
def uninterrupted():
    return run()


@pytest.mark.thorough
@pytest.mark.parametrize("stop", [(1, 2), (2, 0)])
def test_resuming_is_exact(stop, tmp_path):
    run(tmp_path / "backup", stop)
    resumed, whole = run(tmp_path / "backup"), uninterrupted()
    assert same_bits(resumed[0], whole[0])
    assert same_bits(resumed[1], whole[1])
    assert resumed[2].visits.equals(whole[2].visits)
    assert resumed[2].counts == whole[2].counts
    assert {k: v.tolist() for k, v in resumed[2].memory.items()} == {
        k: v.tolist() for k, v in whole[2].memory.items()
    }


def test_a_sweep_leaves_nothing_to_choose():
    with pytest.raises(ValueError, match="chooses one block for each visit"):
        layerwise.BlockCoordinate(order="gauss_southwell", sweep_each_batch=True)


def test_unknown_quantities_are_said():
    with pytest.raises(ValueError, match="'gradient_norm', 'loss', got 'hessian'"):
        Look("hessian")
