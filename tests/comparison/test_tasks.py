"""What is measured is what plain Keras measures: every task against `evaluate`."""

import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison.tasks import Task

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 4)).astype("float32")
LABELS = RNG.integers(0, 3, 24)
TWO = RNG.integers(0, 2, 24)
MANY = RNG.integers(0, 2, (24, 3))
NUMBERS = X @ RNG.normal(size=4) + 5
TOKENS = RNG.integers(0, 7, (24, 5))
WEIGHTS = RNG.uniform(0.1, 2, 24).astype("float32")


def sweep():
    return layerwise.BlockCoordinate(blocks="layer", sweep_each_batch=True)


def dense(units, activation=None):
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(units, activation)])


def language_model():
    layers = [keras.layers.Embedding(7, 4), keras.layers.Dense(7)]
    return keras.Sequential([keras.Input((5,), dtype="int32"), *layers])


def data(y, x=X, *weights):
    part = (x, y, *weights)
    return layerwise.Data(part, part, part)


def stock(model, loss, metrics, y, x=X, weights=None):
    """What plain Keras says: `[loss, metric]`."""
    metrics = [
        type(one).from_config(one.get_config()) if isinstance(one, keras.metrics.Metric) else one
        for one in metrics
    ]
    model.compile(loss=loss, weighted_metrics=metrics)
    found = model.evaluate(x, y, batch_size=len(y), sample_weight=weights, verbose=0)
    return [np.ravel(one).item() for one in found] if isinstance(found, list) else found


FROM_LOGITS = {
    name: getattr(keras.losses, name)(from_logits=True)
    for name in ("BinaryCrossentropy", "CategoricalCrossentropy", "SparseCategoricalCrossentropy")
}
AT_ZERO = keras.metrics.BinaryAccuracy(threshold=0.0)
CASES = {
    # name: model, targets, (loss, metric) that are given, (loss, metric) for Keras, name, direction
    "labels": (
        dense(3),
        LABELS,
        {},
        ("SparseCategoricalCrossentropy", "accuracy"),
        "accuracy",
        "max",
    ),
    "one-hot": (
        dense(3),
        np.eye(3)[LABELS],
        {},
        ("CategoricalCrossentropy", "accuracy"),
        "accuracy",
        "max",
    ),
    "mse of one-hot": (
        dense(3),
        np.eye(3)[LABELS],
        {"loss": "mse"},
        ("mse", "categorical_accuracy"),
        "accuracy",
        "max",
    ),
    "named loss": (
        dense(3, "softmax"),
        LABELS,
        {"loss": "sparse_categorical_crossentropy"},
        ("sparse_categorical_crossentropy", "accuracy"),
        "accuracy",
        "max",
    ),
    "sigmoid": (
        dense(1, "sigmoid"),
        TWO,
        {},
        ("binary_crossentropy", "accuracy"),
        "binary_accuracy",
        "max",
    ),
    "sigmoid, named": (
        dense(1, "sigmoid"),
        TWO.astype("float32"),
        {"loss": "binary_crossentropy", "metric": "auc"},
        ("binary_crossentropy", keras.metrics.AUC()),
        "auc",
        "max",
    ),
    "one logit": (dense(1), TWO, {}, ("BinaryCrossentropy", AT_ZERO), "binary_accuracy", "max"),
    "multi-label": (dense(3), MANY, {}, ("BinaryCrossentropy", AT_ZERO), "binary_accuracy", "max"),
    "precision of a logit": (
        dense(1),
        TWO,
        {"metric": "precision"},
        ("BinaryCrossentropy", keras.metrics.Precision(thresholds=0.0)),
        "precision",
        "max",
    ),
    "f1 of one unit": (
        dense(1, "sigmoid"),
        TWO[:, None],
        {"metric": "f1_score"},
        ("binary_crossentropy", keras.metrics.F1Score(threshold=0.5)),
        "f1_score",
        "max",
    ),
    "begins with zeros": (
        keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(3, kernel_initializer="zeros"),
                keras.layers.Reshape((3,)),
            ]
        ),
        LABELS,
        {},
        ("SparseCategoricalCrossentropy", "accuracy"),
        "accuracy",
        "max",
    ),
    "numbers": (dense(1), NUMBERS, {}, ("mse", "mae"), "mean_absolute_error", "min"),
    "numbers, r2": (
        dense(1),
        NUMBERS[:, None],
        {"metric": "r2_score"},
        ("mse", "r2_score"),
        "r2_score",
        "max",
    ),
    "mae": (
        dense(1),
        NUMBERS,
        {"loss": "mae", "metric": "mse"},
        ("mae", "mse"),
        "mean_squared_error",
        "min",
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_task_measures_what_evaluate_measures(case, weighted):
    model, y, given, (loss, metric), name, direction = CASES[case]
    if weighted and case == "numbers, r2":
        pytest.skip("Keras weighs R2 by rows of weights")
    task = Task.of(model, data(y), **given)
    assert (task.name, task.direction) == (name, direction)
    weights = WEIGHTS if weighted else None
    found = task.measure(y, np.asarray(model.predict(X, verbose=0)), weights)
    expected = stock(model, FROM_LOGITS.get(loss, loss), [metric], y, weights=weights)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


@pytest.mark.parametrize("metric", [None, "accuracy"])
def test_a_language_model_has_perplexity_or_token_accuracy(metric):
    model = language_model()
    task = Task.of(model, data(TOKENS, TOKENS), metric=metric)
    found = task.measure(TOKENS, np.asarray(model.predict(TOKENS, verbose=0)))
    loss = FROM_LOGITS["SparseCategoricalCrossentropy"]
    expected = stock(model, loss, ["accuracy"], TOKENS, TOKENS)
    if metric is None:
        assert (task.name, task.direction) == ("perplexity", "min")
        expected[1] = np.exp(expected[0])
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def noisy():
    """Return a model that augments what it is trained on, and only that."""
    layers = [keras.layers.GaussianNoise(0.5), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((4,)), *layers])


COMPARED = {
    # model, its data, what compare() is given, (loss, metric) for Keras
    "mse": (lambda: dense(3), data(np.eye(3)[LABELS]), {"loss": "mse"}, ("mse", "accuracy")),
    "one sigmoid unit": (
        lambda: dense(1, "sigmoid"),
        data(TWO),
        {"loss": "binary_crossentropy"},
        ("binary_crossentropy", "accuracy"),
    ),
    "multi-label": (lambda: dense(3), data(MANY), {}, ("BinaryCrossentropy", AT_ZERO)),
    "mae": (lambda: dense(1), data(NUMBERS), {"target": 5.0}, ("mse", "mae")),
    "perplexity": (
        language_model,
        data(TOKENS, TOKENS),
        {},
        ("SparseCategoricalCrossentropy", None),
    ),
    "augmented": (noisy, data(LABELS), {}, ("SparseCategoricalCrossentropy", "accuracy")),
}


@pytest.mark.thorough
@pytest.mark.parametrize("case", COMPARED)
def test_what_compare_says_of_a_trained_model_is_what_evaluate_says(case):
    build, given, arguments, (loss, metric) = COMPARED[case]
    trained = []

    def callbacks():
        last = keras.callbacks.LambdaCallback(
            on_train_end=lambda logs: trained.append(last.model.get_weights())
        )
        return [last]

    schedules = {"simultaneous": layerwise.Simultaneous, "sweep": sweep}
    options = {"learning_rates": (0.05,), "tuning_seeds": 1, "seeds": 1, "epochs": 3}
    options |= {"batch_size": 8, "budget": "epochs", "callbacks": callbacks, "verbose": 0}
    runs = layerwise.compare(build, given, schedules, **options, **arguments).runs
    assert set(runs["status"]) == {"finished"} and len(runs) == len(trained) == 4
    x, y = given.source.x, given.source.y
    rows = given.source.splits(0)["test"]
    model, expected = build(), []
    for weights in trained:
        model.set_weights(weights)
        found = stock(
            model, FROM_LOGITS.get(loss, loss), [metric] if metric else [], y[rows], x[rows]
        )
        expected.append(found if metric else [found, np.exp(found)])
    found = runs[["test_loss", "test_score"]].to_numpy("float64")
    np.testing.assert_allclose(sorted(found.tolist()), sorted(expected), rtol=1e-5)
    if "target" in arguments:  # in the metric's own units and direction: less is better
        assert set(runs["target"]) == {5.0}
        assert (runs["reached"] == (runs["best_validation_score"] <= 5.0)).all()
        assert runs["reached"].any()


def test_a_users_own_loss_and_metric():
    def worst(y, predictions):
        return keras.ops.max(keras.ops.abs(y - predictions), axis=-1)

    def close(y, predictions):
        return keras.ops.cast(keras.ops.abs(y - predictions) < 2, "float32")

    with pytest.raises(ValueError, match="set its attribute `direction`"):
        Task.of(dense(1), data(NUMBERS), loss=worst, metric=close)
    close.direction = "max"
    model = dense(1)
    task = Task.of(model, data(NUMBERS), loss=worst, metric=close)
    found = task.measure(NUMBERS, np.asarray(model.predict(X, verbose=0)))
    np.testing.assert_allclose(found, stock(model, worst, [close], NUMBERS[:, None]), rtol=1e-6)


def test_a_users_own_loss_meets_targets_without_a_last_axis_as_in_keras():
    def own(y, predictions):
        assert y.shape == predictions.shape
        return keras.ops.mean(keras.ops.square(y - predictions), axis=-1)

    model = dense(1)
    loss = Task.of(model, data(NUMBERS), loss=own).loss
    expected = stock(model, own, [], NUMBERS)
    assert float(loss(NUMBERS, model.predict(X, verbose=0))) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("metric", [keras.metrics.AUC, "auc", keras.metrics.AUC()])
def test_a_class_of_losses_or_metrics_is_one_with_its_defaults(metric):
    for _ in range(2):  # Keras numbers the names
        task = Task.of(
            dense(1, "sigmoid"), data(TWO), loss=keras.losses.BinaryCrossentropy, metric=metric
        )
        assert task.loss.name == "binary_crossentropy"
    if not isinstance(metric, keras.metrics.Metric):
        assert task.name == "auc"


def test_a_metric_serves_tasks_of_different_shapes():
    metric = keras.metrics.F1Score(average="macro")
    for classes in (3, 2):
        task = Task.of(dense(classes), data(np.eye(classes)[LABELS % classes]), metric=metric)
        assert 0 <= task.measure(np.eye(classes), np.eye(classes, dtype="float32"))[1] <= 1


def test_a_label_that_a_loss_ignores_is_no_wrong_one():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    y = np.where(LABELS == 1, -1, LABELS)
    model = dense(3)
    task = Task.of(model, data(y), loss=loss)
    (expected,) = [stock(model, loss, [], y)]
    assert task.measure(y, model.predict(X, verbose=0))[0] == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="label -1"):
        Task.of(model, data(y))


def test_a_masked_output_is_refused():
    layers = [keras.layers.Embedding(7, 4, mask_zero=True), keras.layers.Dense(7)]
    model = keras.Sequential([keras.Input((5,), dtype="int32"), *layers])
    with pytest.raises(ValueError, match=r"carries a mask .* sample weight 0"):
        Task.of(model, data(TOKENS, TOKENS))


def test_predictions_that_are_not_finite_have_no_score():
    task = Task.of(dense(3), data(LABELS))
    for value in (np.nan, np.inf):
        assert np.isnan(task.measure(LABELS, np.full((24, 3), value, "float32"))[1])


@pytest.mark.parametrize(
    "model, y, given, message",
    [
        (dense(2), LABELS, {}, "label 2, the model has 2 outputs"),
        (dense(2), LABELS - 1, {}, "label -1"),
        (dense(3), LABELS, {"loss": "mse"}, "give a target for each output.* 'mean_squared_error'"),
        (dense(2), NUMBERS, {}, "No loss fits outputs of shape"),
        (dense(3), LABELS, {"loss": "sparse_categorical_crossentropy"}, "takes probabilities"),
        (dense(1), TWO, {"loss": "binary_crossentropy"}, r"BinaryCrossentropy\(from_logits=True\)"),
        (dense(3), LABELS, {"loss": "nonsense"}, "name of a Keras loss"),
        (dense(3), LABELS, {"metric": "nonsense"}, "name of a Keras metric"),
        (dense(3), LABELS, {"metric": "mean_io_u"}, "told more .* give the metric itself"),
        (dense(1), NUMBERS, {"metric": "accuracy"}, "takes labels, and the targets, or the loss"),
        (dense(3), np.eye(3)[LABELS], {"metric": "f1_score"}, "choose an average"),
        (dense(1), TWO[:, None], {"metric": "f1_score"}, "let the model end in a sigmoid"),
    ],
)
def test_what_does_not_fit_is_said(model, y, given, message):
    with pytest.raises(ValueError, match=message):
        Task.of(model, data(y), **given)


@pytest.mark.parametrize("given", [{"loss": 3}, {"metric": 3}])
def test_what_is_no_loss_or_metric_is_said(given):
    with pytest.raises(TypeError, match="its name or a function, got 3"):
        Task.of(dense(3), data(LABELS), **given)


def test_several_outputs_are_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, [keras.layers.Dense(1)(inputs), keras.layers.Dense(1)(inputs)])
    with pytest.raises(ValueError, match="scores one output, the model has 2"):
        Task.of(model, data(NUMBERS))
