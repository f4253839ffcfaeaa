"""Every schedule spends what the baseline spends."""

import itertools

import keras
import numpy as np
import pytest

import layerwise
from layerwise.comparison import budget
from layerwise.comparison.budget import Plan, Prices, plan, plan_within
from layerwise.comparison.planner import Planner
from layerwise.comparison.trainer import Trainer
from layerwise.training.resident import Resident
from tests.comparison import problems

SCHEDULES = {
    **problems.SCHEDULES,
    "sweep": lambda: layerwise.BlockCoordinate(sweep_each_batch=True),
    "by epoch": lambda: layerwise.BlockCoordinate(every="epoch"),
    "greedy, fine-tuned": lambda: layerwise.GreedyLayerwise(finetune_epochs=2),
    "random, by epoch": lambda: layerwise.BlockCoordinate(order="random", every="epoch"),
    "gauss_southwell": lambda: layerwise.BlockCoordinate(order="gauss_southwell", every=5),
}


@pytest.fixture(scope="module")
def planner():
    return Planner(problems.grid(SCHEDULES, budget="flops", epochs=8))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_measured_flops_are_within_a_tenth_of_the_baselines(schedule, planner):
    cell = problems.cell(schedule)
    setting = {"learning_rate": 0.01}
    budget = planner.plan(problems.cell("simultaneous"), setting).flops
    trainer = Trainer(planner.grid, cell)
    for seed in (3, 1000):
        planned = planner.plan(cell, setting, seed)
        outcome = trainer.run(setting, seed, planned)
        assert (outcome.status, outcome.error) == ("finished", "")
        spent = outcome.evaluations[-1].flops
        assert max(spent, budget) / min(spent, budget) <= 1.1
        if schedule != "gauss_southwell":  # which looks before it decides: a plan is an estimate
            assert spent == planned.flops


class Stub(layerwise.Schedule):
    """Two kinds of epoch; some numbers of epochs are not allowed."""

    def __init__(self, allowed=range(1, 10_000)):
        super().__init__()
        self.allowed = allowed

    def prepare(self, epochs):
        if epochs not in self.allowed:
            raise ValueError(f"not {epochs}")

    def updates(self, epoch, step):
        return (layerwise.Update(blocks=(epoch % 2,)),)


def price(update):
    return 3.0 if update.blocks == (0,) else 1.0


@pytest.mark.parametrize("budget", [1, 7, 12, 13, 100, 1001])
def test_the_last_epoch_ends_when_the_budget_is_spent(budget):
    found = plan_within(Stub(), 4, 5, price, budget)
    costs = itertools.accumulate(3.0 if step // 4 % 2 == 0 else 1.0 for step in range(10_000))
    distances = [abs(cost - budget) for cost in itertools.islice(costs, 2000)]
    assert found.steps == int(np.argmin(distances)) + 1
    assert found.epochs == -(-found.steps // 4)
    assert abs(found.flops - budget) <= 2


def test_a_schedule_that_allows_few_numbers_of_epochs_takes_the_largest_that_fits():
    assert plan_within(Stub((3, 4)), 4, 4, price, 1000) == Plan(4, 16, 32)
    with pytest.raises(ValueError, match="not 5"):
        plan_within(Stub(()), 4, 5, price, 100)


def test_equal_epochs_are_equal_epochs():
    assert plan(Stub(), 4, 3, price) == Plan(3, 12, 28)


@pytest.mark.parametrize(
    ("examples", "flops", "steps"),
    [
        (16 * 11, 110, 11),  # as long as planned: in its last epoch
        (16 * 4, 40, 11),  # ended by a callback after one epoch of three
        (16 * 8, 80, 11),
        (16 * 4, 30, 12),  # batches of other costs: never beyond the last epoch
        (16 * 4, 60, 9),  # and within it
    ],
)
def test_a_run_that_was_ended_early_was_planned_for_longer(examples, flops, steps):
    row = {"epochs": 3, "examples": examples, "flops": flops, "planned_flops": 110}
    assert Plan.of(row | {"planned_seconds": None}, 16, 4) == Plan(3, steps, 110)


@pytest.mark.thorough
def test_seconds_are_measured_and_the_slower_schedule_trains_less(monkeypatch):
    measure = Prices.seconds

    def seconds(self, *arguments):
        """Each Update is measured, but no clock of a busy machine decides the test: all are said to take a second."""
        measured = measure(self, *arguments)
        return lambda update: float(0 < measured(update) < np.inf)

    monkeypatch.setattr(Prices, "seconds", seconds)
    grid = problems.grid(SCHEDULES, budget="seconds", epochs=8)
    planner, setting = Planner(grid), {"learning_rate": 0.01}
    made = {name: planner.plan(problems.cell(name), setting) for name in ("simultaneous", "sweep")}
    assert made["simultaneous"].steps == 8 * 3
    assert 1 <= made["sweep"].steps < made["simultaneous"].steps
    assert made["sweep"].seconds == made["sweep"].steps * 3
    with pytest.raises(ValueError, match="cannot foresee"):
        planner.plan(problems.cell("gauss_southwell"), setting)


@pytest.mark.thorough
@pytest.mark.parametrize("stays", [True, False])
def test_seconds_are_of_an_update_that_takes_its_data_as_the_runs_do(monkeypatch, stays):
    held = []
    monkeypatch.setattr(budget, "stays_on_device", lambda model, source: stays)
    monkeypatch.setattr(budget, "Resident", lambda *data: held.append(data) or Resident(*data))
    planner = Planner(problems.grid(budget="seconds", epochs=2))
    planner.plan(problems.cell("shuffled, 1 step"), {"learning_rate": 0.01})
    assert len(held) == (4 if stays else 0), "of all blocks at once, and of each of three"


def test_a_wider_model_trains_less_for_the_same_flops():
    def net(width=8):
        return keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(width), keras.layers.Dense(3)]
        )

    grid = problems.grid(model=net, budget="flops", epochs=8, search={"model.width": (8, 32)})
    planner, cell = Planner(grid), problems.cell("simultaneous")
    narrow, wide = (planner.plan(cell, {"learning_rate": 0.1, "model.width": w}) for w in (8, 32))
    assert narrow.steps == 24 and wide.steps < 10
    assert wide.flops == pytest.approx(narrow.flops, rel=0.1)
