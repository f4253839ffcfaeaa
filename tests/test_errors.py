"""Bad input raises before the first step, names the remedy, and has moved nothing."""

import keras
import numpy as np
import pytest

import layerwise
from layerwise import BlockCoordinate, GreedyLayerwise, Simultaneous
from tests import conformance
from tests.helpers import (
    CLASSES,
    FEATURES,
    compiled,
    mlp,
    pooled,
    same_bits,
    update,
    values,
    vectors,
)


def frozen():
    model = mlp()
    model.trainable = False
    return model


def partly_shared():
    """A model whose first layer is used twice."""
    inputs = keras.Input((FEATURES,))
    shared = keras.layers.Dense(FEATURES, name="block_0")
    value = keras.layers.Dense(CLASSES, name="block_1")(shared(shared(inputs)))
    return keras.Model(inputs, value)


def spectral():
    layer = keras.layers.SpectralNormalization(keras.layers.Dense(3), name="spectral")
    return keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(4), layer])


class OwnTrainStep(keras.Sequential):
    def train_step(self, *arguments):
        return super().train_step(*arguments)


def own_train_step():
    return OwnTrainStep([keras.Input((FEATURES,)), *mlp(depth=2).layers])


def two_outputs():
    inputs = keras.Input((FEATURES,))
    value = keras.layers.Dense(4, name="block_0")(inputs)
    return keras.Model(inputs, [keras.layers.Dense(CLASSES)(value) for _ in range(2)])


def unbuilt():
    return keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(CLASSES)])


def assert_raises_and_moves_nothing(model, callbacks, remedy, epochs=4, y=None, error=None):
    x, labels = vectors(16)
    start = values(model.weights)
    counted = []
    count = keras.callbacks.LambdaCallback(on_train_batch_begin=lambda b, logs: counted.append(b))
    with pytest.raises(error or (ValueError, TypeError), match=remedy):
        y = labels if y is None else y
        model.fit(x, y, epochs=epochs, batch_size=4, verbose=0, callbacks=[*callbacks, count])
    assert not counted, "it raised after the first step had begun"
    assert same_bits(start, values(model.weights))


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"order": "backwards"}, "'cyclic', 'reverse', 'shuffled', 'random'.*'backwards'"),
        ({"order": 3}, "order.*3"),
        ({"every": 0}, "every.*positive.*'epoch'.*0"),
        ({"every": -2}, "every.*-2"),
        ({"every": 1.5}, "every.*1.5"),
        ({"every": True}, "every.*True"),
        ({"every": "step"}, "every.*'epoch'.*'step'"),
        ({"sweep_each_batch": True, "every": 2}, "every.*1.*2"),
        ({"sweep_each_batch": True, "every": "epoch"}, "every.*1.*'epoch'"),
        ({"state": "forget"}, "'keep', 'reset' or 'drop'.*'forget'"),
        ({"seed": -1}, "seed.*-1"),
        ({"seed": 0.5}, "seed.*0.5"),
        ({"seed": None}, "seed.*None"),
        ({"always": "block_3"}, r"always.*\['block_3'\]"),
        ({"always": 3}, r"always.*\[3\]"),
        ({"always": None}, r"always.*\[\]"),
        ({"blocks": None}, "blocks.*None"),
    ],
)
def test_arguments_are_checked_at_once(arguments, remedy):
    with pytest.raises((ValueError, TypeError), match=remedy):
        BlockCoordinate(**arguments)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"blocks": "automatic"}, "'auto'.*'layer'"),
        ({"blocks": 0}, "0"),
        ({"blocks": 0}, "blocks is the number of blocks"),
        ({"blocks": -1}, "-1"),
        ({"blocks": 5}, "4"),
        ({"blocks": 1.5}, "1.5"),
        ({"blocks": True}, "True"),
        ({"blocks": []}, "list of layer names"),
        ({"blocks": [["block_0"], ["block_1", "block_2"]]}, "block_3"),
        ({"blocks": [["block_0"], ["block_[0-3]"]]}, "block_0"),
        ({"blocks": [["block_.*"], ["head"]]}, "head.*block_0"),
        ({"blocks": [["block_.*"], []]}, "list of layer names"),
        ({"blocks": [["block_("], ["block_.*"]]}, r"block_\("),
        ({"blocks": [["block_0", 1], ["block_.*"]]}, "1"),
        ({"always": ["block_9"]}, "block_9.*block_0"),
        ({"always": [4]}, "4"),
        ({"always": [-1]}, "-1"),
        ({"always": [1.5]}, "1.5"),
        ({"always": [0, 1, 2, 3]}, "always"),
        ({"order": lambda sweep, n, rng: [0, 1]}, "order.*4"),
        ({"order": lambda sweep, n, rng: [0, 1, 2, 4]}, "order.*0 to 3"),
        ({"order": lambda sweep, n, rng: [0, 1, 2, -1]}, "order.*0 to 3"),
        ({"order": lambda sweep, n, rng: None}, "order"),
        ({"order": lambda sweep, n, rng: [0.0, 1.0, 2.0, 3.0]}, "order"),
    ],
)
def test_arguments_that_do_not_fit_the_model(arguments, remedy):
    model = pooled(mlp, keras.optimizers.Adam)
    assert_raises_and_moves_nothing(model, [BlockCoordinate(**arguments)], remedy)


CANNOT_BE_HONOURED = {
    "nothing trainable": (frozen, keras.optimizers.Adam, "trainable"),
    "own train_step": (own_train_step, keras.optimizers.Adam, "train_step"),
    "weights that change as they run": (spectral, keras.optimizers.Adam, r"\['spectral'\].*rests"),
    "averages": (mlp, lambda: keras.optimizers.Adam(use_ema=True), "use_ema"),
    "accumulation": (
        mlp,
        lambda: keras.optimizers.Adam(gradient_accumulation_steps=2),
        "gradient_accumulation",
    ),
}


@pytest.mark.parametrize("what", CANNOT_BE_HONOURED)
@conformance.every_schedule(lambda case: not case.takes_any_model)
def test_models_and_optimizers_that_a_schedule_cannot_honour(case, what):
    build, optimizer, remedy = CANNOT_BE_HONOURED[what]
    assert_raises_and_moves_nothing(
        pooled(build, optimizer), [case.make()], remedy, epochs=case.epochs
    )


@pytest.mark.parametrize("make", [BlockCoordinate, GreedyLayerwise])
def test_a_loss_scale_does_not_hide_what_cannot_be_honoured(make):
    inner = keras.optimizers.Adam(use_ema=True)
    model = compiled(mlp(), keras.optimizers.LossScaleOptimizer(inner))
    assert_raises_and_moves_nothing(model, [make()], "use_ema")


def test_what_no_schedule_can_honour_is_said_before_what_another_could():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.block = keras.layers.Dense(CLASSES)

        def call(self, inputs):
            return self.block(inputs)

    model = compiled(Subclassed(), keras.optimizers.Adam(use_ema=True))
    model(np.zeros((1, FEATURES), "float32"))
    assert_raises_and_moves_nothing(model, [GreedyLayerwise()], "use_ema")


@pytest.mark.parametrize("make", [BlockCoordinate, GreedyLayerwise])
def test_a_model_that_is_not_built_and_has_no_data_to_be_built_from(make):
    model = compiled(unbuilt(), "adam")
    with pytest.raises(ValueError, match="Input"):
        make().build(model)


@conformance.every_schedule()
def test_a_model_that_is_not_compiled(case):
    with pytest.raises(ValueError, match="compile"):
        mlp().fit(*vectors(16), epochs=case.epochs, verbose=0, callbacks=[case.make()])


@conformance.every_schedule()
def test_two_schedules_in_one_fit(case):
    schedule = case.make()
    for pair in ([schedule, schedule], [schedule, BlockCoordinate()], [Simultaneous(), schedule]):
        model = pooled(mlp, keras.optimizers.Adam)
        assert_raises_and_moves_nothing(model, pair, "(?i)one schedule", epochs=case.epochs)


@conformance.every_schedule(lambda case: case.takes_any_model)
def test_a_schedule_that_installs_nothing_takes_what_fit_takes(case):
    for model in (own_train_step(), unbuilt()):
        compiled(model, keras.optimizers.Adam(use_ema=True))
        model.fit(*vectors(16), verbose=0, callbacks=[case.make()])


@conformance.every_schedule(lambda case: case.has_stages)
def test_several_outputs_have_no_head_that_stands_in_for_them(case):
    model = two_outputs()
    model.compile("adam", "mse")
    y = [np.zeros((16, CLASSES), "float32")] * 2
    assert_raises_and_moves_nothing(model, [case.make()], "BlockCoordinate", y=y)


class Penalty(keras.layers.Layer):
    """Hands its input on and adds a loss."""

    def call(self, inputs):
        self.add_loss(keras.ops.mean(inputs**2))
        return inputs


def test_stages_need_a_compiled_loss():
    inputs = keras.Input((FEATURES,))
    value = keras.layers.Dense(CLASSES)(keras.layers.Dense(4)(inputs))
    model = keras.Model(inputs, Penalty()(value))
    model.compile("sgd")
    remedy = r"compiled without one.*compile\(loss=\.\.\.\)"
    assert_raises_and_moves_nothing(model, [GreedyLayerwise()], remedy)


def test_a_layer_used_twice_is_in_the_first_block_that_uses_it():
    model = compiled(partly_shared(), "sgd")
    schedule = BlockCoordinate(blocks="layer")
    model.fit(*vectors(16), verbose=0, callbacks=[schedule])
    assert [block.name for block in schedule.blocks] == ["block_0", "block_1"]


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="the other backends have it")
@pytest.mark.parametrize("make", [BlockCoordinate, GreedyLayerwise])
def test_several_steps_per_execution_on_torch(make):
    model = compiled(mlp(), "adam", steps_per_execution=2)
    assert_raises_and_moves_nothing(model, [make()], "steps_per_execution")


def test_an_unknown_state_of_a_schedule_before_fit_is_said():
    schedule = BlockCoordinate()
    for ask in (schedule.optimizer_state_bytes, lambda: schedule.updates(0, 0)):
        with pytest.raises((ValueError, TypeError), match="fit"):
            ask()


@pytest.mark.parametrize(
    "found",
    [
        (),
        None,
        layerwise.Update((0,)),
        ([0],),
        (layerwise.Update((4,)),),
        (layerwise.Update((-1,)),),
        (update((0,), head=0),),
    ],
    ids=str,
)
def test_a_schedule_whose_updates_are_wrong_raises_before_the_first_step(found):
    class Wrong(layerwise.Schedule):
        def updates(self, epoch, step):
            return found

    model = pooled(mlp, keras.optimizers.Adam)
    assert_raises_and_moves_nothing(model, [Wrong()], "(?i)update")


@pytest.mark.parametrize("blocks", [(), [0], 0, ("a",), (1, 0), (0, 0)], ids=str)
def test_an_update_of_what_are_no_ascending_indices_cannot_be_made(blocks):
    with pytest.raises(ValueError, match="ascending indices"):
        layerwise.Update(blocks)


@pytest.mark.parametrize("state", ["reset", "drop"])
def test_the_models_own_step_has_no_state_by_block(state):
    class Mixed(layerwise.Schedule):
        def updates(self, epoch, step):
            return (layerwise.Update((1,)), layerwise.Update(None))

    model = pooled(mlp, keras.optimizers.Adam)
    assert_raises_and_moves_nothing(model, [Mixed(state=state)], "state='keep'")


def test_greedy_without_data_or_with_a_head_that_gives_no_tensor():
    model, (x, y) = compiled(mlp(), "adam"), vectors(16)
    with pytest.raises(TypeError, match="x is the data"):
        GreedyLayerwise().fit(model, epochs=4)
    with pytest.raises(ValueError, match="must return a Keras tensor, got 3"):
        GreedyLayerwise(head=lambda features: 3).fit(model, x, y, epochs=4)


def test_flops_of_blocks_that_are_not_there():
    schedule = BlockCoordinate()
    compiled(mlp(), "adam").fit(*vectors(16), verbose=0, callbacks=[schedule])
    with pytest.raises(ValueError, match="from 0 to 3"):
        schedule.flops(layerwise.Update((99,)), *vectors(4))
    with pytest.raises(TypeError, match="an Update or a Look"):
        schedule.flops((0,), *vectors(4))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("compiles", [True, False])
def test_changing_what_is_trainable_between_two_fits_of_one_schedule_is_said(first, compiles):
    model = mlp()
    model.get_layer("block_0").trainable = first
    compiled(model, "adam").fit(*vectors(16), verbose=0, callbacks=[schedule := BlockCoordinate()])
    model.get_layer("block_0").trainable = not first
    if compiles:
        compiled(model, "adam")
    assert_raises_and_moves_nothing(model, [schedule], "block_0/kernel.*new schedule")


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="stock fit fails there, too")
@pytest.mark.parametrize("batch", [1, 3], ids=["within an epoch", "at its end"])
def test_a_callback_that_takes_the_schedule_off_is_told_at_the_end_of_the_epoch(batch):
    x, y = vectors(16)
    model = compiled(mlp(), "adam")

    def train(number, logs):
        if number == batch:
            model.train_on_batch(x[:4], y[:4])

    callbacks = [BlockCoordinate(), keras.callbacks.LambdaCallback(on_train_batch_end=train)]
    with pytest.raises(RuntimeError, match="removed from the running fit"):
        model.fit(x, y, batch_size=4, verbose=0, callbacks=callbacks)


def test_changing_what_is_trainable_after_compile_is_said():
    model = compiled(mlp(), "adam")
    model.fit(*vectors(16), verbose=0)
    model.get_layer("block_0").trainable = False
    model.fit(*vectors(16), verbose=0, callbacks=[schedule := BlockCoordinate()])
    assert [block.name for block in schedule.blocks] == ["block_1", "block_2", "block_3"]
    model = mlp()
    model.get_layer("block_0").trainable = False
    compiled(model, "adam").fit(*vectors(16), verbose=0)
    model.get_layer("block_0").trainable = True
    assert_raises_and_moves_nothing(model, [BlockCoordinate()], "compile")
