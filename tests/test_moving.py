"""Which blocks move at which step, and that the others keep every bit.

What moves at a step is read from `updates`, which is cheap; that training does it, and does nothing else, is checked on
every schedule of the conformance list, and for every optimizer in `test_state.py`.
"""

import keras
import pytest

import layerwise
from tests import conformance
from tests.helpers import (
    Snapshots,
    block_values,
    compiled,
    met,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    vectors,
)

DEPTH, BATCHES = 4, 5


@conformance.every_schedule()
def test_what_moves_is_what_the_schedule_says_and_the_rest_keeps_every_bit(case):
    run = conformance.whole(case)
    names = ["all"] if case.takes_any_model else [block.name for block in run.schedule.blocks]
    # A block of the schedule may be several layers of the model, as in BlockCoordinate(blocks=1).
    layers = (
        [set(range(conformance.DEPTH))]
        if len(names) == 1
        else [{int(name.removeprefix("block_"))} for name in names]
    )
    expected = [set() for _ in range(case.epochs * conformance.BATCHES)]
    for visit in run.schedule.visits.itertuples():
        for step in range(visit.step, visit.step + visit.steps):
            for name in visit.blocks:
                expected[step] |= layers[names.index(name)]
    assert run.snapshots.moved() == [tuple(sorted(blocks)) for blocks in expected]
    assert ("stage" in run.history) == case.has_stages


@conformance.every_schedule()
def test_visits_and_counts_add_up(case):
    run = conformance.whole(case)
    counts = run.schedule.counts
    updates = sum(n for key, n in counts.items() if isinstance(key, layerwise.Update))
    assert updates == run.schedule.visits["updates"].sum()
    assert updates >= case.epochs * conformance.BATCHES


def model():
    """Return a model that schedules may meet; nothing is trained."""
    return pooled(mlp, keras.optimizers.SGD)


def moves(schedule, steps=4 * BATCHES):
    """Return the blocks that move at each of so many batches, five an epoch, as `updates` has it."""
    met(schedule, model())
    return [schedule.updates(step // BATCHES, step)[0].blocks for step in range(steps)]


def visits_of(sequence, every, steps):
    """Return the one-block tuples of a sequence of blocks, each for so many steps."""
    repeated = [(block,) for block in sequence for _ in range(every)]
    return (repeated * (steps // len(repeated) + 1))[:steps]


@pytest.mark.parametrize("every", [1, 3, 7])
@pytest.mark.parametrize(
    ("order", "sequence"), [("cyclic", [0, 1, 2, 3]), ("reverse", [3, 2, 1, 0])]
)
def test_fixed_orders(order, sequence, every):
    schedule = layerwise.BlockCoordinate(order=order, every=every)
    assert moves(schedule) == visits_of(sequence, every, 4 * BATCHES)


def test_a_visit_of_an_epoch():
    schedule = layerwise.BlockCoordinate(order="reverse", every="epoch")
    assert moves(schedule, 6 * BATCHES) == visits_of([3, 2, 1, 0], BATCHES, 6 * BATCHES)


@pytest.mark.parametrize("every", [1, 2])
def test_a_shuffled_order_is_a_fresh_permutation_each_sweep(every):
    steps = moves(layerwise.BlockCoordinate(order="shuffled", every=every, seed=5), 8 * BATCHES)
    visits = steps[::every]
    assert steps == [visit for visit in visits for _ in range(every)]
    sweeps = [tuple(visits[k : k + DEPTH]) for k in range(0, len(visits), DEPTH)]
    assert all(sorted(sweep) == [(0,), (1,), (2,), (3,)] for sweep in sweeps)
    assert len(set(sweeps)) > 1


def test_a_random_order_draws_with_replacement():
    steps = moves(layerwise.BlockCoordinate(order="random", seed=1), 12 * BATCHES)
    assert {block for step in steps for block in step} == set(range(DEPTH))
    sweeps = [steps[k : k + DEPTH] for k in range(0, len(steps), DEPTH)]
    assert any(len(set(sweep)) < DEPTH for sweep in sweeps)


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_orders_depend_on_the_seed_alone(order):
    def steps(seed, global_seed):
        keras.utils.set_random_seed(global_seed)
        return moves(layerwise.BlockCoordinate(order=order, seed=seed), 8 * BATCHES)

    assert steps(1, global_seed=1) == steps(1, global_seed=2)
    assert steps(1, global_seed=1) != steps(2, global_seed=1)


def test_a_callable_order_is_asked_once_a_sweep_with_its_own_generator():
    asked = []

    def inside_out(sweep, n, rng):
        asked.append((sweep, n, float(rng.random())))
        return [1, 2, 0, 3] if sweep % 2 else [2, 1, 3, 0]

    steps = moves(layerwise.BlockCoordinate(order=inside_out))
    assert steps == [(k,) for k in [2, 1, 3, 0, 1, 2, 0, 3] * 3][:20]
    assert {(sweep, n) for sweep, n, _ in asked} >= {(sweep, 4) for sweep in range(5)}
    draws = {sweep: draw for sweep, _, draw in asked}
    assert len(set(draws.values())) == len(draws), "each sweep has its own random numbers"
    assert len({(sweep, draw) for sweep, _, draw in asked}) == len(draws), "and always the same"


@pytest.mark.parametrize("always", [(3,), ("block_3",), ["block_3"]])
def test_blocks_that_always_move_have_no_turn(always):
    steps = moves(layerwise.BlockCoordinate(always=always))
    assert steps == [(*turn, 3) for turn in visits_of([0, 1, 2], 1, 20)]


def test_two_blocks_that_always_move_and_visits_of_two_steps():
    steps = moves(layerwise.BlockCoordinate(always=("block_0", 2), every=2, order="reverse"))
    assert steps == [tuple(sorted({0, 2, *turn})) for turn in visits_of([3, 1], 2, 20)]


@pytest.mark.parametrize("order", ["cyclic", "reverse", "shuffled"])
def test_a_sweep_on_each_batch_moves_every_block(order):
    schedule = layerwise.BlockCoordinate(order=order, sweep_each_batch=True)
    met(schedule, model())
    sweeps = [[update.blocks for update in schedule.updates(0, step)] for step in range(10)]
    assert all(sorted(sweep) == [(0,), (1,), (2,), (3,)] for sweep in sweeps)
    if order != "shuffled":
        assert set(map(tuple, sweeps)) == {
            tuple(visits_of(range(4), 1, 4)[:: 1 if order == "cyclic" else -1])
        }
    else:
        assert len(set(map(tuple, sweeps))) > 1


def test_groups_of_layers_move_together():
    schedule = layerwise.BlockCoordinate(blocks=[["block_0", "block_2"], ["block_[13]"]])
    assert moves(schedule, 5) == [(0,), (1,), (0,), (1,), (0,)]
    names = [[layer.name for layer in block.layers] for block in schedule.blocks]
    assert names == [["block_0", "block_2"], ["block_1", "block_3"]]


# --- real fits: what is not trained in the conformance list


def moved(schedule, model, epochs=4):
    """Train on five batches an epoch and return the blocks that changed at each batch."""
    x, y = vectors(40)
    snapshots = Snapshots()
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[schedule, snapshots])
    return snapshots.moved()


def test_a_constraint_is_not_applied_to_standing_blocks():
    # It would project a block that stands still, too, if it were applied to it: the kernels start outside of it.
    model = mlp(DEPTH, kernel_constraint=keras.constraints.MaxNorm(0.2), kernel_regularizer="l2")
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.2)
    blocks = [["block_0", "block_2"], ["block_[13]"]]
    steps = moved(layerwise.BlockCoordinate(blocks), compiled(model, optimizer), epochs=1)
    assert steps == [(0, 2), (1, 3), (0, 2), (1, 3), (0, 2)]


def test_standing_blocks_keep_their_normalization_weights_but_not_its_statistics():
    model = normalized_mlp(depth=3)
    statistics = model.get_layer("normalization_2").moving_mean
    before = keras.ops.convert_to_numpy(statistics).copy()
    steps = moved(layerwise.BlockCoordinate(every=20), compiled(model, "adamw"))
    assert steps == [(0,)] * 20
    assert not same_bits([before], [keras.ops.convert_to_numpy(statistics)])


def test_variables_that_are_not_trainable_stay_and_fits_without_a_schedule_change_nothing_of_it():
    model = mlp(DEPTH)
    model.get_layer("block_1").trainable = False
    compiled(model, "adamw")
    frozen = [value.copy() for value in model.get_layer("block_1").get_weights()]
    x, y = vectors(40)
    model.fit(x, y, epochs=1, verbose=0)
    before = block_values(model)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[layerwise.BlockCoordinate(every=100)])
    after = block_values(model)
    assert [same_bits(*pair) for pair in zip(before, after, strict=True)] == [False] + [True] * 3
    assert same_bits(frozen, model.get_layer("block_1").get_weights())
