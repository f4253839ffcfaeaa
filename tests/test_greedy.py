"""Greedy layerwise training: stages, heads, frozen prefixes, monitors."""

import copy

import keras
import numpy as np
import pytest

import layerwise
from tests import conformance, references
from tests.helpers import (
    CLASSES,
    FEATURES,
    Snapshots,
    batches,
    block_values,
    compiled,
    met,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    update,
    values,
    vectors,
)

DEPTH, BATCH = 4, 8


def standing():
    """An optimizer that moves nothing, so that losses can be computed by hand."""
    return keras.optimizers.SGD(0.0)


def model():
    """Return a model of four blocks that schedules may meet; nothing is trained."""
    return pooled(mlp, keras.optimizers.SGD)


def trained(model, schedule, epochs, *callbacks, **arguments):
    """Train on five batches an epoch in a fixed order and return the history."""
    x, y = vectors(40)
    arguments = {"batch_size": BATCH, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(x, y, epochs=epochs, callbacks=[schedule, *callbacks], **arguments).history


def at_end_of_epoch(function):
    """Return a callback and the list of what the function of the model gave after every epoch."""
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(function(callback.model))
    )
    return callback, seen


def cross_entropy(logits, labels):
    return references.softmax_cross_entropy(np.asarray(logits, "float64"), labels)[0]


def kernels(model):
    """Return the weights of every dense layer in float64."""
    return [
        [value.astype("float64") for value in values(layer.weights)]
        for layer in model.layers
        if isinstance(layer, keras.layers.Dense)
    ]


def by_hand(model, head, block, x):
    """Return the logits of a dense net's head after a block."""
    for kernel, bias in kernels(model)[: block + 1]:
        x = np.tanh(x @ kernel + bias)
    kernel, bias = (value.astype("float64") for value in values(head.weights))
    return x @ kernel + bias


# --- stages


@pytest.mark.parametrize(
    ("arguments", "epochs", "stages"),
    [
        ({}, 4, [0, 1, 2, 3]),
        ({}, 10, [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]),
        ({"epochs_per_block": 2}, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        ({"epochs_per_block": [1, 3, 1, 2]}, 7, [0, 1, 1, 1, 2, 3, 3]),
        ({"blocks": 2, "epochs_per_block": [1, 2]}, 3, [0, 1, 1]),
    ],
)
def test_stages_in_order_move_their_own_block_alone(arguments, epochs, stages):
    # That training does what `updates` says is checked in test_moving.py.
    schedule = met(layerwise.GreedyLayerwise(**arguments), model())
    schedule.prepare(epochs)
    moving = [schedule.updates(epoch, 5 * epoch) for epoch in range(epochs)]
    last = len(schedule.blocks) - 1
    heads = [None if stage == last else stage for stage in stages]
    assert moving == [
        (update((stage,), head, frozen_below=stage),)
        for stage, head in zip(stages, heads, strict=True)
    ]


@pytest.mark.parametrize("arguments", [{}, {"epochs_per_block": 1}, {"epochs_per_block": [1] * 4}])
def test_finetuning_moves_all_blocks(arguments):
    schedule = met(layerwise.GreedyLayerwise(finetune_epochs=2, **arguments), model())
    schedule.prepare(6)
    moving = [schedule.updates(epoch, 5 * epoch)[0].blocks for epoch in range(6)]
    assert moving == [(0,), (1,), (2,), (3,), (0, 1, 2, 3), (0, 1, 2, 3)]


def test_visits_of_stages_and_of_finetuning_that_is_a_stage_of_its_own():
    run = conformance.whole(conformance.named("greedy, fine-tuned"))
    names = [block.name for block in run.schedule.blocks]
    visits = run.schedule.visits
    assert [list(blocks) for blocks in visits["blocks"]] == [*([name] for name in names), names]
    assert list(visits["epoch"]) == [0, 1, 2, 3]
    assert list(visits["step"]) == [0, 5, 10, 15]
    assert list(visits["steps"]) == list(visits["updates"]) == [5] * 4
    assert run.history["stage"][:3] == [0, 1, 2]
    assert run.history["stage"][3] not in (0, 1, 2)


def test_stages_of_blocks_of_several_layers():
    model, snapshots = compiled(mlp(), "adamw"), Snapshots()
    schedule = layerwise.GreedyLayerwise(blocks=2, epochs_per_block=[1, 2])
    history = trained(model, schedule, 3, snapshots)
    assert history["stage"] == [0, 1, 1]
    blocks = [sorted(int(layer.name[-1]) for layer in block.layers) for block in schedule.blocks]
    assert snapshots.moved() == [tuple(blocks[stage]) for stage in (0, 1, 1) for _ in range(5)]


@pytest.mark.thorough
@pytest.mark.parametrize("optimizer", ["adam, global clipping", "decaying sgd"])
def test_stages_equal_the_oracle(optimizer):
    decay = keras.optimizers.schedules.ExponentialDecay
    optimizer, oracle = {
        "adam, global clipping": (
            keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.3),
            references.Adam(0.01, weight_decay=0.1, global_clipnorm=0.3),
        ),
        "decaying sgd": (
            keras.optimizers.SGD(decay(0.3, 10, 0.5)),
            references.SGD(lambda taken: 0.3 * 0.5 ** (taken / 10)),
        ),
    }[optimizer]
    model, schedule = compiled(mlp(), optimizer), layerwise.GreedyLayerwise()
    heads = {}
    remember = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: heads.update(
            {k: [v.astype("float64") for v in values(h.weights)] for k, h in schedule.heads.items()}
        )
    )
    start = kernels(model)
    trained(model, schedule, 2 * DEPTH, remember)
    assert sorted(heads) == [0, 1, 2]
    x, y = vectors(40)
    x = x.astype("float64")
    for stage in range(DEPTH):
        pairs = [start[stage], *([heads[stage]] if stage < DEPTH - 1 else [])]
        layers = [{"kernel": kernel, "bias": bias} for kernel, bias in pairs]
        moving = range(len(layers))
        steps = [(a, b, moving, False) for a, b in batches(x, y, BATCH, 2)]
        oracle_now = copy.copy(oracle)
        if callable(oracle.learning_rate):
            oracle_now.learning_rate = shifted(oracle.learning_rate, begun=10 * stage)
        end = references.train(layers, steps, oracle_now, references.softmax_cross_entropy)[-1]
        found = [kernels(model)[stage]]
        if stage < DEPTH - 1:
            found.append(values(schedule.heads[stage].weights))
        for pair, layer in zip(found, end, strict=True):
            # Ten float32 steps through two layers; see test_oracles.py.
            np.testing.assert_allclose(pair[0], layer["kernel"], rtol=2e-5, atol=2e-5)
            np.testing.assert_allclose(pair[1], layer["bias"], rtol=2e-5, atol=2e-5)
        x = np.tanh(x @ end[0]["kernel"] + end[0]["bias"])


def test_later_blocks_are_not_run():
    model = compiled(mlp(), "adam")
    rest = [model.get_layer(f"block_{number}") for number in (2, 3)]
    whole = [layer.get_weights() for layer in rest]
    for layer in rest:
        layer.set_weights([np.full_like(value, np.nan) for value in layer.get_weights()])
    mend = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: (
            epoch == 2
            and [layer.set_weights(value) for layer, value in zip(rest, whole, strict=True)]
        )
    )
    losses = trained(model, layerwise.GreedyLayerwise(), 4, mend)["loss"]
    assert np.all(np.isfinite(losses))


def shifted(rate, begun):
    return lambda taken: rate(begun + taken)


# --- the finished prefix is fixed


def test_a_finished_prefix_keeps_every_bit_of_weights_and_statistics():
    model = compiled(normalized_mlp(depth=3, dropout=0.2), "adamw")
    callback, seen = at_end_of_epoch(
        lambda model: [
            values(v for part in ("block", "normalization") for v in layer(model, part, number))
            for number in range(3)
        ]
    )

    def layer(model, part, number):
        return model.get_layer(f"{part}_{number}").weights

    trained(model, layerwise.GreedyLayerwise(), 8, callback)
    for stage in range(3):
        # The statistics are made right after the stage's last epoch: compare from the next on.
        frozen = seen[2 * stage + 2][stage]
        for later in seen[2 * stage + 3 :]:
            assert same_bits(frozen, later[stage])
        untouched = seen[0][stage]
        for earlier in seen[: 2 * stage]:
            assert same_bits(untouched, earlier[stage]), "a block is not run before its stage"


def test_dropout_of_a_finished_prefix_is_off():
    model = compiled(normalized_mlp(depth=2, dropout=0.5), standing())
    model.get_layer("dropout_1").rate = 0.0
    # One batch an epoch, so that no moving average shows in the loss.
    losses = trained(model, layerwise.GreedyLayerwise(epochs_per_block=3), 9, batch_size=40)["loss"]
    assert len(set(losses[:3])) == 3, "dropout is on in the block's own stage"
    assert losses[3] == losses[4] == losses[5]


@pytest.mark.parametrize("momentum", [0.9, 0.99])
def test_statistics_of_a_finished_block_are_freed_of_their_initial_values(momentum):
    model = compiled(normalized_mlp(depth=2, momentum=momentum), standing())
    layer = model.get_layer("normalization_0")
    callback, seen = at_end_of_epoch(lambda model: values(layer.non_trainable_variables))
    schedule = layerwise.GreedyLayerwise(epochs_per_block=[2, 1, 1])
    history = trained(model, schedule, 4, callback)
    x, y = vectors(40)
    (kernel,) = (value.astype("float64") for value in model.get_layer("block_0").get_weights())
    (beta,) = (value.astype("float64") for value in values(layer.trainable_variables))
    outputs = [batch @ kernel for batch, _ in batches(x, y, BATCH, 2)]
    for name, start, found in (("mean", 0.0, 0), ("var", 1.0, 1)):
        per_batch = [getattr(output, name)(axis=0) for output in outputs]
        biased = references.moving_average(start, per_batch, momentum)
        left = momentum ** len(per_batch)
        debiased = (biased - left * start) / (1 - left)
        # float32: dividing by 1 - 0.99**10 = 0.096 magnifies rounding tenfold.
        np.testing.assert_allclose(seen[-1][found], debiased, rtol=2e-5, atol=1e-6)
    mean, variance = (value.astype("float64") for value in seen[-1])
    features = np.tanh((x @ kernel - mean) / np.sqrt(variance + layer.epsilon) + beta)
    (kernel,) = kernels(model)[1]
    (beta,) = values(model.get_layer("normalization_1").trainable_variables)
    logits_of = schedule.heads[1]
    losses = []
    for start in range(0, 40, BATCH):
        value = features[start : start + BATCH] @ kernel
        value = np.tanh((value - value.mean(0)) / np.sqrt(value.var(0) + layer.epsilon) + beta)
        head = [weight.astype("float64") for weight in values(logits_of.weights)]
        losses.append(cross_entropy(value @ head[0] + head[1], y[start : start + BATCH]))
    assert history["loss"][2] == pytest.approx(np.mean(losses), rel=1e-5)


# --- losses, metrics, validation


def test_losses_and_metrics_are_those_of_the_stages_head_and_own_regularizers():
    strength = 0.3
    build = mlp(kernel_regularizer=keras.regularizers.L2(strength))
    model, schedule = compiled(build, standing(), metrics=["accuracy"]), layerwise.GreedyLayerwise()
    x, y = vectors(40)
    arguments = {"batch_size": 40, "validation_data": (x, y), "validation_batch_size": 40}
    history = trained(model, schedule, 4, **arguments)
    for stage in range(DEPTH):
        logits = (
            model.predict(x, verbose=0)
            if stage == 3
            else by_hand(model, schedule.heads[stage], stage, x)
        )
        own = strength * (kernels(model)[stage][0] ** 2).sum()
        accuracy = (logits.argmax(axis=1) == y).mean()
        assert history["loss"][stage] == pytest.approx(cross_entropy(logits, y) + own, rel=1e-5)
        assert history["val_loss"][stage] == pytest.approx(history["loss"][stage], rel=1e-5)
        assert history["accuracy"][stage] == pytest.approx(accuracy)
        assert history["val_accuracy"][stage] == pytest.approx(accuracy)


def test_finetuning_shows_the_whole_models_loss():
    model = compiled(mlp(kernel_regularizer="l2"), standing())
    x, y = vectors(40)
    arguments = {"batch_size": 40, "validation_data": (x, y)}
    history = trained(model, layerwise.GreedyLayerwise(finetune_epochs=1), 5, **arguments)
    assert history["loss"][4] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
    assert history["val_loss"][4] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-6)


def test_validation_runs_in_inference_mode():
    inputs = keras.Input((FEATURES,))
    value = keras.layers.Dense(8, "tanh", name="block_0")(inputs)
    value = keras.layers.Dropout(0.5)(value)
    outputs = keras.layers.Dense(CLASSES, name="block_1")(value)
    model = compiled(keras.Model(inputs, outputs), standing())
    schedule = layerwise.GreedyLayerwise(epochs_per_block=1)
    x, y = vectors(40)
    validated = trained(model, schedule, 2, validation_data=(x, y))["val_loss"]
    expected = cross_entropy(by_hand(model, schedule.heads[0], 0, x), y)
    assert validated[0] == pytest.approx(expected, rel=1e-5)
    assert validated[1] == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-6)


# --- heads


def randomized(head):
    """Give a head weights from a fixed seed (its biases are zero at the start), and return them in float64."""
    rng = np.random.default_rng(0)
    head.set_weights([rng.normal(size=w.shape).astype("float32") for w in head.get_weights()])
    return [value.astype("float64") for value in values(head.weights)]


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_heads_of_vectors(head):
    schedule = met(layerwise.GreedyLayerwise(head=head), model())
    assert sorted(schedule.heads) == [0, 1, 2]
    features = np.random.default_rng(1).normal(size=(10, 8)).astype("float32")
    weights = randomized(schedule.heads[1])
    value = features.astype("float64")
    if head == "mlp":
        assert len(weights) == 4
        value = np.maximum(value @ weights[0] + weights[1], 0)
    expected = value @ weights[-2] + weights[-1]
    found = keras.ops.convert_to_numpy(schedule.heads[1](features))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_callable_head():
    def head(features):
        return keras.layers.Dense(CLASSES, name="own")(keras.layers.Dropout(0.1)(features))

    schedule = met(layerwise.GreedyLayerwise(head=head), model())
    assert all(h.get_layer("own").built for h in schedule.heads.values())
    assert sorted(schedule.heads) == [0, 1, 2]


def image_model(activation=None):
    inputs = keras.Input((6, 6, 2))
    value = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="block_0")(inputs)
    value = keras.layers.Conv2D(4, 3, activation="relu", name="block_1")(value)
    value = keras.layers.GlobalMaxPooling2D()(value)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation, name="block_2")(value))


def sequence_model(activation=None, each_position=False):
    inputs = keras.Input((5,), dtype="int32")
    value = keras.layers.Embedding(7, 4, name="block_0")(inputs)
    value = keras.layers.GRU(4, return_sequences=True, name="block_1")(value)
    value = value if each_position else keras.layers.GlobalAveragePooling1D()(value)
    return keras.Model(inputs, keras.layers.Dense(CLASSES, activation, name="block_2")(value))


def image_or_sequence_model(kind, activation):
    """Return one of these models and 16 examples for it."""
    rng = np.random.default_rng(0)
    if kind == "image":
        return image_model(activation), rng.normal(size=(16, 6, 6, 2)).astype("float32")
    model = sequence_model(activation, each_position=kind == "each position")
    return model, rng.integers(0, 7, (16, 5))


@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("kind", ["image", "sequence", "each position"])
def test_heads_of_images_and_sequences(kind, head, activation):
    model, x = image_or_sequence_model(kind, activation)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    compiled(model, "adam", loss=loss)
    schedule = met(layerwise.GreedyLayerwise(head=head), model)
    for block in (0, 1):
        # A block ends where the next begins: after the pooling, where there is one between them.
        features = model.get_layer(f"block_{block + 1}").input
        features = keras.ops.convert_to_numpy(keras.Model(model.inputs[0], features)(x))
        if kind != "each position":
            value = features.mean(axis=tuple(range(1, features.ndim - 1)), dtype="float64")
        else:
            value = features.astype("float64")
        weights = randomized(schedule.heads[block])
        if head == "mlp":
            value = np.maximum(value @ weights[0] + weights[1], 0)
        value = value @ weights[-2] + weights[-1]
        if activation:
            value = np.exp(value) / np.exp(value).sum(axis=-1, keepdims=True)
        found = keras.ops.convert_to_numpy(schedule.heads[block](features))
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["image", "each position"])
def test_stages_of_images_and_sequences_train(kind):
    model, x = image_or_sequence_model(kind, "softmax")
    rng = np.random.default_rng(1)
    y = rng.integers(0, CLASSES, (16, *model.output_shape[1:-1]))
    model.compile("adam", "sparse_categorical_crossentropy")
    schedule = layerwise.GreedyLayerwise(head="mlp")
    history = model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=[schedule]).history
    assert np.all(np.isfinite(history["loss"]))


def test_heads_come_from_the_seed_alone():
    def heads(seed, global_seed):
        keras.utils.set_random_seed(global_seed)
        schedule = met(layerwise.GreedyLayerwise(seed=seed, head="mlp"), model())
        return [value for k in range(3) for value in values(schedule.heads[k].weights)]

    assert same_bits(heads(1, global_seed=1), heads(1, global_seed=2))
    assert not same_bits(heads(1, global_seed=1), heads(2, global_seed=1))


@conformance.every_schedule(lambda case: case.name == "greedy")
def test_the_users_model_holds_what_was_trained_and_no_more(case):
    run, stock = conformance.whole(case), conformance.stock()
    paths = [[v.path for v in one.model.weights] for one in (run, stock)]
    assert paths[0] == paths[1]
    layers = [[type(layer) for layer in one.model.layers] for one in (run, stock)]
    assert layers[0] == layers[1]
    assert not any(same_bits(*pair) for pair in zip(*run.snapshots.ends(), strict=True))


def test_a_model_of_one_block_is_trained_as_it_is():
    greedy, stock = compiled(mlp(depth=1), "adam"), compiled(mlp(depth=1), "adam")
    schedule = layerwise.GreedyLayerwise()
    history = trained(greedy, schedule, 2)
    x, y = vectors(40)
    plain = stock.fit(x, y, batch_size=BATCH, epochs=2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(history["loss"], plain["loss"], rtol=1e-6)
    assert not schedule.heads
    assert history["stage"] == [0, 0]


# --- monitors


def two_scales():
    """Return a net whose second stage has a much higher loss than its first, by a regularizer."""
    strong = keras.regularizers.L2(50.0)
    return keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(8, "tanh", name="block_0"),
            keras.layers.Dense(8, "tanh", kernel_regularizer=strong, name="block_1"),
            keras.layers.Dense(CLASSES, name="block_2"),
        ]
    )


def slow():
    return keras.optimizers.SGD(1e-3)


def as_order(schedule, monitor, schedule_first):
    return [schedule, monitor] if schedule_first else [monitor, schedule]


@pytest.mark.parametrize(("finetune", "schedule_first"), [(0, True), (5, False)])
def test_early_stopping_ends_the_stage_and_not_the_training(finetune, schedule_first):
    stopping = keras.callbacks.EarlyStopping("loss", patience=1, min_delta=1e9)
    schedule = layerwise.GreedyLayerwise(epochs_per_block=5, finetune_epochs=finetune)
    model, snapshots = compiled(mlp(depth=3), "adam"), Snapshots()
    x, y = vectors(40)
    callbacks = [*as_order(schedule, stopping, schedule_first), snapshots]
    history = model.fit(
        x, y, batch_size=BATCH, epochs=15 + finetune, verbose=0, callbacks=callbacks
    ).history
    # Nothing is an improvement over the first epoch of a stage: each ends after its second.
    assert history["stage"][:6] == [0, 0, 1, 1, 2, 2]
    assert len(history["stage"]) == 6 + 2 * (finetune > 0)
    stages = [(0,), (1,), (2,)] + [(0, 1, 2)] * (finetune > 0)
    assert snapshots.moved() == [stage for stage in stages for _ in range(10)]


@pytest.mark.parametrize("schedule_first", [True, False])
def test_early_stopping_does_not_hide_that_another_callback_ends_the_training(schedule_first):
    class Diverges(keras.callbacks.Callback):
        """Ends the training in the second epoch, as TerminateOnNaN does."""

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = self.epoch == 1

        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = np.nan

    stopping = keras.callbacks.EarlyStopping("loss", patience=0)
    schedule = layerwise.GreedyLayerwise(epochs_per_block=3)
    callbacks = [Diverges(), *as_order(schedule, stopping, schedule_first)]
    model, (x, y) = pooled(two_scales, slow), vectors(16)
    history = model.fit(x, y, epochs=9, batch_size=8, verbose=0, callbacks=callbacks)
    assert history.epoch == [0, 1]


@pytest.mark.parametrize("schedule_first", [True, False])
def test_early_stopping_starts_afresh_at_each_stage(schedule_first):
    stopping = keras.callbacks.EarlyStopping("loss", patience=1)
    schedule = layerwise.GreedyLayerwise(epochs_per_block=4)
    model = pooled(two_scales, slow)
    x, y = vectors(40)
    callbacks = as_order(schedule, stopping, schedule_first)
    history = model.fit(x, y, epochs=12, shuffle=False, verbose=0, callbacks=callbacks).history
    assert history["stage"] == [0] * 4 + [1] * 4 + [2] * 4
    losses = history["loss"]
    assert losses[4] > 2 * losses[3], "the second stage is worse throughout, but improves"
    assert losses[4] > losses[5] > losses[6] > losses[7] > losses[3]


@pytest.mark.parametrize("schedule_first", [True, False])
def test_early_stopping_restores_the_best_weights_of_each_stage(schedule_first):
    class Worse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = float(epoch)
            best.setdefault(logs["stage"], block_values(self.model))

    best = {}
    stopping = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    schedule = layerwise.GreedyLayerwise(epochs_per_block=4)
    model = compiled(mlp(depth=3), "adam")
    callbacks = [Worse(), *as_order(schedule, stopping, schedule_first)]
    x, y = vectors(40)
    history = model.fit(x, y, epochs=12, verbose=0, callbacks=callbacks).history
    assert history["stage"] == [0] * 3 + [1] * 3 + [2] * 3
    for stage, values_then in best.items():
        block = int(stage)
        assert same_bits(values_then[block], block_values(model)[block])


@pytest.mark.parametrize("schedule_first", [True, False])
def test_reduce_on_plateau_starts_afresh_at_each_stage(schedule_first):
    plateau = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=2, min_delta=0)
    schedule = layerwise.GreedyLayerwise(epochs_per_block=4)
    model = pooled(two_scales, slow)
    x, y = vectors(40)
    callbacks = as_order(schedule, plateau, schedule_first)
    model.fit(x, y, epochs=12, shuffle=False, verbose=0, callbacks=callbacks)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)


@pytest.mark.parametrize("schedule_first", [True, False])
def test_the_best_checkpoint_starts_afresh_at_each_stage(schedule_first, tmp_path):
    path = str(tmp_path / "{epoch:02d}.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(
        path, "loss", save_best_only=True, save_weights_only=True
    )
    schedule = layerwise.GreedyLayerwise(epochs_per_block=2)
    model = pooled(two_scales, slow)
    x, y = vectors(40)
    callbacks = as_order(schedule, checkpoint, schedule_first)
    model.fit(x, y, epochs=6, shuffle=False, verbose=0, callbacks=callbacks)
    assert len(list(tmp_path.iterdir())) == 6, "every epoch was the best of its stage so far"


# --- what cannot be


def subclassed():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(CLASSES)

        def call(self, x):
            return self.second(keras.ops.tanh(self.first(x)))

    model = Own()
    model(np.zeros((1, FEATURES), "float32"))
    return model


def two_outputs():
    inputs = keras.Input((FEATURES,))
    value = keras.layers.Dense(4, name="block_0")(inputs)
    outputs = [keras.layers.Dense(CLASSES)(value), keras.layers.Dense(CLASSES)(value)]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    ("build", "arguments", "epochs", "remedy"),
    [
        (mlp, {"epochs_per_block": 2}, 7, "epochs=8"),
        (mlp, {"epochs_per_block": 2, "finetune_epochs": 3}, 8, "epochs=11"),
        (mlp, {"epochs_per_block": [1, 2, 1]}, 4, "4 blocks"),
        (mlp, {"epochs_per_block": [1, 2, 1, 1]}, 4, "epochs=5"),
        (mlp, {}, 3, "epochs"),
        (mlp, {"finetune_epochs": 1}, 4, "epochs"),
        (mlp, {"head": "quadratic"}, 4, "'linear', 'mlp'"),
        (mlp, {"head": lambda features: features}, 4, "shape"),
        (two_outputs, {}, 4, "BlockCoordinate"),
        (subclassed, {"blocks": "layer"}, 4, "BlockCoordinate"),
    ],
)
def test_what_cannot_be_raises_before_the_first_step(build, arguments, epochs, remedy):
    model = build()
    model.compile("adam", "mse")
    start = values(model.weights)
    x = vectors(40)[0]
    y = np.zeros((40, CLASSES), "float32")
    y = [y, y] if build is two_outputs else y
    with pytest.raises((ValueError, TypeError), match=remedy):
        model.fit(
            x, y, epochs=epochs, verbose=0, callbacks=[layerwise.GreedyLayerwise(**arguments)]
        )
    assert same_bits(start, values(model.weights))


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs_per_block": 0},
        {"epochs_per_block": -1},
        {"epochs_per_block": 1.5},
        {"epochs_per_block": [1, 0]},
        {"epochs_per_block": "one"},
        {"finetune_epochs": -1},
        {"finetune_epochs": 0.5},
        {"head": 3},
    ],
)
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises((ValueError, TypeError), match=name):
        layerwise.GreedyLayerwise(**arguments)


def fit_subclassed(schedule):
    model = subclassed()
    model.compile("adam", "mse")
    x, y = np.ones((8, FEATURES)), np.ones((8, CLASSES))
    model.fit(x, y, epochs=4, verbose=0, callbacks=[schedule])


@pytest.mark.parametrize("blocks", ["auto", 2, "layer", 1])
def test_a_subclassed_model_is_told_what_takes_it(blocks):
    remedy = r"Functional or Sequential.*BlockCoordinate\(blocks='layer'\)"
    with pytest.raises(ValueError, match=remedy):
        fit_subclassed(layerwise.GreedyLayerwise(blocks=blocks))


@pytest.mark.parametrize("blocks", ["auto", 2])
def test_errors_of_a_partition_name_the_argument_of_the_schedule(blocks):
    with pytest.raises(ValueError, match=r"use blocks='layer'.*or blocks=1") as caught:
        fit_subclassed(layerwise.BlockCoordinate(blocks=blocks))
    assert "by=" not in str(caught.value)


def test_what_the_error_says_works():
    fit_subclassed(layerwise.BlockCoordinate(blocks="layer"))


def test_a_fit_that_ends_before_its_first_step_settles_no_stages():
    def fail(batch, logs):
        raise KeyboardInterrupt

    model, schedule = compiled(mlp(), "sgd"), layerwise.GreedyLayerwise()
    x, y = vectors(16)
    failing = keras.callbacks.LambdaCallback(on_train_batch_begin=fail)
    n = len(layerwise.partition(model))
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=n, verbose=0, callbacks=[schedule, failing])
    model.fit(x, y, epochs=3 * n, verbose=0, callbacks=[schedule])
    assert schedule.visits["epoch"].tolist() == list(range(0, 3 * n, 3))


def test_a_models_one_output_may_be_in_a_dict():
    inputs = keras.Input((4,))
    out = keras.layers.Dense(1, name="out")(keras.layers.Dense(3)(inputs))
    model = keras.Model(inputs, {"out": out})
    model.compile("sgd", loss={"out": "mse"}, metrics={"out": ["mae"]})
    x, y = np.ones((8, 4), "float32"), {"out": np.ones((8, 1), "float32")}
    fit = {"epochs": 2, "verbose": 0, "validation_data": (x, y)}
    history = model.fit(x, y, callbacks=[layerwise.GreedyLayerwise()], **fit).history
    assert {"loss", "mae", "val_loss", "val_mae"} <= set(history)


def test_heads_go_on_after_the_model_is_compiled_again():
    model, schedule = compiled(mlp(), keras.optimizers.SGD(0.1)), layerwise.GreedyLayerwise()
    x, y = vectors(16)
    n = len(layerwise.partition(model))
    model.fit(x, y, epochs=2 * n, verbose=0, callbacks=[schedule])
    trained = [values(head.weights) for head in schedule.heads.values()]
    model.compile(keras.optimizers.SGD(0.1), loss=model.loss)
    model.fit(x, y, initial_epoch=2 * n, epochs=2 * n + 1, verbose=0, callbacks=[schedule])
    for head, before in zip(schedule.heads.values(), trained, strict=True):
        assert same_bits(values(head.weights), before)  # the last stage trains no head
