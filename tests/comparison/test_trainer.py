import collections
import types

import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison import trainer
from layerwise.comparison.seeds import derive
from layerwise.comparison.trainer import Trainer
from tests.comparison import problems
from tests.helpers import same_bits


def plain_fit(grid, learning_rate, seed):
    """Train by stock Keras, batch by batch, as `compare` documents it; return the model."""
    data = grid.datasets["vectors"]
    keras.utils.set_random_seed(derive("weights", seed))
    model = problems.net()
    for place, variable in enumerate(
        v for v in model.variables if v.name == "seed_generator_state"
    ):
        variable.assign([derive("dropout", seed, place), 0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(learning_rate), loss=loss)
    train = data.splits(seed)["train"]
    for epoch in range(grid.epochs):
        rng = np.random.default_rng(derive("order", seed, epoch))
        order = rng.permutation(train)
        for start in range(0, len(train) - grid.batch_size + 1, grid.batch_size):
            model.train_on_batch(*data.batch(order[start : start + grid.batch_size]))
    return model


def test_simultaneous_run_is_plain_training_bit_for_bit():
    grid = problems.grid()
    ours = Trainer(grid, problems.cell("simultaneous"))
    for seed in (4, 0):
        outcome = ours.run(0.03, seed)
        assert (outcome.status, outcome.error) == ("finished", "")
        plain = plain_fit(grid, 0.03, seed)
        assert same_bits(ours.model.get_weights(), plain.get_weights())


@pytest.fixture(scope="module")
def cells():
    """Return `{schedule: (trainer, curve)}`: the curve is of the trainer's very first run, (0.01, 2)."""
    grid = problems.grid(optimizer=keras.optimizers.Nadam)  # it has state beside its variables
    made = {}
    for schedule in problems.SCHEDULES:
        ours = Trainer(grid, problems.cell(schedule))
        first = ours.run(0.01, 2)
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
        outcome = ours.run(learning_rate, seed)
        assert outcome.compile_seconds == 0
    assert problems.curve(outcome) == first
    assert ours.schedule.traces == traces
    assert ours.builds == 1


@pytest.mark.parametrize("schedule", ["simultaneous", "greedy"])
def test_a_run_that_reaches_nan_stops_and_the_next_one_is_untouched(schedule, cells):
    ours, first = cells[schedule]
    outcome = ours.run(3e38, 0)
    assert outcome.status == "diverged"
    assert len(outcome.evaluations) < 4
    assert problems.curve(ours.run(0.01, 2)) == first


def test_all_schedules_start_from_the_same_weights_and_see_the_same_batches(monkeypatch, trainers):
    seen = {}
    for schedule, ours in trainers.items():
        batches = seen[schedule] = []
        stock = ours._batches

        def recorded(rows, seed, stock=stock, batches=batches):
            for x, y in stock(rows, seed):
                batches.append((x.tobytes(), y.tobytes()))
                yield x, y

        monkeypatch.setattr(ours, "_batches", recorded)
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
        assert ours.run(0.01, 1).status == "finished"
        del batches[9:]  # the pipeline reads ahead
        batches.extend(array.tobytes() for array in starts[0])
    first, *others = seen.values()
    assert len(first) > 9
    assert all(other == first for other in others)


def test_two_seeds_differ_in_weights_order_and_split(trainers):
    runs = (trainers["simultaneous"].run(0.01, seed) for seed in (0, 1))
    first, second = (run.evaluations[0].scores for run in runs)
    assert first != second


def test_clocks_count_updates_examples_and_flops():
    grid = problems.grid(
        schedules={"sweep": lambda: layerwise.BlockCoordinate(sweep_each_batch=True)}
    )
    ours = Trainer(grid, problems.cell("sweep"))
    outcome = ours.run(0.01, 0)
    steps = 60 // 16
    assert [e.update for e in outcome.evaluations] == [steps * 3 * e for e in range(4)]
    assert [e.examples for e in outcome.evaluations] == [steps * 16 * e for e in range(4)]
    x, y = grid.datasets["vectors"].batch(slice(0, 16))
    blocks = [layerwise.Update(blocks=(k,)) for k in range(3)]
    one_sweep = sum(ours.schedule.flops(update, x, y) for update in blocks)
    assert [e.flops for e in outcome.evaluations] == [steps * one_sweep * e for e in range(4)]
    assert outcome.n_blocks == 3


def test_work_that_is_no_update_costs_flops_and_is_not_counted(monkeypatch, trainers):
    # A schedule that measures gradients before it chooses a block counts these looks, too.
    ours = trainers["simultaneous"]
    plain = ours.run(0.01, 0).evaluations[-1]
    schedule = type(ours.schedule)
    counts, flops = schedule.counts, schedule.flops
    looks = property(lambda self: counts.fget(self) + collections.Counter({"a look": 5}))
    monkeypatch.setattr(schedule, "counts", looks)
    monkeypatch.setattr(
        schedule,
        "flops",
        lambda self, work, x, y: 1000 if work == "a look" else flops(self, work, x, y),
    )
    looking = ours.run(0.01, 0).evaluations[-1]
    assert looking.update == plain.update == 9
    assert looking.flops == plain.flops + 5 * 1000


def test_evaluation_is_not_training_time(monkeypatch, trainers):
    ours, stock = trainers["simultaneous"], trainers["simultaneous"]._evaluator
    real, slept = trainer.time.perf_counter, []
    monkeypatch.setattr(
        trainer, "time", types.SimpleNamespace(perf_counter=lambda: real() + 1000 * len(slept))
    )

    def slow(*arguments):
        slept.append(arguments)
        return stock(*arguments)

    monkeypatch.setattr(ours, "_evaluator", slow)
    assert ours.run(0.01, 1).evaluations[-1].train_seconds < 1000
    assert len(slept) == 4


def test_a_run_that_raises_is_a_failed_row_and_the_next_one_is_untouched():
    class Breaking(layerwise.BlockCoordinate):
        def updates(self, epoch, step):
            if step == 4 and self.seed == derive("schedule", 0):
                raise RuntimeError("no more\nof this")
            return super().updates(epoch, step)

    ours = Trainer(problems.grid(schedules={"breaking": Breaking}), problems.cell("breaking"))
    before = ours.run(0.01, 1)
    outcome = ours.run(0.01, 0)
    assert (outcome.status, outcome.error) == ("failed", "RuntimeError: no more of this")
    assert problems.curve(ours.run(0.01, 1)) == problems.curve(before)


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
    ours.run(0.1, 0)
    fresh = Trainer(grid, problems.cell("simultaneous"))
    assert problems.curve(ours.run(0.01, 0)) == problems.curve(fresh.run(0.01, 0))
    assert ours.builds == 2
