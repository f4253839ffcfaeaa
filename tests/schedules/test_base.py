"""What every schedule inherits: its config."""

import keras
import numpy as np
import pytest

import layerwise
from tests.helpers import compiled, mlp, same_bits, values, vectors


class Private(layerwise.Schedule):
    """Keeps an argument under another name."""

    def __init__(self, period=2, blocks="auto"):
        super().__init__(blocks=blocks)
        self._period = period

    def updates(self, epoch, step):
        return (layerwise.Update((step // self._period % len(self.blocks),)),)


class Passes(layerwise.Schedule):
    """Hands on what it does not know."""

    def __init__(self, period=2, **arguments):
        super().__init__(**arguments)
        self.period = period

    def updates(self, epoch, step):
        return (layerwise.Update((step // self.period % len(self.blocks),)),)


def test_an_argument_that_is_kept_privately_is_named_before_training():
    model = compiled(mlp())
    before = values(model.weights)
    with pytest.raises(TypeError, match=r"takes the argument 'period'.*self\.period = period"):
        model.fit(*vectors(8), verbose=0, callbacks=[Private(3)])
    assert same_bits(before, values(model.weights))
    with pytest.raises(TypeError, match="'period'"):
        Private(3).get_config()
    with pytest.raises(TypeError, match="'period'"):
        layerwise.compare(
            mlp,
            layerwise.Data(vectors(64), vectors(8, 1), vectors(8, 2)),
            {"private": Private},
            learning_rates=(0.1,),
            verbose=0,
        )


def test_arguments_that_are_handed_on_are_part_of_the_config():
    schedule = Passes(3, state="reset", seed=4)
    config = schedule.get_config()
    assert config["period"] == 3
    assert config["state"] == "reset"
    assert config["seed"] == 4
    assert Passes.from_config(config).get_config() == config
    compiled(mlp()).fit(*vectors(8), verbose=0, callbacks=[schedule])


def test_repr_shows_what_was_given():
    assert repr(layerwise.BlockCoordinate()) == "BlockCoordinate()"
    assert repr(layerwise.BlockCoordinate(every=3)) == "BlockCoordinate(every=3)"
    assert repr(Passes(seed=2)) == "Passes(seed=2)"


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="torch compiles nothing")
@pytest.mark.parametrize("verbose", [0, 2])
def test_what_an_epoch_compiles_is_said_before_it(verbose, capsys):
    schedule = layerwise.BlockCoordinate(order="reverse", every=8)
    keras.config.enable_interactive_logging()
    compiled(mlp(depth=3)).fit(
        *vectors(40), batch_size=8, epochs=4, verbose=verbose, callbacks=[schedule]
    )
    said = [line for line in capsys.readouterr().out.splitlines() if "layerwise" in line]
    second = "layerwise: this epoch compiles 1 program, for block_1"
    third = "layerwise: this epoch compiles 1 program, for block_0"
    assert said == ([second, third] if verbose else [])


@pytest.mark.parametrize(
    "make",
    [
        lambda: layerwise.BlockCoordinate(every=np.int64(2)),
        lambda: layerwise.GreedyLayerwise(epochs_per_block=[np.int64(1)] * 4),
        lambda: layerwise.BlockCoordinate(always=[np.int64(0)]),
    ],
)
def test_integers_of_numpy_are_saved_like_others(make, tmp_path):
    model = compiled(mlp(), "sgd")
    x, y = vectors(16)
    saving = keras.callbacks.ModelCheckpoint(str(tmp_path / "model.keras"))
    n = len(layerwise.partition(model))
    model.fit(x, y, epochs=n, batch_size=8, verbose=0, callbacks=[make(), saving])
    assert (tmp_path / "model.keras").exists()
