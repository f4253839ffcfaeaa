"""A Probe in a fit: what it measures, and that training does not notice."""

import keras
import numpy as np
import pytest

import layerwise
from layerwise.diagnostics import QUANTITIES, Step
from tests.helpers import AtBatch, compiled, mlp, normalized_mlp, same_bits, values, vectors

CHEAP = ("interaction", "gauss_seidel", "compounding", "reversals")


def trained(callbacks, epochs=2, optimizer="adam", data=None, **model):
    """Return a model with dropout and batch normalization, fitted with some callbacks."""
    keras.utils.set_random_seed(3)
    model = compiled(normalized_mlp(depth=2, dropout=0.2, **model), optimizer)
    x, y = vectors(40)
    history = model.fit(
        x, y, batch_size=16, epochs=epochs, shuffle=False, callbacks=callbacks, verbose=0
    )
    return model, history


def state(model):
    return values([*model.variables, *model.optimizer.variables])


@pytest.mark.parametrize("data", [None, vectors(8)], ids=["batch", "probe"])
@pytest.mark.parametrize(
    "schedule",
    [None, layerwise.BlockCoordinate, layerwise.GreedyLayerwise],
    ids=["stock", "block", "greedy"],
)
def test_training_does_not_notice(schedule, data):
    with_schedule = [] if schedule is None else [schedule()]
    alone, history = trained(with_schedule, epochs=3)
    for first in (True, False) if schedule is layerwise.BlockCoordinate else (False,):
        probe = layerwise.Probe(CHEAP, every=2, data=data)
        listed = [] if schedule is None else [schedule()]
        listed = [probe, *listed] if first else [*listed, probe]
        probed, probed_history = trained(listed, epochs=3)
        assert same_bits(state(probed), state(alone))
        assert history.history["loss"] == probed_history.history["loss"]
        steps = [0, 2, 4, 6, 8] if data is not None else [2, 4, 6, 8]
        assert sorted(set(probe.frame["step"])) == steps
        assert set(probe.frame["quantity"]) == set(CHEAP)
        assert np.isfinite(probe.frame.query("quantity == 'interaction'")["value"]).all()


def test_the_frame_holds_what_a_step_measures():
    x, y = vectors(8)
    probe = layerwise.Probe(("interaction", "parts"), every=[3], data=(x, y))
    seen = {}

    def measure():
        step = Step(keeper.model, x, y)
        seen["joint"] = step.change(range(len(step.blocks)))

    keeper = AtBatch(0, 2, measure)
    trained([probe, keeper], epochs=1)
    row = probe.frame.query("measure == 'joint'").iloc[0]
    assert row["value"] == seen["joint"] and row["step"] == row["update"] == 3
    assert row["block"] == "all" and row["passes"] == len(set(probe.frame["block"]))
    assert list(probe.frame.columns) == [
        "epoch", "step", "update", "quantity", "block", "other", "measure", "value", "passes",
    ]  # fmt: skip


def test_the_batch_just_trained_is_that_batch():
    probe = layerwise.Probe(("interaction",), every=lambda step: step == 2)
    x, y = vectors(40)
    seen = {}

    def measure():
        step = Step(keeper.model, x[16:32], y[16:32])
        seen["joint"] = step.change(range(len(step.blocks)))

    keeper = AtBatch(0, 1, measure)
    trained([probe, keeper], epochs=1)
    assert probe.frame.query("measure == 'joint'")["value"].item() == seen["joint"]


def test_a_second_fit_compiles_nothing_new():
    x, y = vectors(16)
    schedule, probe = layerwise.BlockCoordinate(), layerwise.Probe(CHEAP, every=3, data=(x, y))
    model = compiled(mlp())
    model.fit(x, y, batch_size=8, epochs=3, callbacks=[schedule, probe], verbose=0)
    traces = dict(schedule.traces)
    model.fit(x, y, batch_size=8, epochs=3, callbacks=[schedule, probe], verbose=0)
    assert dict(schedule.traces) == traces and set(traces.values()) <= {1}
    assert list(dict.fromkeys(probe.frame["step"])) == [0, 3, 6, 9, 12]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="one step per execution there")
def test_several_steps_per_execution_are_counted():
    x, y = vectors(56)
    model = compiled(mlp(), steps_per_execution=3)
    probe = layerwise.Probe(("compounding",), every=4, data=(x, y))
    model.fit(x, y, batch_size=8, epochs=2, callbacks=[probe], verbose=0)  # 3 + 3 + 1 batches
    assert list(dict.fromkeys(probe.frame["step"])) == [0, 6, 10, 13]


def test_a_block_that_goes_to_and_fro_is_seen():
    # One weight, target 0, rate so large that each step crosses the minimum.
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, name="w")])
    for rate, share in ((0.75, 1.0), (0.25, 0.0)):
        model.set_weights([np.array([[1.0]])])
        model.compile(keras.optimizers.SGD(rate), loss="mse")
        one, zero = np.array([[1.0]]), np.array([[0.0]])
        probe = layerwise.Probe(("reversals",), every=1, data=(one, zero))
        model.fit(one, zero, epochs=3, callbacks=[probe], verbose=0)
        assert probe.frame.query("step > 0")["value"].tolist() == [share] * 3


def test_backup_and_resume_are_exact_and_the_frame_goes_on(tmp_path):
    def callbacks(place):
        probe = layerwise.Probe(CHEAP, every=2, data=vectors(8))
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / place))
        return [layerwise.BlockCoordinate(), backup, probe], probe

    whole, probe = callbacks("whole")
    model, _ = trained(whole, epochs=4)
    kept = probe.frame

    def die():
        raise KeyboardInterrupt

    killed, _ = callbacks("killed")
    with pytest.raises(KeyboardInterrupt):
        trained([*killed, AtBatch(2, 1, die)], epochs=4)
    resumed, probe = callbacks("killed")
    again, _ = trained(resumed, epochs=4)
    assert same_bits(state(again), state(model))
    assert probe.frame.equals(kept)


def test_scalars_are_in_the_logs(tmp_path):
    path = tmp_path / "log.csv"
    probe = layerwise.Probe(("interaction", "compounding"), every=1, data=vectors(8))
    _, history = trained([probe, keras.callbacks.CSVLogger(str(path))])
    last = probe.frame.query("measure == 'joint'")["value"].iloc[-1]
    assert history.history["interaction/joint"][-1] == last
    assert "compounding/compounded" in path.read_text().splitlines()[0]


def test_nan_losses_are_rows():
    x, y = vectors(8)
    probe = layerwise.Probe(tuple(QUANTITIES), every=1, data=(x * np.nan, y))
    trained([probe], epochs=1)
    assert probe.frame.query("measure == 'joint'")["value"].isna().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantities": ["interactions"]}, "Did you mean 'interaction'"),
        ({"quantities": [3]}, "name or a function"),
        ({"quantities": []}, "at least one"),
        ({"every": 0}, "every must be"),
        ({"every": "epoch"}, "every must be"),
        ({"every": [-1]}, "every must be"),
        ({"data": vectors(3)[0]}, "data must be"),
    ],
)
def test_bad_arguments_are_said_at_once(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        layerwise.Probe(**arguments)


def test_what_does_not_fit_the_model_is_said_before_training():
    model = compiled(mlp())
    before = values(model.variables)
    x, y = vectors(8)
    for arguments, message in (
        ({"data": (x[:, :5], y)}, r"got \(8, 5\)"),
        ({"data": (x, y[:5])}, "as many examples"),
        ({"blocks": 9}, "blocks"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, callbacks=[layerwise.Probe(**arguments)], verbose=0)
    compiled(model, steps_per_execution=2)
    if keras.backend.backend() != "torch":
        with pytest.raises(ValueError, match="steps_per_execution"):
            model.fit(x, y, callbacks=[layerwise.Probe()], verbose=0)
    assert same_bits(values(model.variables), before)
    with pytest.raises(ValueError, match="not compiled"):
        Step(mlp(), x, y)
    with pytest.raises(TypeError, match=r"keras\.Model"):
        Step(3, x, y)
