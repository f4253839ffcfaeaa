"""The user's optimizer, block by block: what it may be, and when it steps."""

import keras
import numpy as np
import pytest

import layerwise
from tests.helpers import Snapshots, compiled, mlp, same_bits, values, vectors


class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning-rate schedule as books write it: without a config."""

    def __call__(self, step):
        return 0.01 * keras.ops.minimum(1.0, (keras.ops.cast(step, "float32") + 1) / 8)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "make",
    [
        layerwise.GreedyLayerwise,
        lambda: layerwise.BlockCoordinate(state="reset"),
        lambda: layerwise.BlockCoordinate(state="drop", every=2),
    ],
    ids=["greedy", "reset", "drop"],
)
def test_a_learning_rate_schedule_needs_no_config(make):
    def trained(rate):
        model = compiled(mlp(), keras.optimizers.Adam(rate))
        arguments = {"batch_size": 8, "epochs": 4, "shuffle": False, "verbose": 0}
        model.fit(*vectors(40), callbacks=[make()], **arguments)
        return values(model.weights)

    # The same rates by a schedule that has a config.
    steps, rates = list(range(8)), [0.01 * k / 8 for k in range(1, 9)]
    twin = keras.optimizers.schedules.PiecewiseConstantDecay(steps, [*rates, 0.01])
    for left, right in zip(trained(WarmUp()), trained(twin), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


def test_learning_rate_schedules_and_iterations_count_batches():
    seen = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            seen.append((int(self.model.optimizer.iterations), batch + 1))

    # SGD halves its rate after each batch: of a sweep on a batch, all blocks take the batch's rate.
    decay = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    sweep = layerwise.BlockCoordinate(sweep_each_batch=True, order="reverse")
    x, y = vectors(24)
    arguments = {"batch_size": 8, "shuffle": False, "verbose": 0}
    model = compiled(mlp(), keras.optimizers.SGD(decay))
    model.fit(x, y, callbacks=[sweep, Rates()], **arguments)
    assert seen == [(1, 1), (2, 2), (3, 3)]
    assert sweep.counts.total() == 12

    twin = compiled(mlp(), keras.optimizers.SGD(0.5))
    again = layerwise.BlockCoordinate(sweep_each_batch=True, order="reverse")
    rates = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: twin.optimizer.learning_rate.assign(
            0.5 * 0.5**batch
        )
    )
    if keras.backend.backend() == "jax":  # a callback's assignment does not reach a running fit
        for batch in range(3):
            twin.optimizer.learning_rate = 0.5 * 0.5**batch
            part = slice(8 * batch, 8 * batch + 8)
            twin.fit(x[part], y[part], callbacks=[again], **arguments)
    else:
        twin.fit(x, y, callbacks=[again, rates], **arguments)
    assert same_bits(values(model.weights), values(twin.weights))


@pytest.mark.thorough
# Keras warns of the end of a dataset of unknown length.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.data")
@pytest.mark.parametrize("steps", [1, 2])
def test_a_call_that_finds_no_batch_changes_nothing(steps):
    import tensorflow as tf

    x, y = vectors(40)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).filter(lambda a, b: True)
    model = compiled(
        mlp(), keras.optimizers.AdamW(0.01, weight_decay=0.5), steps_per_execution=steps
    )
    snapshots, schedule = Snapshots(), layerwise.BlockCoordinate()
    before = values(model.weights)
    model.fit(dataset, shuffle=False, epochs=3, verbose=0, callbacks=[schedule, snapshots])
    assert int(model.optimizer.iterations) == 15
    assert int(schedule.visits["steps"].sum()) == 15
    if steps == 1:
        assert snapshots.moved()[:15] == [(step % 4,) for step in range(15)]
    # Stock fit decays the weights once more at the end of each epoch; so blocks=1 differs from it here.
    twin = compiled(mlp(), keras.optimizers.AdamW(0.01, weight_decay=0.5))
    twin.set_weights(before)
    twin.fit(x, y, batch_size=8, shuffle=False, epochs=3, verbose=0, callbacks=[type(schedule)()])
    assert same_bits(values(model.weights), values(twin.weights))


BEFORE_APPLY = {"tensorflow": "apply_gradients", "jax": "stateless_apply"}.get(
    keras.backend.backend()
)


@pytest.mark.skipif(BEFORE_APPLY is None, reason="stock fit calls apply itself")
def test_what_a_step_of_blocks_would_not_call_is_refused():
    class Own(keras.optimizers.SGD):
        pass

    def apply(self, *arguments):
        return getattr(keras.optimizers.SGD, BEFORE_APPLY)(self, *arguments)

    setattr(Own, BEFORE_APPLY, apply)
    for optimizer in (Own(), keras.optimizers.LossScaleOptimizer(Own())):
        model = compiled(mlp(depth=2), optimizer)
        with pytest.raises(ValueError, match=f"Own has its own {BEFORE_APPLY}.*update_step"):
            model.fit(*vectors(8), verbose=0, callbacks=[layerwise.BlockCoordinate()])
        with pytest.raises(ValueError, match=f"Own has its own {BEFORE_APPLY}"):
            layerwise.diagnostics.Step(model, *vectors(8))


def test_an_apply_of_ones_own_is_called():
    calls = []

    class Own(keras.optimizers.SGD):
        def apply(self, *arguments):
            calls.append(arguments)
            return super().apply(*arguments)

    model = compiled(mlp(depth=2), Own())
    model.fit(*vectors(8), verbose=0, callbacks=[layerwise.BlockCoordinate()])
    assert calls
