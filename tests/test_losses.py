"""Updates with several losses: one step, one program, and gradients that do not cross the cuts."""

import warnings

import keras
import numpy as np
import pytest

import layerwise
from examples.local_losses import LocalLosses
from layerwise import Loss, Update
from tests import references
from tests.helpers import (
    Snapshots,
    compiled,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    values,
    vectors,
)


class Always(layerwise.Schedule):
    """The same Updates on each batch."""

    def __init__(self, given, head="linear", state="keep"):
        super().__init__(head=head, state=state)
        self.given = given

    def updates(self, epoch, step):
        return self.given


def steep():
    return keras.optimizers.SGD(0.5)


def moved_by(*updates, optimizer=None):
    """Train one batch; return the change of each trainable variable, the loss shown, and the schedule."""
    model = pooled(mlp, steep) if optimizer is None else compiled(mlp(), optimizer)
    before = values(model.trainable_variables)
    schedule = Always(updates)
    x, y = vectors(8)
    history = model.fit(x, y, batch_size=8, verbose=0, callbacks=[schedule]).history
    after = values(model.trainable_variables)
    return [b - a for a, b in zip(before, after, strict=True)], history["loss"][0], schedule


LOCAL = Update((0, 1, 2, 3), losses=(*(Loss(k, cut=k) for k in range(3)), Loss(cut=3)))


def test_each_block_moves_by_its_own_loss_alone():
    together, loss, schedule = moved_by(LOCAL)
    assert sum(n for (held, *_), n in schedule.traces.items() if LOCAL in held) <= 1, "one program"
    assert len(schedule.counts) == 1
    losses = []
    for k in range(4):
        own = Update((k,), losses=(Loss(k if k < 3 else None, cut=k),))
        alone, its_loss, _ = moved_by(own)
        losses.append(its_loss)
        for i in (2 * k, 2 * k + 1):
            np.testing.assert_allclose(together[i], alone[i], rtol=1e-5, atol=1e-7)
            assert np.any(alone[i])
        others = [change for i, change in enumerate(alone) if i // 2 != k]
        assert not any(map(np.any, others))
    np.testing.assert_allclose(loss, sum(losses), rtol=1e-6)  # the logs show the sum


def test_without_cuts_the_gradients_add_up():
    deep = Update((0,), losses=(Loss(1), Loss()))
    together, _, _ = moved_by(deep)
    parts = [moved_by(Update((0,), losses=(loss,)))[0] for loss in deep.losses]
    for i in (0, 1):
        np.testing.assert_allclose(together[i], parts[0][i] + parts[1][i], rtol=1e-5, atol=1e-7)
        assert np.any(parts[0][i]) and np.any(parts[1][i])


def test_one_clipping_over_all_that_moves():
    optimizer = keras.optimizers.SGD(1.0, global_clipnorm=0.01)
    changes, _, schedule = moved_by(LOCAL, optimizer=optimizer)
    assert np.sqrt(sum((c.astype("float64") ** 2).sum() for c in changes)) < 0.01
    # The heads' gradients count, too: theirs is the rest of the norm.
    heads = values(v for head in schedule.heads.values() for v in head.trainable_variables)
    starts = values(
        v
        for head in moved_by(LOCAL, optimizer=keras.optimizers.SGD(0.0))[2].heads.values()
        for v in head.trainable_variables
    )
    squares = sum(
        ((a - b).astype("float64") ** 2).sum() for a, b in zip(heads, starts, strict=True)
    )
    squares += sum((c.astype("float64") ** 2).sum() for c in changes)
    np.testing.assert_allclose(np.sqrt(squares), 0.01, rtol=1e-4)


def test_metrics_are_those_of_the_last_loss():
    model = compiled(mlp(), keras.optimizers.SGD(0.0), metrics=["accuracy"])
    x, y = vectors(40)
    history = model.fit(x, y, verbose=0, callbacks=[Always((LOCAL,))], validation_data=(x, y))
    predicted = keras.ops.convert_to_numpy(model(x)).argmax(axis=1)
    assert history.history["accuracy"][0] == pytest.approx(np.mean(predicted == y))
    assert history.history["val_accuracy"][0] == pytest.approx(np.mean(predicted == y))


def test_local_losses_train_a_net_with_normalization():
    x, y = vectors(40)
    model = compiled(normalized_mlp(depth=2, dropout=0.2), keras.optimizers.Adam(0.02))
    snapshots = Snapshots()
    schedule = LocalLosses()
    history = model.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=[schedule, snapshots])
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert set(snapshots.moved()) == {(0, 1, 2)}
    assert list(schedule.visits["steps"]) == [40]


def test_a_loss_of_a_head_is_the_cross_entropy_of_its_predictions():
    _, loss, schedule = moved_by(
        Update((0,), losses=(Loss(0),)), optimizer=keras.optimizers.SGD(0.0)
    )
    x, y = vectors(8)
    kernel, bias, head_kernel, head_bias = [
        *values(mlp().trainable_variables[:2]),
        *values(schedule.heads[0].trainable_variables),
    ]
    logits = np.tanh(x @ kernel + bias) @ head_kernel + head_bias
    assert loss == pytest.approx(references.softmax_cross_entropy(logits, y)[0], rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Loss(after=1, cut=2), "reaches none"),
        (lambda: Loss(after=-1), "index or None"),
        (lambda: Update((0,), losses=()), "tuple of one or more Loss"),
        (lambda: Update((0, 1), resident=(2,)), "resident"),
    ],
)
def test_what_cannot_be_is_said_where_it_is_made(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (Update((0, 1), losses=(Loss(), Loss(after=2, cut=1))), "agree where it is cut"),
        (Update((0,), losses=(Loss(after=3),)), r"\[0, 1, 2\]"),
        (Update((4,)), "from 0 to 3"),
        (Update((0,), losses=(Loss(cut=1),)), "feels none of the losses"),
    ],
)
def test_what_a_model_cannot_carry_out_is_said_before_the_first_step(update, message):
    model = compiled(mlp())
    before = values(model.weights)
    with pytest.raises(ValueError, match=message):
        model.fit(*vectors(8), verbose=0, callbacks=[Always((update,))])
    assert same_bits(before, values(model.weights))


def test_a_block_that_the_loss_does_not_depend_on_moves_nothing_and_training_goes_on():
    inputs = keras.Input((4,))
    trunk = keras.layers.Dense(3, name="trunk")(inputs)
    outputs = {name: keras.layers.Dense(1, name=name)(trunk) for name in ("main", "extra")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss={"main": "mse", "extra": None})
    before = values(model.get_layer("extra").weights)
    x, y = np.ones((32, 4), "float32"), {"main": np.ones((32, 1), "float32")}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        schedule = layerwise.BlockCoordinate(blocks="layer")
        model.fit(x, y, batch_size=8, verbose=0, callbacks=[schedule])
    assert same_bits(values(model.get_layer("extra").weights), before)
    if keras.backend.backend() != "jax":  # where such gradients are zeros like others
        assert any("does not depend on" in str(one.message) for one in said)
