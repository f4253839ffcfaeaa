"""What stock ``fit`` offers works beside a schedule and means the same.

Mostly against ``masked_stock``: stock training of a twin, each step undone for standing blocks.
"""

import csv

import keras
import numpy as np
import pytest

import layerwise
from layerwise.backends import backend
from tests.helpers import (
    CLASSES,
    FEATURES,
    Snapshots,
    batches,
    compiled,
    masked_stock,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    values,
    vectors,
)

DEPTH, BATCH, EPOCHS = 4, 8, 3
TENSORFLOW = keras.backend.backend() == "tensorflow"
not_on_torch = pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras has no steps_per_execution on torch"
)


def fitted(model, callbacks, x=None, y=None, **arguments):
    """Train in a fixed order of batches and return the model and its history."""
    if x is None:
        x, y = vectors(40)
        arguments.setdefault("batch_size", BATCH)
    arguments = {"epochs": EPOCHS, "shuffle": False, "verbose": 0, **arguments}
    return model, model.fit(x, y, callbacks=callbacks, **arguments).history


def cyclic(steps, every=1, depth=DEPTH):
    return [(step // every % depth,) for step in range(steps)]


def two_blocks(**arguments):
    """Return a net of two blocks: for facts that do not need more, each of which is a program to compile."""
    return mlp(depth=2, **arguments)


def assert_same_weights(model, twin, rtol=1e-5, atol=1e-6):
    # The same operations in float32, but a backward pass that is cut may sum in another order.
    for found, expected in zip(values(model.weights), values(twin.weights), strict=True):
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def descent():
    return keras.optimizers.SGD(0.01)


def momentum():
    return keras.optimizers.SGD(0.1, momentum=0.9)


def assert_follows_masked_stock(build, depth, optimizer=momentum, every=1, **arguments):
    """Check that the blocks of a model, so many, move as in masked stock training."""
    model, _ = fitted(
        compiled(build(), optimizer(), **arguments), [layerwise.BlockCoordinate(every=every)]
    )
    twin = compiled(build(), optimizer(), **arguments)
    data = batches(*vectors(40), BATCH, EPOCHS)
    masked_stock(twin, list(zip(data, cyclic(15, every, depth), strict=True)))
    assert_same_weights(model, twin)


# --- data


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        x, y = vectors(40)
        return x[index * BATCH : (index + 1) * BATCH], y[index * BATCH : (index + 1) * BATCH]


@pytest.mark.thorough
def test_a_pydataset_gives_what_arrays_give():
    arrays, history = fitted(pooled(mlp, keras.optimizers.Adam), [layerwise.BlockCoordinate()])
    dataset, same = fitted(
        pooled(mlp, keras.optimizers.Adam, twin=True), [layerwise.BlockCoordinate()], x=Batches()
    )
    assert same_bits(values(arrays.weights), values(dataset.weights))
    assert history == same


def test_a_generator_of_unknown_length():
    def endless():
        while True:
            yield from batches(*vectors(40), BATCH, 1)

    arguments = {"x": endless(), "steps_per_epoch": 5}
    model, _ = fitted(
        pooled(mlp, keras.optimizers.Adam), [layerwise.BlockCoordinate(every=2)], **arguments
    )
    arrays, _ = fitted(
        pooled(mlp, keras.optimizers.Adam, twin=True), [layerwise.BlockCoordinate(every=2)]
    )
    assert same_bits(values(model.weights), values(arrays.weights))


def test_losses_shown_are_those_of_the_batches_before_each_step():
    _, history = fitted(pooled(mlp, descent), [layerwise.BlockCoordinate()], epochs=1)
    twin = pooled(mlp, descent, twin=True)
    losses = masked_stock(twin, list(zip(batches(*vectors(40), BATCH, 1), cyclic(5), strict=True)))
    assert history["loss"] == pytest.approx([np.mean(losses)], rel=1e-5)


def test_a_sweep_shows_loss_and_metrics_of_its_first_forward_pass():
    schedule = layerwise.BlockCoordinate(sweep_each_batch=True)
    model, history = fitted(pooled(mlp, descent, metrics=("accuracy",)), [schedule], epochs=1)
    twin, losses = pooled(mlp, descent, twin=True), []
    for batch in batches(*vectors(40), BATCH, 1):
        steps = [(batch, (block,)) for block in range(DEPTH)]
        losses.append(masked_stock(twin, steps)[0])
    assert history["loss"] == pytest.approx([np.mean(losses)], rel=1e-5)
    assert set(history) == {"loss", "accuracy"}
    assert_same_weights(model, twin)


def test_validation_data_is_evaluated_by_the_whole_model():
    x, y = vectors(20, seed=7)
    arguments = {"validation_data": (x, y), "validation_batch_size": 20}
    model = pooled(mlp, descent, metrics=("accuracy",))
    model, history = fitted(model, [layerwise.BlockCoordinate()], **arguments)
    assert history["val_loss"][-1] == model.evaluate(x, y, batch_size=20, verbose=0)[0]
    assert history["val_accuracy"][-1] == model.evaluate(x, y, batch_size=20, verbose=0)[1]


def test_validation_split_and_frequency():
    arguments = {"validation_split": 0.2, "validation_freq": 2, "epochs": 4}
    model, history = fitted(pooled(mlp, descent), [layerwise.BlockCoordinate()], **arguments)
    x, y = vectors(40)
    weights, arguments = values(model.weights), {"epochs": 4, "batch_size": BATCH}
    plain, _ = fitted(
        pooled(mlp, descent), [layerwise.BlockCoordinate()], x[:32], y[:32], **arguments
    )
    assert len(history["val_loss"]) == 2
    assert same_bits(weights, values(plain.weights))


def test_sample_weights_and_class_weights():
    x, y = vectors(40)
    class_weight = {0: 0.5, 1: 2.0, 2: 0.0}
    weights = np.array([class_weight[label] for label in y], "float32")
    twin = pooled(mlp, momentum, twin=True)
    data = [(a, b, w) for (a, w), (_, b) in zip(
        batches(x, weights, BATCH, EPOCHS), batches(x, y, BATCH, EPOCHS), strict=True
    )]  # fmt: skip
    masked_stock(twin, list(zip(data, cyclic(15), strict=True)))
    assert not same_bits(values(twin.weights), values(mlp().weights))
    for arguments in ({"class_weight": class_weight}, {"sample_weight": weights}):
        schedule, model = layerwise.BlockCoordinate(), pooled(mlp, momentum)
        fitted(model, [schedule], x, y, batch_size=BATCH, **arguments)
        assert_same_weights(model, twin)


# --- models, regularizers, constraints, optimizers


def regularized():
    """Return a net of two blocks in which all that acts on a layer's weights besides the loss does so."""
    return two_blocks(
        kernel_regularizer=keras.regularizers.L1L2(0.01, 0.02),
        activity_regularizer=keras.regularizers.L2(0.05),
        kernel_constraint=keras.constraints.UnitNorm(),
    )


def normalized_with_dropout():
    """Return a net of three blocks, two of them with batch normalization and dropout."""
    return normalized_mlp(depth=2, dropout=0.3)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("build", "depth"),
    [(regularized, 2), (normalized_with_dropout, 3)],
    ids=["regularizers and a constraint", "batch normalization and dropout"],
)
def test_layers_with_more_than_weights(build, depth):
    assert_follows_masked_stock(build, depth)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.SGD(0.2, clipnorm=0.05),
        lambda: keras.optimizers.SGD(0.2, clipvalue=0.01),
        lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, weight_decay=0.1),
        lambda: keras.optimizers.Adagrad(0.1),
        lambda: keras.optimizers.Lion(0.001),
    ],
    ids=["clipnorm", "clipvalue", "rmsprop", "adagrad", "lion"],
)
def test_optimizers(optimizer):
    assert_follows_masked_stock(two_blocks, 2, optimizer, every=2)


def decaying():
    return keras.optimizers.SGD(keras.optimizers.schedules.InverseTimeDecay(0.3, 2, 0.5))


# NEW: today they count all Updates.
@pytest.mark.parametrize("state", ["keep", "drop"])
def test_learning_rate_schedules_count_batches(state):
    schedule = layerwise.BlockCoordinate(sweep_each_batch=True, state=state)
    model, _ = fitted(pooled(mlp, decaying), [schedule])
    twin = pooled(mlp, descent, twin=True)

    def set_rate(step):
        twin.optimizer.learning_rate = 0.3 / (1 + 0.5 * (step // DEPTH) / 2)

    data = [batch for batch in batches(*vectors(40), BATCH, EPOCHS) for _ in range(DEPTH)]
    masked_stock(twin, list(zip(data, cyclic(60), strict=True)), set_rate)
    assert int(model.optimizer.iterations) == 15
    assert_same_weights(model, twin)


def test_several_inputs_and_outputs():
    def build():
        left, right = keras.Input((FEATURES,), name="left"), keras.Input((FEATURES,), name="right")
        value = keras.layers.Concatenate()([left, right])
        value = keras.layers.Dense(6, "tanh", kernel_initializer=initializer(0), name="block_0")(
            value
        )
        value = keras.layers.Dense(6, "tanh", kernel_initializer=initializer(1), name="block_1")(
            value
        )
        first = keras.layers.Dense(2, kernel_initializer=initializer(2), name="block_2")(value)
        second = keras.layers.Dense(1, kernel_initializer=initializer(3), name="block_3")(value)
        return keras.Model([left, right], {"first": first, "second": second})

    def initializer(seed):
        return keras.initializers.GlorotUniform(seed)

    def build_compiled():
        model = build()
        weights = {"first": 2.0, "second": 0.5}
        model.compile(momentum(), {"first": "mse", "second": "mae"}, loss_weights=weights)
        return model

    x = {"left": vectors(40)[0], "right": vectors(40, seed=1)[0]}
    y = {"first": x["left"][:, :2], "second": x["right"][:, :1]}
    by = [["block_0"], ["block_1"], ["block_2", "block_3"]]
    model = build_compiled()
    schedule = layerwise.BlockCoordinate(blocks=by)
    _, history = fitted(model, [schedule], x, y, batch_size=BATCH)
    assert set(history) == {"loss", "first_loss", "second_loss"}
    twin = build_compiled()
    slices = [slice(start, start + BATCH) for start in range(0, 40, BATCH)] * EPOCHS
    data = [
        {name: {k: v[part] for k, v in arrays.items()} for name, arrays in (("x", x), ("y", y))}
        for part in slices
    ]
    moving = [[(0,), (1,), (2, 3)][step % 3] for step in range(15)]
    masked_stock(twin, list(zip(data, moving, strict=True)))
    assert_same_weights(model, twin)


# --- how steps are run


def test_run_eagerly_gives_what_graphs_give():
    eager, _ = fitted(compiled(mlp(), momentum(), run_eagerly=True), [layerwise.BlockCoordinate()])
    graph, _ = fitted(pooled(mlp, momentum), [layerwise.BlockCoordinate()])
    assert_same_weights(eager, graph)


@pytest.mark.thorough
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch.compile needs a compiler")
def test_jit_compile_gives_what_graphs_give():
    assert_follows_masked_stock(normalized_with_dropout, 3, jit_compile=True)


@pytest.mark.thorough
@not_on_torch
@pytest.mark.parametrize(("every", "state"), [(2, "reset"), (3, "drop"), ("epoch", "keep")])
def test_several_steps_per_execution_change_nothing(every, state):
    x, y = vectors(52)  # seven batches, the last one short; three executions, the last one short

    def run(**arguments):
        schedule = layerwise.BlockCoordinate(every=every, state=state)
        model = pooled(normalized_mlp, keras.optimizers.Adam, metrics=("accuracy",), **arguments)
        _, history = fitted(model, [schedule], x, y, batch_size=BATCH)
        return values(model.weights), values(model.optimizer.variables), history, schedule.visits

    weights, slots, history, visits = run(steps_per_execution=3)
    one_weights, one_slots, one_history, one_visits = run()
    assert same_bits(weights, one_weights)
    assert same_bits(slots, one_slots)
    assert history == one_history
    assert visits.equals(one_visits)


def together(steps):
    """Return a model of two blocks that runs so many steps in one execution."""
    arguments = {} if steps == 1 else {"steps_per_execution": steps}
    return pooled(two_blocks, keras.optimizers.Adam, **arguments)


class StockAtOddSteps(layerwise.Schedule):
    def updates(self, epoch, step):
        return (layerwise.Update(blocks=None if step % 2 else (0,)),)


@not_on_torch
def test_several_steps_of_data_with_something_missing_change_nothing():
    """A generator may say None for the sample weights that it does not have."""
    x, y = vectors(6 * BATCH)

    def run(steps):
        batches = ((x[k : k + BATCH], y[k : k + BATCH], None) for k in range(0, len(x), BATCH))
        model = together(steps)
        arguments = {"steps_per_epoch": 3, "epochs": 2, "shuffle": False, "verbose": 0}
        model.fit(batches, callbacks=[layerwise.BlockCoordinate()], **arguments)
        return values(model.weights)

    assert same_bits(run(3), run(1))


@not_on_torch
def test_several_steps_per_execution_where_stock_steps_come_among_others():
    ends = []
    for steps in (1, 3):
        model = together(steps)
        _, history = fitted(model, [StockAtOddSteps()])
        ends.append((values(model.weights), history))
    assert same_bits(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]


@pytest.mark.thorough
@not_on_torch
def test_several_steps_per_execution_in_sweeps_and_greedy_stages():
    x, y = vectors(52)
    for make in (
        lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
        lambda: layerwise.GreedyLayerwise(),
    ):
        ends = []
        for steps in (1, 3):
            model = together(steps)
            _, history = fitted(model, [make()], x, y, batch_size=BATCH, epochs=2)
            ends.append((values(model.weights), history))
        assert same_bits(ends[0][0], ends[1][0])
        assert ends[0][1] == ends[1][1]


@not_on_torch
def test_a_stock_execution_is_one_call_of_the_models_own_function(monkeypatch):
    x, y = vectors(56)  # seven batches: two whole executions, and one of a single batch
    calls, own = [], backend.stock_program

    def stock_program(function):
        return own(lambda *arguments: calls.append(1) or function(*arguments))

    monkeypatch.setattr(backend, "stock_program", stock_program)
    ends = []
    for callbacks in ([], [layerwise.Simultaneous()]):
        model, history = fitted(
            compiled(two_blocks(), "adam", steps_per_execution=3), callbacks, x, y, batch_size=BATCH
        )
        ends.append((values(model.weights), history))
    assert same_bits(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
    assert len(calls) == 3 * EPOCHS


@pytest.mark.thorough
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    snapshots = Snapshots()
    model, _ = fitted(pooled(two_blocks, momentum), [layerwise.BlockCoordinate(), snapshots])
    moving = cyclic(15, depth=2)
    assert snapshots.moved() == moving
    twin = pooled(two_blocks, momentum, twin=True)
    masked_stock(twin, list(zip(batches(*vectors(40), BATCH, EPOCHS), moving, strict=True)))
    # Activations have 8 (bfloat16) or 11 bits, and a compiler may keep more of them in one program
    # than in the other: a gradient may differ by 2**-8 of itself, the weights' steps are 0.01.
    assert_same_weights(model, twin, rtol=2e-3, atol=2e-3)


@pytest.mark.thorough
def test_a_loss_scale_that_overflows_skips_the_step_and_is_halved():
    keras.config.set_dtype_policy("mixed_float16")

    def optimizer():
        return keras.optimizers.LossScaleOptimizer(
            keras.optimizers.Adam(0.01), initial_scale=2.0**30, dynamic_growth_steps=4
        )

    model = compiled(two_blocks(), optimizer())
    start = values(model.weights)
    snapshots = Snapshots()
    fitted(model, [layerwise.BlockCoordinate(), snapshots], epochs=1)
    assert snapshots.moved() == [()] * 5, "no gradient was finite"
    assert same_bits(start, values(model.weights))
    twin = compiled(two_blocks(), optimizer())
    fitted(twin, [], epochs=1)
    assert float(model.optimizer.dynamic_scale) == float(twin.optimizer.dynamic_scale) == 2.0**25
    fitted(model, [layerwise.BlockCoordinate(), snapshots], epochs=6)
    moved = [step for step in snapshots.moved() if step]
    assert moved, "the scale came down far enough"
    assert all(len(step) == 1 for step in moved)


# --- callbacks


def test_learning_rate_scheduler_and_csv_logger(tmp_path):
    rates = [0.3, 0.1, 0.02]
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]),
        layerwise.BlockCoordinate(),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    model, history = fitted(pooled(mlp, momentum), callbacks)
    twin = pooled(mlp, momentum, twin=True)

    def set_rate(step):
        twin.optimizer.learning_rate = rates[step // 5]

    data = batches(*vectors(40), BATCH, EPOCHS)
    masked_stock(twin, list(zip(data, cyclic(15), strict=True)), set_rate)
    assert_same_weights(model, twin)
    assert history["learning_rate"] == pytest.approx(rates)
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == history["loss"]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx(rates)


def test_reduce_on_plateau_acts_on_all_blocks():
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.1, patience=1, min_delta=9)
    model, history = fitted(pooled(mlp, momentum), [layerwise.BlockCoordinate(), plateau])
    assert history["learning_rate"] == pytest.approx([0.1, 0.1, 0.01])
    twin = pooled(mlp, momentum, twin=True)

    def set_rate(step):
        twin.optimizer.learning_rate = 0.01 if step >= 10 else 0.1

    data = batches(*vectors(40), BATCH, EPOCHS)
    masked_stock(twin, list(zip(data, cyclic(15), strict=True)), set_rate)
    assert_same_weights(model, twin)


def test_early_stopping_restores_the_best_weights():
    class WorseAndWorse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = float(epoch)

    stopping = keras.callbacks.EarlyStopping("loss", patience=2, restore_best_weights=True)
    callbacks = [WorseAndWorse(), layerwise.BlockCoordinate(), stopping]
    model, history = fitted(pooled(mlp, momentum), callbacks, epochs=10)
    assert len(history["loss"]) == 3
    best, _ = fitted(pooled(mlp, momentum, twin=True), [layerwise.BlockCoordinate()], epochs=1)
    assert same_bits(values(model.weights), values(best.weights))


def test_model_checkpoint_holds_what_training_had(tmp_path):
    path = str(tmp_path / "{epoch}.weights.h5")
    checkpoint = keras.callbacks.ModelCheckpoint(path, save_weights_only=True)
    model, _ = fitted(
        pooled(mlp, keras.optimizers.Adam), [layerwise.BlockCoordinate(every=2), checkpoint]
    )
    two, _ = fitted(
        pooled(mlp, keras.optimizers.Adam, twin=True),
        [layerwise.BlockCoordinate(every=2)],
        epochs=2,
    )
    for epoch, expected in (("2", two), ("3", model)):
        twin = compiled(mlp(), "adam")
        twin.optimizer.build(twin.trainable_variables)
        twin.load_weights(path.format(epoch=epoch))
        assert same_bits(values(twin.weights), values(expected.weights))
        assert same_bits(values(twin.optimizer.variables), values(expected.optimizer.variables))


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    pytest.importorskip("tensorflow")  # with which Keras writes for it, whatever the backend
    board = keras.callbacks.TensorBoard(tmp_path, histogram_freq=1, update_freq="batch")
    with_board, _ = fitted(pooled(mlp, keras.optimizers.Adam), [board, layerwise.BlockCoordinate()])
    without, _ = fitted(
        pooled(mlp, keras.optimizers.Adam, twin=True), [layerwise.BlockCoordinate()]
    )
    assert same_bits(values(with_board.weights), values(without.weights))
    assert list(tmp_path.rglob("events*"))


def test_terminate_on_nan_stops_a_run_that_diverges():
    callbacks = [layerwise.BlockCoordinate(), keras.callbacks.TerminateOnNaN()]
    x, _ = vectors(40)
    model = compiled(mlp(), keras.optimizers.SGD(0.1), loss="mse")
    targets = np.full((40, CLASSES), 1e30, "float32")
    _, history = fitted(model, callbacks, x, targets, batch_size=BATCH, epochs=9)
    assert len(history["loss"]) < 9


# --- several fits


@pytest.mark.parametrize(("order", "state"), [("cyclic", "reset"), ("shuffled", "keep")])
def test_a_second_fit_with_the_same_schedule_goes_on(order, state):
    def schedule():
        return layerwise.BlockCoordinate(order=order, every=3, state=state)

    def model():
        return pooled(mlp, keras.optimizers.Adam)

    whole, again = schedule(), schedule()
    once, _ = fitted(model(), [whole], epochs=4)
    end = values(once.weights)
    twice, _ = fitted(model(), [again], epochs=1)
    fitted(twice, [again], epochs=2)
    fitted(twice, [again], epochs=4, initial_epoch=3)
    assert same_bits(values(twice.weights), end)
    assert whole.visits.equals(again.visits)
    assert whole.counts == again.counts


def test_a_second_fit_with_a_new_schedule_starts_afresh():
    model = pooled(mlp, keras.optimizers.Adam)
    fitted(model, [layerwise.BlockCoordinate(every=2)], epochs=1)
    snapshots = Snapshots()
    fitted(model, [layerwise.BlockCoordinate(every=2), snapshots], epochs=1)
    assert snapshots.moved() == [(0,), (0,), (1,), (1,), (2,)]


def test_visits_say_what_moved_when():
    schedule = layerwise.BlockCoordinate(every=4, always=["block_3"])
    fitted(pooled(mlp, descent), [schedule])
    visits = schedule.visits
    assert list(visits["visit"]) == [0, 1, 2, 3]
    assert [tuple(names) for names in visits["blocks"]] == [
        ("block_0", "block_3"),
        ("block_1", "block_3"),
        ("block_2", "block_3"),
        ("block_0", "block_3"),
    ]
    assert list(visits["epoch"]) == [0, 0, 1, 2]
    assert list(visits["step"]) == [0, 4, 8, 12]
    assert list(visits["steps"]) == list(visits["updates"]) == [4, 4, 4, 3]


def test_counts_and_compile_seconds():
    schedule = layerwise.BlockCoordinate()
    fitted(compiled(mlp()), [schedule])
    update = layerwise.Update
    assert schedule.counts == {update((k,)): n for k, n in enumerate([4, 4, 4, 3])}
    assert schedule.compile_seconds > 0
    x, y = vectors(BATCH)
    costs = [schedule.flops(update((k,)), x, y) for k in range(DEPTH)]
    assert costs == sorted(costs, reverse=True), "the lower the block, the longer the way back"
    assert costs[-1] < costs[0] < schedule.flops(update((0, 1, 2, 3)), x, y)
