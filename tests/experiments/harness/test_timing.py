import functools

import pytest

from experiments.harness import timing
from experiments.harness.networks import Network, convnet, transformer
from experiments.harness.timing import Planned, Training
from tests.experiments.cost import tiny


@pytest.mark.parametrize(
    "network",
    [
        Network("convnet", functools.partial(convnet, (2, 2, 2), (8, 8, 3)), 2, 1),
        Network("transformer", functools.partial(transformer, 2, 8, 2, 4), 2, 1, blocks=2),
    ],
    ids=lambda network: network.name,
)
def test_an_epoch_is_whole_sweeps_over_the_blocks(network):
    training = Training(network)
    assert training.steps == training.n_blocks == {"convnet": 3, "transformer": 2}[network.name]
    assert len(training.x) == len(training.y) == (1 + training.steps) * 2
    training.model.run_eagerly = True  # compiling such a network takes longer than its epoch
    assert len(training.epochs()) == 1


def test_a_plan_moves_its_blocks():
    training = Training(tiny.SMALL)
    schedule = Planned([2, "cyclic", 0])
    training.epochs(schedule, 3)
    names = [blocks[0] for blocks in schedule.visits["blocks"]]
    assert names == ["dense2", "dense1", "dense2", "dense0", "dense1", "dense0"]
    before = tiny.weights(training.model)
    training.epochs(schedule)  # goes on with the plan: block 2
    moved = tiny.moved(before, tiny.weights(training.model))
    assert moved == [False] * 4 + [True] * 2


def test_the_summary_is_the_median_and_the_quartiles():
    found = timing.summary([5.0, 1.0, 4.0, 2.0, 3.0])
    assert found == {"value": 3.0, "low": 2.0, "high": 4.0, "repetitions": 5}
