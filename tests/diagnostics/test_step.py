"""A Step against training itself, central differences, and Hessians by other means."""

import keras
import numpy as np
import pytest

import layerwise
from layerwise.backends import backend, double
from layerwise.diagnostics import Step
from tests.diagnostics import models
from tests.helpers import compiled, mlp, normalized_mlp, same_bits, values, vectors

EVERY = pytest.mark.parametrize("make", models.ALL, ids=lambda make: make.__name__)


def flat(vectors):
    return np.concatenate([np.ravel(v) for v in vectors])


def random_vectors(step, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=w.shape) for w in step.weights]


@EVERY
def test_a_step_is_exact_and_what_training_does_next_and_asking_changes_nothing(make):
    model, x, y = make()
    model.train_on_batch(x, y)
    held = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    before, generator = values(held), backend.generator_state()
    policies = [layer.dtype_policy.name for layer in model.layers]
    step = Step(model, x, y, blocks="layer" if make is models.subclassed else "auto")
    agrees_with_central_differences(step)
    assert same_bits(values(held), before)
    assert [layer.dtype_policy.name for layer in model.layers] == policies
    assert same_bits(backend.generator_state(), generator)

    # Dropout's masks, noise and batch statistics are training's own: else these would differ by
    # far more than the rounding of float32 (bfloat16 for the mixed model).
    weights = [flat(values(block.variables)) for block in step.blocks]
    model.train_on_batch(x, y)
    moved = [flat(values(b.variables)) - w for b, w in zip(step.blocks, weights, strict=True)]
    scale = np.abs(flat(step.displacement)).max()
    tolerance = 0.05 if make is models.mixed else 5e-5
    np.testing.assert_allclose(flat(moved), flat(step.displacement), atol=tolerance * scale)


def agrees_with_central_differences(step):
    # In float64 central differences are good to about 1e-9; one cast to float32 on the way would
    # leave an error of 1e-2 or more.
    v, h = random_vectors(step), 1e-6
    up, down = step.loss_at([h * a for a in v]), step.loss_at([-h * a for a in v])
    slope = flat(step.gradient) @ flat(v)
    assert (up - down) / (2 * h) == pytest.approx(slope, rel=1e-7, abs=1e-9)
    up, down = (step.gradient_at([s * h * a for a in v])[1] for s in (1, -1))
    product = flat(step.hessian_vector(v))
    # The error of the difference falls with h squared times the fourth derivative.
    error = np.abs((flat(up) - flat(down)) / (2 * h) - product).max()
    assert error < 1e-5 * max(np.abs(product).max(), np.abs(flat(step.gradient)).max())


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        keras.optimizers.Adam(0.01, clipnorm=0.1),
        keras.optimizers.AdamW(0.01, weight_decay=0.3, global_clipnorm=0.5),
        keras.optimizers.Nadam(0.01),
        keras.optimizers.RMSprop(0.01, centered=True, momentum=0.5, clipvalue=0.01),
        keras.optimizers.Adafactor(0.01),
        keras.optimizers.Lion(0.01, weight_decay=0.1),
        keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
        keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
        keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
    ],
    ids=lambda optimizer: optimizer.name,
)
def test_the_displacement_is_the_optimizers_own(optimizer):
    model = mlp(kernel_constraint=keras.constraints.MaxNorm(1.0))
    if isinstance(optimizer, keras.optimizers.AdamW):
        optimizer.exclude_from_weight_decay(var_list=[model.trainable_variables[0]])
    compiled(model, optimizer)
    x, y = vectors(16)
    for _ in range(3):
        model.train_on_batch(x, y)
    step = Step(model, x, y)
    slots = values(optimizer.variables)
    weights = flat(values(model.trainable_variables))
    assert same_bits(values(optimizer.variables), slots)
    model.train_on_batch(x, y)
    moved = flat(values(model.trainable_variables)) - weights
    # Weights of about 1 in float32: the difference of two is good to 1e-7; Lion's signs are +-1.
    np.testing.assert_allclose(moved, flat(step.displacement), atol=2e-6)


def test_only_the_blocks_of_the_update_move():
    model = compiled(mlp(), keras.optimizers.AdamW(0.01))
    x, y = vectors(16)
    step = Step(model, x, y, update=layerwise.Update(blocks=(1, 3)))
    assert step.names == ["block_1", "block_3"]
    every = Step(model, x, y)
    for mine, theirs in ((0, 1), (1, 3)):
        np.testing.assert_allclose(step.displacement[mine], every.displacement[theirs], rtol=1e-12)
    assert step.change([0, 1]) == pytest.approx(every.change(["block_1", "block_3"]), rel=1e-12)


def test_a_step_stays_that_of_its_moment():
    model = compiled(normalized_mlp(dropout=0.3), "adam")
    x, y = vectors(16)
    step = Step(model, x, y)
    before = step.loss_at(step.displacement)
    for _ in range(3):
        model.train_on_batch(x, y)
    assert step.loss_at(step.displacement) == before


def test_masks_are_held_fixed():
    model = compiled(normalized_mlp(dropout=0.5))
    x, y = vectors(16)
    step = Step(model, x, y)
    assert len({step.loss_at([None] * len(step.blocks)) for _ in range(3)}) == 1
    assert step.loss_at([None] * len(step.blocks)) == step.loss
    others = {step.gradient_at([None] * len(step.blocks), masks=k)[0] for k in (0, 1, 2)}
    assert len(others) == 3 and step.loss in others


def test_the_whole_hessian_by_columns_equals_that_of_a_float64_clone():
    # The moments of TensorFlow stop the gradient at the mean: its own second derivatives through
    # batch normalization are wrong, and no oracle (central differences above are).
    normalizes = keras.backend.backend() != "tensorflow"
    model = compiled(normalized_mlp(depth=2, width=4) if normalizes else mlp(3, width=4), "sgd")
    x, y = vectors(16)
    step = Step(model, x, y)
    sizes = [w.size for w in step.weights]
    columns = []
    for unit in np.eye(sum(sizes)):
        columns.append(flat(step.hessian_vector(np.split(unit, np.cumsum(sizes)[:-1]))))
    np.testing.assert_allclose(np.array(columns), np.array(columns).T, atol=1e-11)
    loss, hessian = of_a_clone(model, x, y)
    assert step.loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(np.array(columns), hessian, atol=1e-10 * np.abs(hessian).max())


def of_a_clone(model, x, y):
    """Return loss and Hessian by the framework's own means, of a clone built in float64."""

    def clone_layer(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    def one_vector(clone, loss, ops):
        shapes = [v.shape for v in clone.trainable_variables]
        ends = np.cumsum([int(np.prod(s)) for s in shapes])

        def function(vector):
            pieces = [vector[e - int(np.prod(s)) : e] for e, s in zip(ends, shapes, strict=True)]
            weights = [ops.reshape(p, s) for p, s in zip(pieces, shapes, strict=True)]
            rest = [v.value for v in clone.non_trainable_variables]
            y_pred, _ = clone.stateless_call(weights, rest, x, training=True)
            return ops.mean(loss(ops.convert_to_tensor(y), y_pred))

        return function

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    framework = keras.backend.backend()
    if framework == "jax":
        import jax

        with jax.enable_x64(True):
            clone = keras.models.clone_model(model, clone_function=clone_layer)
            clone.set_weights(model.get_weights())
            function = one_vector(clone, loss, keras.ops)
            vector = np.concatenate([np.ravel(v.numpy()) for v in clone.trainable_variables])
            with double.promoting():  # else Keras computes in float32 whatever the dtype
                return float(function(vector)), np.array(jax.hessian(function)(vector))
    clone = keras.models.clone_model(model, clone_function=clone_layer)
    clone.set_weights(model.get_weights())
    function = one_vector(clone, loss, keras.ops)
    vector = np.concatenate([np.ravel(v) for v in values(clone.trainable_variables)])
    if framework == "torch":
        import torch

        start = torch.tensor(vector)
        with double.promoting():  # else Keras computes in float32 whatever the dtype
            return float(function(start)), torch.func.hessian(function)(start).numpy()
    import tensorflow as tf

    start = tf.constant(vector)
    with tf.GradientTape() as outer:
        outer.watch(start)
        with tf.GradientTape() as inner:
            inner.watch(start)
            value = function(start)
        slope = inner.gradient(value, start)
    return float(value), outer.jacobian(slope, start).numpy()
