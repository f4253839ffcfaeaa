"""Which blocks move at which step, and that the others keep every bit."""

import keras
import pytest

import layerwise
from tests.helpers import Snapshots, block_values, compiled, mlp, normalized_mlp, same_bits, vectors

DEPTH, BATCHES = 4, 5


def moved(schedule, epochs=4, model=None, optimizer="sgd", **arguments):
    """Train on five batches an epoch and return the blocks that changed at each batch."""
    model = compiled(mlp(DEPTH) if model is None else model, optimizer, **arguments)
    x, y = vectors(40)
    snapshots = Snapshots()
    model.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=[schedule, snapshots])
    return snapshots.moved()


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
    assert moved(schedule) == visits_of(sequence, every, 4 * BATCHES)


def test_a_visit_of_an_epoch():
    schedule = layerwise.BlockCoordinate(order="reverse", every="epoch")
    assert moved(schedule, epochs=6) == visits_of([3, 2, 1, 0], BATCHES, 6 * BATCHES)


@pytest.mark.parametrize("every", [1, 2])
def test_a_shuffled_order_is_a_fresh_permutation_each_sweep(every):
    steps = moved(layerwise.BlockCoordinate(order="shuffled", every=every, seed=5), epochs=8)
    visits = steps[::every]
    assert steps == [visit for visit in visits for _ in range(every)]
    sweeps = [tuple(visits[k : k + DEPTH]) for k in range(0, len(visits), DEPTH)]
    assert all(sorted(sweep) == [(0,), (1,), (2,), (3,)] for sweep in sweeps)
    assert len(set(sweeps)) > 1


def test_a_random_order_draws_with_replacement():
    steps = moved(layerwise.BlockCoordinate(order="random", seed=1), epochs=12)
    assert {block for step in steps for block in step} == set(range(DEPTH))
    sweeps = [steps[k : k + DEPTH] for k in range(0, len(steps), DEPTH)]
    assert any(len(set(sweep)) < DEPTH for sweep in sweeps)


@pytest.mark.parametrize("order", ["shuffled", "random"])
def test_orders_depend_on_the_seed_alone(order):
    def steps(seed, global_seed):
        keras.utils.set_random_seed(global_seed)
        return moved(layerwise.BlockCoordinate(order=order, seed=seed), epochs=8)

    assert steps(1, global_seed=1) == steps(1, global_seed=2)
    assert steps(1, global_seed=1) != steps(2, global_seed=1)


def test_a_callable_order_is_asked_once_a_sweep_with_its_own_generator():
    asked = []

    def inside_out(sweep, n, rng):
        asked.append((sweep, n, float(rng.random())))
        return [1, 2, 0, 3] if sweep % 2 else [2, 1, 3, 0]

    steps = moved(layerwise.BlockCoordinate(order=inside_out))
    assert steps == [(k,) for k in [2, 1, 3, 0, 1, 2, 0, 3] * 3][:20]
    assert {(sweep, n) for sweep, n, _ in asked} >= {(sweep, 4) for sweep in range(5)}
    draws = {sweep: draw for sweep, _, draw in asked}
    assert len(set(draws.values())) == len(draws), "each sweep has its own random numbers"
    assert len({(sweep, draw) for sweep, _, draw in asked}) == len(draws), "and always the same"


@pytest.mark.parametrize("always", [(3,), ("block_3",), ["block_3"]])
def test_blocks_that_always_move_have_no_turn(always):
    steps = moved(layerwise.BlockCoordinate(always=always))
    assert steps == [(*turn, 3) for turn in visits_of([0, 1, 2], 1, 20)]


def test_two_blocks_that_always_move_and_visits_of_two_steps():
    steps = moved(layerwise.BlockCoordinate(always=("block_0", 2), every=2, order="reverse"))
    assert steps == [tuple(sorted({0, 2, *turn})) for turn in visits_of([3, 1], 2, 20)]


@pytest.mark.parametrize("order", ["cyclic", "reverse", "shuffled"])
def test_a_sweep_on_each_batch_moves_every_block(order):
    schedule = layerwise.BlockCoordinate(order=order, sweep_each_batch=True)
    assert moved(schedule, epochs=2) == [(0, 1, 2, 3)] * 10
    assert int(schedule.model.optimizer.iterations) == 40


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.2),
        lambda: keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1),
        lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.01),
        lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, clipnorm=0.1),
        lambda: keras.optimizers.Nadam(0.01, weight_decay=0.1),
        lambda: keras.optimizers.Lion(0.001, weight_decay=0.1),
        lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    ],
    ids=["adamw", "momentum", "global_clipnorm", "rmsprop", "nadam", "lion", "amsgrad"],
)
def test_standing_blocks_keep_every_bit(optimizer):
    # A constraint would project a block that stands still too, if it were applied to it: the
    # kernels start outside of it.
    model = mlp(DEPTH, kernel_constraint=keras.constraints.MaxNorm(0.2), kernel_regularizer="l2")
    steps = moved(layerwise.BlockCoordinate(), model=model, optimizer=optimizer())
    assert steps == visits_of([0, 1, 2, 3], 1, 20)


def test_standing_blocks_keep_their_normalization_weights_but_not_its_statistics():
    model = normalized_mlp(depth=3)
    statistics = model.get_layer("normalization_2").moving_mean
    before = keras.ops.convert_to_numpy(statistics).copy()
    steps = moved(layerwise.BlockCoordinate(every=20), model=model, optimizer="adamw")
    assert steps == [(0,)] * 20
    assert not same_bits([before], [keras.ops.convert_to_numpy(statistics)])


def test_variables_that_are_not_trainable_stay_in_every_schedule():
    model = mlp(DEPTH)
    model.get_layer("block_1").trainable = False
    before = [value.copy() for value in model.get_layer("block_1").get_weights()]
    moved_blocks = {
        block for step in moved(layerwise.BlockCoordinate(), model=model) for block in step
    }
    assert same_bits(before, model.get_layer("block_1").get_weights())
    assert len(moved_blocks) == DEPTH - 1


def test_groups_of_layers_move_together():
    blocks = [["block_0", "block_2"], ["block_[13]"]]
    assert moved(layerwise.BlockCoordinate(blocks=blocks), epochs=1) == [
        (0, 2),
        (1, 3),
        (0, 2),
        (1, 3),
        (0, 2),
    ]


def test_one_block_in_a_row_of_fits_without_a_schedule_moves_nothing_else():
    model = compiled(mlp(DEPTH), "adamw")
    x, y = vectors(40)
    model.fit(x, y, epochs=1, verbose=0)
    before = block_values(model)
    model.fit(x, y, epochs=1, verbose=0, callbacks=[layerwise.BlockCoordinate(every=100)])
    after = block_values(model)
    assert [same_bits(*pair) for pair in zip(before, after, strict=True)] == [False] + [True] * 3
