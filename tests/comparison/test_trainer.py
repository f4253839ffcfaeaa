import collections
import functools
import random
import time
import types

import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison import trainer
from layerwise.comparison.budget import Plan
from layerwise.comparison.seeds import derive
from layerwise.comparison.trainer import Trainer
from tests.comparison import problems
from tests.helpers import same_bits


def plain_fit(grid, learning_rate, seed):
    """Train by stock Keras on the batches that `compare` documents; return the model."""
    data = grid.datasets["vectors"].source
    keras.utils.set_random_seed(derive("weights", seed))
    model = problems.net()
    for place, variable in enumerate(
        v for v in model.variables if v.name == "seed_generator_state"
    ):
        variable.assign([derive("dropout", seed, place), 0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Nadam(learning_rate), loss=loss)
    train = data.splits(seed)["train"]
    steps = len(train) // grid.batch_size

    def batches():
        for epoch in range(grid.epochs):
            order = np.random.default_rng(derive("order", seed, epoch)).permutation(train)
            for rows in order[: steps * grid.batch_size].reshape(steps, -1):
                yield data.batch(rows)

    # On torch, dropout without a seed of its own draws from the global generator.
    seeded = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: keras.utils.set_random_seed(derive("training", seed))
    )
    model.fit(
        batches(),
        steps_per_epoch=steps,
        epochs=grid.epochs,
        callbacks=[seeded],
        shuffle=False,
        verbose=0,
    )
    return model


def test_simultaneous_run_is_plain_training_bit_for_bit(trainers):
    ours = trainers["simultaneous"]
    for seed in (4, 0):
        outcome = problems.run(ours, 0.03, seed)
        assert (outcome.status, outcome.error) == ("finished", "")
        plain = plain_fit(ours.grid, 0.03, seed)
        assert same_bits(ours.model.get_weights(), plain.get_weights())


@pytest.fixture(scope="module")
def cells():
    """Return `{schedule: (trainer, curve)}`: the curve is of the trainer's very first run, (0.01, 2)."""
    grid = problems.grid(optimizer=keras.optimizers.Nadam)  # it has state beside its variables
    made = {}
    for schedule in problems.SCHEDULES:
        ours = Trainer(grid, problems.cell(schedule))
        first = problems.run(ours, 0.01, 2)
        assert first.compile_seconds > 0
        made[schedule] = ours, problems.curve(first)
    return made


@pytest.fixture(scope="module")
def trainers(cells):
    return {schedule: ours for schedule, (ours, _) in cells.items()}


@pytest.mark.parametrize("schedule", problems.SCHEDULES)
def test_another_run_compiles_nothing_and_does_not_depend_on_those_before(schedule, cells):
    ours, first = cells[schedule]
    traces = dict(ours.schedule.traces)
    for learning_rate, seed in ((0.3, 1), (0.01, 2)):
        outcome = problems.run(ours, learning_rate, seed)
        assert outcome.compile_seconds == 0
    assert problems.curve(outcome) == first
    assert ours.schedule.traces == traces
    assert ours.builds == 1


@pytest.mark.thorough
def test_sweeps_that_begin_with_other_blocks_compile_nothing():
    """Of ten blocks, in runs of four batches: no run begins with all of them."""

    def ten_blocks():
        layers = [keras.layers.Dense(3) for _ in range(10)]
        return keras.Sequential([keras.Input((5,)), *layers])

    schedule = functools.partial(layerwise.BlockCoordinate, order="shuffled", sweep_each_batch=True)
    ours = Trainer(problems.grid({"sweep": schedule}, model=ten_blocks), problems.cell("sweep"))
    plan = Plan(epochs=2, steps=4)
    first, *others = [ours.run({"learning_rate": 0.01}, seed, plan) for seed in range(4)]
    assert first.compile_seconds > 0
    assert [outcome.compile_seconds for outcome in others] == [0, 0, 0]


@pytest.mark.thorough
@pytest.mark.parametrize("schedule", ["simultaneous", "greedy"])
def test_a_run_that_reaches_nan_stops_and_the_next_one_is_untouched(schedule, cells):
    ours, first = cells[schedule]
    outcome = problems.run(ours, 3e38, 0)
    assert outcome.status == "diverged"
    assert len(outcome.evaluations) < 4
    assert problems.curve(problems.run(ours, 0.01, 2)) == first


@pytest.mark.thorough
def test_an_optimizer_may_make_its_own_of_the_rate_that_is_tuned():
    rates = {}
    for factor in (1, 10):
        grid = problems.grid(
            optimizer=lambda learning_rate, k=factor: keras.optimizers.SGD(k * learning_rate)
        )
        ours = Trainer(grid, problems.cell("simultaneous"))
        rates[factor] = [problems.curve(problems.run(ours, rate, 2)) for rate in (0.01, 0.1)]
    assert rates[10][0] == rates[1][1] != rates[1][0]


def test_all_schedules_start_from_the_same_weights_and_see_the_same_batches(monkeypatch, trainers):
    seen = {}
    for schedule, ours in trainers.items():
        batches = seen[schedule] = []
        stock = functools.partial(type(ours.source).epochs, ours.source)

        def recorded(seed, batch_size, stock=stock, batches=batches):
            for rows in stock(seed, batch_size):
                batches.append(rows.tobytes())
                yield rows

        monkeypatch.setattr(ours.source, "epochs", recorded)
        starts = []
        weights = keras.callbacks.LambdaCallback(
            on_train_begin=lambda logs, m=ours, s=starts: s.append(
                [np.array(v.numpy()) for v in m.model.trainable_weights]
            )
        )
        fit = ours.model.fit
        monkeypatch.setattr(
            ours.model,
            "fit",
            lambda *a, fit=fit, weights=weights, **k: fit(
                *a, **(k | {"callbacks": [*k["callbacks"], weights]})
            ),
        )
        assert problems.run(ours, 0.01, 1).status == "finished"
        batches.extend(array.tobytes() for array in starts[0])
    first, *others = seen.values()
    assert len(first) > 3
    assert all(other == first for other in others)


@pytest.mark.thorough
def test_initial_weights_do_not_depend_on_who_else_draws_random_numbers(cells):
    def net():
        random.random()  # as another thread does
        return problems.net()

    grid = problems.grid(optimizer=keras.optimizers.Nadam, model=net)
    outcome = problems.run(Trainer(grid, problems.cell("simultaneous")), 0.01, 2)
    assert problems.curve(outcome) == cells["simultaneous"][1]


@pytest.mark.thorough
def test_two_seeds_differ_in_weights_order_and_split(trainers):
    runs = (problems.run(trainers["simultaneous"], 0.01, seed) for seed in (0, 1))
    first, second = (run.evaluations[0].scores for run in runs)
    assert first != second


def test_clocks_count_updates_examples_flops_and_seconds():
    class Slow(layerwise.BlockCoordinate):
        def on_epoch_begin(self, epoch, logs=None):
            super().on_epoch_begin(epoch, logs)
            time.sleep(0.1)

    def others():
        return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: time.sleep(0.2))]

    grid = problems.grid({"sweep": lambda: Slow(sweep_each_batch=True)}, callbacks=others)
    begun = time.perf_counter()
    ours = Trainer(grid, problems.cell("sweep"))
    outcome = problems.run(ours, 0.01, 0)
    whole = time.perf_counter() - begun
    # What a schedule does between epochs is training time, and what other callbacks do is not.
    seconds = outcome.evaluations[-1].train_seconds
    assert 0.1 * grid.epochs < seconds < whole - 0.2 * grid.epochs
    steps = 60 // 16
    assert [e.update for e in outcome.evaluations] == [steps * 3 * e for e in range(4)]
    assert [e.examples for e in outcome.evaluations] == [steps * 16 * e for e in range(4)]
    x, y = grid.datasets["vectors"].source.batch(slice(0, 16))
    blocks = [layerwise.Update(blocks=(k,)) for k in range(3)]
    one_sweep = sum(ours.schedule.flops(update, x, y) for update in blocks)
    assert [e.flops for e in outcome.evaluations] == [steps * one_sweep * e for e in range(4)]
    assert outcome.n_blocks == 3


@pytest.mark.thorough
def test_work_that_is_no_update_costs_flops_and_is_not_counted(monkeypatch, trainers):
    # A schedule that measures gradients before it chooses a block counts these looks, too.
    ours = trainers["simultaneous"]
    plain = problems.run(ours, 0.01, 0).evaluations[-1]
    schedule = type(ours.schedule)
    counts, flops = schedule.counts, schedule.flops
    looks = property(lambda self: counts.fget(self) + collections.Counter({"a look": 5}))
    monkeypatch.setattr(schedule, "counts", looks)
    monkeypatch.setattr(
        schedule,
        "flops",
        lambda self, work, x, y: 1000 if work == "a look" else flops(self, work, x, y),
    )
    looking = problems.run(ours, 0.01, 0).evaluations[-1]
    assert looking.update == plain.update == 9
    assert looking.flops == plain.flops + 5 * 1000


def test_evaluation_is_not_training_time(monkeypatch, trainers):
    ours, stock = trainers["simultaneous"], trainers["simultaneous"]._evaluator
    real, slept = trainer.time.perf_counter, []
    monkeypatch.setattr(
        trainer, "time", types.SimpleNamespace(perf_counter=lambda: real() + 1000 * len(slept))
    )

    class Slow:
        keep, standard_error = stock.keep, stock.standard_error

        def __call__(self, *arguments):
            slept.append(arguments)
            return stock(*arguments)

    monkeypatch.setattr(ours, "_evaluator", Slow())
    assert problems.run(ours, 0.01, 1).evaluations[-1].train_seconds < 1000
    assert len(slept) == 4


@pytest.mark.thorough
def test_a_run_that_raises_is_a_failed_row_and_the_next_one_is_untouched():
    class Breaking(layerwise.BlockCoordinate):
        def updates(self, epoch, step):
            if step == 4 and self.seed == derive("schedule", 5):
                raise RuntimeError("no more\nof this")
            return super().updates(epoch, step)

    ours = Trainer(problems.grid(schedules={"breaking": Breaking}), problems.cell("breaking"))
    before = problems.run(ours, 0.01, 1)
    outcome = problems.run(ours, 0.01, 5)
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: no more of this")
    assert problems.curve(problems.run(ours, 0.01, 1)) == problems.curve(before)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "optimizer",
    [
        lambda rate: keras.optimizers.AdamW(rate, weight_decay=rate),
        lambda rate: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(rate, 5, 0.5)
        ),
    ],
    ids=["decay from the rate", "schedule"],
)
def test_an_optimizer_that_takes_more_from_the_rate_is_made_anew(optimizer):
    grid = problems.grid(optimizer=optimizer, epochs=1)
    ours = Trainer(grid, problems.cell("simultaneous"))
    problems.run(ours, 0.1, 0)
    fresh = Trainer(grid, problems.cell("simultaneous"))
    assert problems.curve(problems.run(ours, 0.01, 0)) == problems.curve(
        problems.run(fresh, 0.01, 0)
    )
    assert ours.builds == 2


@pytest.mark.thorough
def test_a_budget_that_ends_within_an_epoch_trains_so_many_batches_and_no_more(trainers):
    for schedule, ours in trainers.items():
        whole = problems.run(ours, 0.01, 1).evaluations
        cut = ours.run({"learning_rate": 0.01}, 1, Plan(3, 7))
        assert (cut.status, cut.error) == ("finished", ""), schedule
        assert [e.update for e in cut.evaluations] == [0, 3, 6, 7]
        assert [e.examples for e in cut.evaluations] == [0, 48, 96, 112]
        assert cut.evaluations[2].scores == whole[2].scores
        assert cut.evaluations[3].scores != whole[3].scores
        assert problems.run(ours, 0.01, 1).evaluations[-1].scores == whole[-1].scores


@pytest.mark.thorough
def test_a_cosine_over_the_run_is_the_same_cosine_for_every_schedule():
    seen = {}

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    def cosine(rate):
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(rate, 9))

    schedules = {
        "simultaneous": layerwise.Simultaneous,
        "sweep": lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
    }
    for schedule in schedules:
        rates = seen[schedule] = []
        grid = problems.grid(schedules, cosine, callbacks=lambda: [Rates()])
        outcome = problems.run(Trainer(grid, problems.cell(schedule)), 0.1, 0)
        assert (outcome.status, outcome.error) == ("finished", "")
    expected = [0.05 * (1 + np.cos(np.pi * step / 9)) for step in range(1, 10)]
    np.testing.assert_allclose(seen["simultaneous"], expected, atol=1e-7)
    assert seen["sweep"] == seen["simultaneous"]


def test_an_optimizer_that_asks_for_steps_is_told_those_of_its_run():
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    def cosine(rate, steps):
        return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(rate, steps))

    grid = problems.grid(optimizer=cosine, callbacks=lambda: [Rates()])
    ours = Trainer(grid, problems.cell("simultaneous"))
    for steps, builds in ((6, 1), (12, 2)):
        for seed in range(2):
            outcome = ours.run({"learning_rate": 0.1}, seed, Plan(steps // 3, steps))
            assert (outcome.status, outcome.error) == ("finished", "")
            assert len(rates) == steps // 3
            expected = [0.05 * (1 + np.cos(np.pi * at / steps)) for at in range(3, steps + 1, 3)]
            np.testing.assert_allclose(rates, expected, atol=1e-7)
            rates.clear()
            assert ours.builds == builds, "another seed needs no other programs"


def test_class_weights_sample_weights_and_callbacks_are_those_of_stock_fit():
    x, y = problems.data(n=64, folds=None).source.batch(slice(0, 64))
    weights = np.random.default_rng(0).uniform(0.5, 2, 64).astype("float32")
    part, class_weight = (x, y, weights), {0: 3.0, 2: 0.5}
    data, seen = layerwise.Data(part, part, part), []

    def callbacks():
        stop = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["val_loss"], logs["loss"]))
        )
        return [stop, keras.callbacks.EarlyStopping("val_accuracy", mode="max", min_delta=9)]

    # No dropout: on torch its masks would depend on what else draws from the global generator.
    build = functools.partial(problems.net, dropout=0)
    grid = problems.grid(
        model=build, data=data, class_weight=class_weight, callbacks=callbacks, epochs=5
    )
    ours = Trainer(grid, problems.cell("simultaneous"))
    outcome = problems.run(ours, 0.03, 0)
    assert (outcome.status, outcome.error) == ("finished", "")
    assert [epoch for epoch, *_ in seen] == [0, 1], "EarlyStopping ends the run"
    assert outcome.evaluations[-1].update == 8
    keras.utils.set_random_seed(derive("weights", 0))
    model = build()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.03), loss=loss, weighted_metrics=["accuracy"])
    for epoch in range(2):
        order = np.random.default_rng(derive("order", 0, epoch)).permutation(np.arange(64))
        for rows in np.split(order, 4):
            by_class = np.array([class_weight.get(int(label), 1.0) for label in y[rows]])
            model.train_on_batch(x[rows], y[rows], sample_weight=weights[rows] * by_class)
    expected = model.evaluate(x, y, sample_weight=weights, batch_size=64, verbose=0)
    np.testing.assert_allclose(outcome.evaluations[-1].scores["test"], expected, rtol=1e-5)
    assert seen[-1][1] == outcome.evaluations[-1].scores["validation"][0]


@pytest.mark.parametrize("cosine", [False, True], ids=["fixed", "cosine"])
def test_the_rate_of_a_loss_scaled_optimizer_is_its_inner_ones(cosine):
    optimizers = keras.optimizers

    def scaled(learning_rate, steps):
        rate = optimizers.schedules.CosineDecay(learning_rate, steps) if cosine else learning_rate
        return optimizers.LossScaleOptimizer(optimizers.SGD(rate))

    grid = problems.grid(optimizer=scaled, epochs=1)
    ours = Trainer(grid, problems.cell("simultaneous"))
    for rate in (0.01, 0.03):
        outcome = problems.run(ours, rate, 0)
        assert (outcome.status, outcome.error) == ("finished", "")
    assert ours.builds == (2 if cosine else 1)
    if not cosine:
        assert float(ours.model.optimizer.learning_rate) == pytest.approx(0.03)
