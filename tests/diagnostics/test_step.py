"""A Step against training itself, central differences, and Hessians by other means."""

import keras
import numpy as np
import pytest

import layerwise
from layerwise.backends import backend, double
from layerwise.diagnostics import Step
from tests.diagnostics import models
from tests.helpers import compiled, mlp, mostly_thorough, normalized_mlp, same_bits, values, vectors

EVERY = pytest.mark.parametrize("make", models.ALL, ids=lambda make: make.__name__)


def flat(vectors):
    return np.concatenate([np.ravel(v) for v in vectors])


def random_vectors(step, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=w.shape) for w in step.weights]


@pytest.mark.thorough
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


OPTIMIZERS = [
    keras.optimizers.Adam(0.01, clipnorm=0.1),
    keras.optimizers.Nadam(0.01),
    keras.optimizers.Adafactor(0.01),
    keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    keras.optimizers.AdamW(0.01, weight_decay=0.3, global_clipnorm=0.5),
    keras.optimizers.RMSprop(0.01, centered=True, momentum=0.5, clipvalue=0.01),
    keras.optimizers.Lion(0.01, weight_decay=0.1),
    keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)),
    keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2),
    keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
]


@pytest.mark.parametrize(
    "optimizer",
    mostly_thorough(OPTIMIZERS, fast=OPTIMIZERS[:3]),
    ids=lambda optimizer: optimizer.name,
)
def test_the_displacement_is_the_optimizers_own(optimizer):
    model = mlp(2, kernel_constraint=keras.constraints.MaxNorm(1.0))
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


@pytest.mark.thorough
@pytest.mark.parametrize("frozen", [0, (1, 3)])
def test_frozen_layers_do_not_move(frozen):
    model = normalized_mlp(depth=4)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    still = [dense[k] for k in np.atleast_1d(frozen)]
    for layer in still:
        layer.trainable = False
    compiled(model, keras.optimizers.AdamW(0.01, weight_decay=0.1))
    x, y = vectors(16)
    step = Step(model, x, y)
    agrees_with_central_differences(step)
    before = {v.path: np.array(v) for v in model.trainable_variables}
    model.train_on_batch(x, y)
    moved = {v.path: np.array(v) - before[v.path] for v in model.trainable_variables}
    expected = [flat([moved[v.path] for v in block.variables]) for block in step.blocks]
    np.testing.assert_allclose(flat(step.displacement), flat(expected), atol=2e-6)


def test_a_step_stays_that_of_its_moment():
    model = compiled(normalized_mlp(depth=1, dropout=0.3), "adam")
    x, y = vectors(16)
    step = Step(model, x, y)
    before = step.loss_at(step.displacement)
    for _ in range(3):
        model.train_on_batch(x, y)
    assert step.loss_at(step.displacement) == before


def test_masks_are_held_fixed():
    model = compiled(normalized_mlp(depth=1, dropout=0.5))
    x, y = vectors(16)
    step = Step(model, x, y)
    assert len({step.loss_at([None] * len(step.blocks)) for _ in range(3)}) == 1
    assert step.loss_at([None] * len(step.blocks)) == step.loss
    others = {step.gradient_at([None] * len(step.blocks), masks=k)[0] for k in (0, 1, 2)}
    assert len(others) == 3 and step.loss in others


@pytest.mark.parametrize(
    "make",
    mostly_thorough([models.small_convolution, models.small_attention], [models.small_convolution]),
)
def test_gradient_and_hessian_are_those_of_a_plain_net_in_float64(make):
    model, x, y = make()
    masks = masks_of(model, len(x))
    step = Step(model, x, y)
    several = [random_vectors(step, seed) for seed in range(3)]
    along = [flat(v) for v in several]
    loss, gradient, products = by_the_frameworks_means(plain_clone(model, masks), x, y, along)
    assert step.loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(flat(step.gradient), gradient, atol=1e-12)
    for v, expected in zip(several, products, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(flat(step.hessian_vector(v)), expected, atol=1e-12 * scale)


class Times(keras.layers.Layer):
    """Multiplies by constants: dropout whose mask is known."""

    def __init__(self, mask):
        super().__init__(dtype="float64")
        self.mask = mask

    def call(self, x):
        return x * keras.ops.convert_to_tensor(self.mask, dtype="float64")

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, "float64")


class Standardized(keras.layers.Layer):
    """Batch or layer normalization in training, written out."""

    def __init__(self, axes, epsilon, statistics):
        super().__init__(dtype="float64")
        self.axes, self.epsilon, self.statistics = axes, epsilon, statistics

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], name="scale")
        self.center = self.add_weight(shape=shape[-1:], name="center")
        for k in range(self.statistics):  # to have as many weights as Keras' own
            self.add_weight(shape=shape[-1:], name=f"unused_{k}", trainable=False)

    def call(self, x):
        off = x - keras.ops.mean(x, self.axes, keepdims=True)
        variance = keras.ops.mean(off * off, self.axes, keepdims=True)
        return off / keras.ops.sqrt(variance + self.epsilon) * self.scale + self.center


def masks_of(model, count):
    """Return the masks that the next step in training draws, over the share that is kept."""
    masks = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            state = layer.seed_generator.state
            before = values([state])[0]
            ones = np.ones((count, *layer.input.shape[1:]), "float32")
            masks[layer.name] = np.round(values([layer(ones, training=True)])[0]) != 0
            masks[layer.name] = masks[layer.name] / (1 - layer.rate)
            state.assign(before)
    return masks


def plain_clone(model, masks):
    """Return a function that makes the net in float64, without random layers and Keras' normalization."""

    def clone_layer(layer):
        if layer.name in masks:
            return Times(masks[layer.name])
        if isinstance(layer, keras.layers.BatchNormalization):
            return Standardized(list(range(len(layer.input.shape) - 1)), layer.epsilon, 2)
        if isinstance(layer, keras.layers.LayerNormalization):
            return Standardized([-1], layer.epsilon, 0)
        return type(layer).from_config({**layer.get_config(), "dtype": "float64"})

    def make():
        clone = keras.models.clone_model(model, clone_function=clone_layer)
        clone.set_weights(model.get_weights())
        return clone

    return make


def by_the_frameworks_means(make, x, y, along):
    """Return loss, gradient and the Hessian times some vectors, of a net as a function of one vector."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")

    def function_of(clone):
        shapes = [tuple(v.shape) for v in clone.trainable_variables]
        sizes = [int(np.prod(shape)) for shape in shapes]
        ends = np.cumsum(sizes)
        rest = [v.value for v in clone.non_trainable_variables]

        def function(vector):
            pieces = [vector[end - size : end] for size, end in zip(sizes, ends, strict=True)]
            pairs = zip(pieces, shapes, strict=True)
            weights = [keras.ops.reshape(piece, shape) for piece, shape in pairs]
            predicted, _ = clone.stateless_call(weights, rest, x, training=True)
            return keras.ops.mean(loss(keras.ops.convert_to_tensor(y), predicted))

        return function, flat(values(clone.trainable_variables))

    framework = keras.backend.backend()
    if framework == "jax":
        import jax

        # Else Keras computes in float32, and its attention does so even then.
        with jax.enable_x64(True), double.promoting(backend.REPLACED):
            function, vector = function_of(make())
            gradient = jax.jit(jax.grad(function))
            products = [jax.jvp(gradient, (vector,), (v,))[1] for v in along]
            return float(function(vector)), np.array(gradient(vector)), np.array(products)
    function, vector = function_of(make())
    if framework == "torch":
        import torch

        start = torch.tensor(vector)
        with double.promoting(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            # torch.func.hessian has no rule for a convolution with channels last.
            gradient = torch.func.grad(function)
            products = [torch.func.jvp(gradient, (start,), (torch.tensor(v),))[1] for v in along]
            return float(function(start)), gradient(start).numpy(), [p.numpy() for p in products]
    import tensorflow as tf

    start, products = tf.constant(vector), []
    for v in along:
        with tf.autodiff.ForwardAccumulator(start, tf.constant(v)) as forwards:
            with tf.GradientTape() as tape:
                tape.watch(start)
                with double.promoting(backend.REPLACED):  # else constants are rounded to float32
                    value = function(start)
            slope = tape.gradient(value, start)
        products.append(forwards.jvp(slope).numpy())
    return float(value), slope.numpy(), products


def test_chunks_of_a_batch_give_the_loss_of_the_whole():
    model = compiled(mlp(kernel_regularizer="l2"), "adam")
    x, y = vectors(17)
    weights = np.linspace(0, 2, 17)
    whole, cut = (Step(model, x, y, weights, chunk_size=size) for size in (None, 5))
    v = random_vectors(whole)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-13)
    np.testing.assert_allclose(flat(cut.gradient), flat(whole.gradient), rtol=1e-10, atol=1e-14)
    products = flat(cut.hessian_vector(v)), flat(whole.hessian_vector(v))
    np.testing.assert_allclose(*products, rtol=1e-10, atol=1e-12)
    assert cut.change([0, 2], 3.0) == pytest.approx(whole.change([0, 2], 3.0), rel=1e-9)
    assert cut.passes == whole.passes


def test_chunks_are_refused_where_examples_depend_on_one_another():
    x, y = vectors(16)
    for model, message in (
        (normalized_mlp(), "normalization_0"),
        (mlp(activity_regularizer="l2"), "block_0"),
    ):
        with pytest.raises(ValueError, match=message):
            Step(compiled(model), x, y, chunk_size=4)
    losses = keras.losses.SparseCategoricalCrossentropy
    model = compiled(mlp(), loss=losses(from_logits=True, reduction="sum"))
    with pytest.raises(ValueError, match="reduce by \\['sum'\\]"):
        Step(model, x, y, chunk_size=4)
    model, x, y = models.words()
    with pytest.raises(ValueError, match="chunk_size must be"):
        Step(model, x, y, chunk_size=-1)
    tokens = keras.Input((7,), dtype="int32")
    hidden = keras.layers.Embedding(11, 8, mask_zero=True)(tokens)
    each = compiled(keras.Model(tokens, keras.layers.Dense(3)(hidden)))
    with pytest.raises(ValueError, match="masks"):
        Step(each, x, np.repeat(y[:, None], 7, 1), chunk_size=4)


def test_asking_builds_no_optimizer_and_makes_the_same_step():
    for optimizer in (
        keras.optimizers.Adam(0.01, weight_decay=0.1),
        keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5), momentum=0.9
        ),
    ):
        model = compiled(mlp(2), optimizer)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        x, y = vectors(16)
        first = Step(model, x, y)
        assert not optimizer.built and len(optimizer.variables) <= 2
        optimizer.build(model.trainable_variables)
        again = Step(model, x, y)
        assert same_bits(first.displacement, again.displacement)


def test_what_a_step_cannot_be_is_said():
    x, y = vectors(16)
    model = compiled(mlp())
    for batch, error, message in (
        ((x[:, :3], y), ValueError, r"got \(16, 3\)"),
        ((x, np.ones((16, 7))), ValueError, r"y of shape \(16, 7\)"),
        ((x,), ValueError, "y of shape nothing"),
        ((x, y.astype(str)), TypeError, "holds numbers"),
        ((iter([x]), y), TypeError, "one batch as arrays"),
        ((x.tolist(), y), ValueError, "and 92 more"),
        ((x[:0], y[:0]), ValueError, "empty batch"),
        ((x, y, np.ones(3)), ValueError, "as many examples"),
    ):
        with pytest.raises(error, match=message):
            Step(model, *batch)
    # Targets of another rank do not spoil the program of the others.
    Step(model, x, y[:, None])
    step = Step(model, x, y)
    assert step.change("block_1") == step.change(1) == step.change(["block_1"])
    for wrong in (["block_9"], [-1], [4], [1.5]):
        with pytest.raises(ValueError, match=r"moves|moving block"):
            step.change(wrong)
    for vector in ([np.ones(3)], [np.ones(3)] * 4):
        with pytest.raises(ValueError, match="got sizes"):
            step.hessian_vector(vector)
    with pytest.raises(TypeError, match="Update"):
        Step(model, x, y, update=(0, 1))
    for quantity in layerwise.diagnostics.QUANTITIES.values():
        with pytest.raises(TypeError, match="takes a layerwise"):
            quantity(model)
    for name, arguments in (
        ("curvature", {"samples": 1}), ("gradient_noise", {"masks": 1}), ("plane", {"blocks": (1, 1)})
    ):  # fmt: skip
        with pytest.raises(ValueError, match="must be"):
            layerwise.diagnostics.QUANTITIES[name](step, **arguments)
    with pytest.raises(ValueError, match="no layer graph"):
        Step(models.subclassed()[0], x, y)


class OwnStep(keras.Model):
    """A model that trains in its own way."""

    def train_step(self, *arguments):
        return super().train_step(*arguments)


def test_a_model_with_a_step_of_its_own_is_refused():
    x, y = vectors(16)
    inputs = keras.Input((6,))
    model = compiled(OwnStep(inputs, keras.layers.Dense(3)(inputs)))
    with pytest.raises(ValueError, match="its own train_step, so that what its step does"):
        Step(model, x, y)


def test_layers_that_change_their_weights_as_they_run_are_refused():
    x, y = vectors(16)
    dense = keras.layers.SpectralNormalization(keras.layers.Dense(3), name="spectral")
    model = compiled(keras.Sequential([keras.Input((6,)), keras.layers.Dense(4), dense]))
    with pytest.raises(ValueError, match=r"\['spectral'\].*change their own weights"):
        Step(model, x, y)
    with pytest.raises(ValueError, match=r"\['spectral'\].*change their own weights"):
        model.fit(x, y, verbose=0, callbacks=[layerwise.Probe(every=9, data=(x, y))])


@pytest.mark.parametrize("built", [False, True])
def test_gradients_that_are_accumulated_move_nothing_until_there_are_enough(built):
    x, y = vectors(16)
    model = compiled(mlp(3), keras.optimizers.Adam(0.01, gradient_accumulation_steps=2))
    if built:
        model.optimizer.build(model.trainable_variables)
    for moves in (False, True):
        before, step = values(model.trainable_variables), Step(model, x, y)
        model.train_on_batch(x, y)
        after = values(model.trainable_variables)
        expected, found = flat(after) - flat(before), flat(step.displacement)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert expected.any() == moves


def test_inputs_by_name_are_taken_in_the_models_order():
    inputs = [keras.Input((3,), name="b"), keras.Input((5,), name="a")]
    outputs = keras.layers.Dense(1)(keras.layers.Concatenate()(inputs))
    model, rng = compiled(keras.Model(inputs, outputs), loss="mse"), np.random.default_rng(0)
    x = {"b": rng.normal(size=(8, 3)), "a": rng.normal(size=(8, 5))}
    y = np.ones((8, 1))
    expected = Step(model, [x["b"], x["a"]], y)
    found = Step(model, x, y)
    assert found.loss == expected.loss
    np.testing.assert_array_equal(flat(found.gradient), flat(expected.gradient))
    with pytest.raises(ValueError, match=r"got \(8, 5\), \(8, 3\)"):
        Step(model, {"b": x["a"], "a": x["b"]}, y)


@pytest.mark.parametrize(
    "loss",
    [
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        keras.losses.Dice(name="dice"),
        keras.losses.Tversky(name="tversky"),
        keras.losses.dice,
    ],
    ids=["ignore_class", "dice", "tversky", "function"],
)
def test_chunks_are_refused_where_the_loss_is_of_the_whole_batch(loss):
    x, y = vectors(8)
    sparse = isinstance(loss, keras.losses.SparseCategoricalCrossentropy)
    targets = y if sparse else np.eye(models.CLASSES)[y]
    model = compiled(mlp(), loss=loss)
    with pytest.raises(ValueError, match=r"its losses \['.*'\] are of the whole batch"):
        Step(model, x, targets, chunk_size=2)
