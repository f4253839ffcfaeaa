"""A Probe in a fit: what it measures, and that training does not notice."""

import functools

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from layerwise.diagnostics import QUANTITIES, Step, sharpness
from tests.helpers import (
    AtBatch,
    Counts,
    compiled,
    mlp,
    normalized_mlp,
    pooled,
    same_bits,
    values,
    vectors,
)

CHEAP = ("interaction", "gauss_seidel", "compounding", "reversals")


def build():
    """Return a model with dropout and batch normalization."""
    return normalized_mlp(depth=2, dropout=0.2)


def trained(callbacks, epochs=2):
    """Return the model, as it was at its start and then fitted with some callbacks, and the history."""
    model = pooled(build, keras.optimizers.Adam)
    keras.utils.set_random_seed(3)
    x, y = vectors(48)
    history = model.fit(
        x, y, batch_size=16, epochs=epochs, shuffle=False, callbacks=callbacks, verbose=0
    )
    return model, history


def state(model):
    return values([*model.variables, *model.optimizer.variables])


@pytest.mark.thorough
@pytest.mark.parametrize("data", [None, vectors(8)], ids=["batch", "probe"])
@pytest.mark.parametrize(
    "schedule",
    [None, layerwise.BlockCoordinate, layerwise.GreedyLayerwise],
    ids=["stock", "block", "greedy"],
)
def test_training_does_not_notice(schedule, data):
    with_schedule = [] if schedule is None else [schedule()]
    model, history = trained(with_schedule, epochs=3)
    alone = state(model)
    quantities = CHEAP if schedule else (*CHEAP, "gradient_noise")  # which draws masks
    probe = layerwise.Probe(quantities, every=2, data=data)
    listed = [] if schedule is None else [schedule()]
    listed = [probe, *listed] if data is None else [*listed, probe]
    probed, probed_history = trained(listed, epochs=3)
    assert same_bits(state(probed), alone)
    assert history.history["loss"] == probed_history.history["loss"]
    steps = [0, 2, 4, 6, 8] if data is not None else [2, 4, 6, 8]
    assert sorted(set(probe.frame["step"])) == steps
    assert set(probe.frame["quantity"]) == set(quantities)
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
    x, y = vectors(48)
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


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="nothing is compiled there")
def test_a_second_fit_without_a_schedule_traces_nothing():
    counts = Counts()
    model = compiled(normalized_mlp(depth=1, first=counts), "adam")
    x, y = vectors(16)
    calls = None
    for data in (None, (x[:8], y[:8])):
        probe = layerwise.Probe(CHEAP, every=2, data=data)
        model.fit(x, y, batch_size=8, epochs=2, callbacks=[probe], verbose=0)
        # All that there is to trace: the second Probe's batch has the shape of the first one's.
        calls = calls or counts.calls
        model.fit(x, y, batch_size=8, epochs=2, callbacks=[probe], verbose=0)
        assert counts.calls == calls


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="one step per execution there")
def test_several_steps_per_execution_are_counted():
    x, y = vectors(56)
    model = compiled(mlp(), steps_per_execution=3)
    probe = layerwise.Probe(("compounding",), every=4, data=(x, y))
    model.fit(x, y, batch_size=8, epochs=2, callbacks=[probe], verbose=0)  # 3 + 3 + 1 batches
    assert list(dict.fromkeys(probe.frame["step"])) == [0, 6, 10, 13]


def accumulating():
    return keras.optimizers.SGD(gradient_accumulation_steps=2)


@pytest.mark.parametrize("schedule", [None, layerwise.Simultaneous])
def test_steps_that_accumulate_gradients_are_no_updates(schedule):
    model = pooled(build, accumulating)
    x, y = vectors(40)
    model.fit(x[:8], y[:8], verbose=0)
    probe = layerwise.Probe(("interaction",), every=1, data=(x[:8], y[:8]))
    listed = [probe] if schedule is None else [schedule(), probe]
    model.fit(x, y, batch_size=8, callbacks=listed, verbose=0)
    found = probe.frame.drop_duplicates("step")[["step", "update"]].to_numpy().tolist()
    assert found == [[0, 0], [1, 1], [2, 1], [3, 2], [4, 2], [5, 3]]


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


@pytest.mark.thorough
def test_backup_and_resume_are_exact_and_the_frame_goes_on(tmp_path):
    x, y = vectors(48)

    def killed_or_resumed(*more):
        # Models of their own: a BackupAndRestore leaves its epoch on the model that it restores.
        model, probe = compiled(build(), "adam"), layerwise.Probe(CHEAP, every=2, data=vectors(8))
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        listed = [backup, layerwise.BlockCoordinate(), probe]
        # The order does not matter: it is another one when the fit goes on.
        listed = [*listed, *more] if more else listed[::-1]
        keras.utils.set_random_seed(3)
        model.fit(x, y, batch_size=16, epochs=4, shuffle=False, callbacks=listed, verbose=0)
        return model, probe

    def die():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed_or_resumed(AtBatch(2, 1, die))
    resumed, probe = killed_or_resumed()
    alone = layerwise.Probe(CHEAP, every=2, data=vectors(8))
    model, _ = trained([layerwise.BlockCoordinate(), alone], epochs=4)
    assert same_bits(state(resumed), state(model))
    assert probe.frame.equals(alone.frame)


def test_scalars_are_in_the_logs_wherever_the_probe_is(tmp_path):
    path = tmp_path / "log.csv"
    kept = pd.DataFrame({"nothing": [1.0]})
    # Nothing is due in the first epoch of three steps; a file of CSVLogger has the columns of that.
    probe = layerwise.Probe(("interaction", "compounding"), every=[5], data=vectors(8))
    other = layerwise.Probe(("interaction", lambda step: kept), every=[5], data=vectors(8))
    _, history = trained([keras.callbacks.CSVLogger(str(path)), probe, other])
    last = probe.frame.query("measure == 'joint'")["value"].item()
    first, second = history.history["interaction/joint"]
    assert np.isnan(first) and second == last == history.history["probe_1/interaction/joint"][-1]
    rows = pd.read_csv(path)
    assert rows["interaction/joint"].iloc[-1] == pytest.approx(last)
    assert rows["compounding/compounded"].isna().tolist() == [True, False]
    assert history.history["probe_1/<lambda>/nothing"] == [1.0]


# A stage's model takes a list of inputs, where this test gives the one.
@pytest.mark.filterwarnings("ignore:(?s).*The structure of `inputs`:UserWarning")
def test_the_stages_own_loss_is_probed_under_greedy():
    x, y = vectors(48)
    schedule, seen = layerwise.GreedyLayerwise(), []

    def stage(step):
        # What the stage predicts through its head; this net has no dropout.
        seen.append((step.loss, step.names, schedule.predict_on_batch(x)))
        return pd.DataFrame({"loss": [step.loss]})

    model = pooled(mlp, keras.optimizers.Adam)
    probe = layerwise.Probe((stage,), every=5, data=(x, y))
    model.fit(x, y, batch_size=8, epochs=4, callbacks=[schedule, probe], verbose=0)
    assert [names for _, names, _ in seen][:2] == [["block_0", "head_after_block_0"]] * 2
    for loss, _, logits in seen:
        expected = keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)
        assert loss == pytest.approx(float(np.mean(keras.ops.convert_to_numpy(expected))), rel=1e-5)
    assert len(seen) == 5 and seen[-1][1] == ["block_3"]


def test_nan_losses_are_rows():
    x, y = vectors(8)
    probe = layerwise.Probe(tuple(QUANTITIES), every=1, data=(x * np.nan, y))
    trained([probe], epochs=1)
    assert probe.frame.query("measure == 'joint'")["value"].isna().all()
    assert set(probe.frame["quantity"]) == set(QUANTITIES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantities": ["interactions"]}, "Did you mean 'interaction'"),
        ({"quantities": [3]}, "name or a function"),
        ({"quantities": 3}, "name or a function"),
        ({"quantities": [functools.partial(sharpness, radii=[r]) for r in (1, 2)]}, "'sharpness'"),
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
        ({"chunk_size": 0, "data": (x, y)}, "chunk_size must be"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(x, y, callbacks=[layerwise.Probe(**arguments)], verbose=0)
    compiled(model, steps_per_execution=2)
    if keras.backend.backend() != "torch":
        with pytest.raises(ValueError, match="steps_per_execution"):
            model.fit(x, y, callbacks=[layerwise.Probe()], verbose=0)
        with pytest.raises(ValueError, match="weights before each step"):
            model.fit(x, y, callbacks=[layerwise.Probe("reversals", data=(x, y))], verbose=0)
    assert same_bits(values(model.variables), before)
    with pytest.raises(ValueError, match="not compiled"):
        Step(mlp(), x, y)
    with pytest.raises(TypeError, match=r"keras\.Model"):
        Step(3, x, y)
    with pytest.raises(ValueError, match="not built"):
        Step(compiled(keras.Sequential([keras.layers.Dense(3)])), x, y)


def test_the_same_probe_twice_is_refused_and_twice_a_fit_goes_on():
    x, y = vectors(16)
    model, probe = pooled(mlp, keras.optimizers.Adam), layerwise.Probe(("parts",), 2, data=(x, y))
    with pytest.raises(ValueError, match="twice in callbacks"):
        model.fit(x, y, callbacks=[probe, probe], verbose=0)
    for _ in range(2):
        model.fit(x, y, batch_size=8, callbacks=[probe], verbose=0)
    assert list(dict.fromkeys(probe.frame["step"])) == [0, 2, 4]
    other = pooled(mlp, keras.optimizers.Adam, twin=True)
    other.fit(x, y, batch_size=8, callbacks=[probe], verbose=0)
    assert list(dict.fromkeys(probe.frame["step"])) == [0, 2]


def test_a_quantity_that_gives_no_numbers_is_named():
    x, y = vectors(16)
    model = pooled(mlp, keras.optimizers.Adam)
    for found, message in ((3, "returned int"), (pd.DataFrame({"a": ["b"]}), r"others in \['a'\]")):
        probe = layerwise.Probe((lambda step, found=found: found,), 1, data=(x, y))
        with pytest.raises(TypeError, match=message):
            model.fit(x, y, callbacks=[probe], verbose=0)


def test_after_an_interrupted_fit_the_model_is_stock_and_a_saved_one_loads(tmp_path):
    x, y = vectors(16)
    model, probe = pooled(mlp, keras.optimizers.Adam), layerwise.Probe(("parts",), every=1)
    keras.utils.set_random_seed(0)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    alone, model = state(model), pooled(mlp, keras.optimizers.Adam)

    def die():
        raise KeyboardInterrupt

    save = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            x, y, batch_size=8, epochs=2, callbacks=[probe, save, AtBatch(1, 0, die)], verbose=0
        )
    model.save(tmp_path / "after.keras")
    for name in ("1", "after"):
        again = keras.models.load_model(tmp_path / f"{name}.keras")
        assert np.isfinite(again.predict(x, verbose=0)).all()
    model = pooled(mlp, keras.optimizers.Adam)
    keras.utils.set_random_seed(0)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert same_bits(state(model), alone)


def test_every_is_asked_once_a_step_so_that_it_may_be_of_chance():
    (x, y), asked, answers = vectors(48), [], {}

    def every(step):
        asked.append(step)
        return answers.setdefault(len(asked), len(asked) in (2, 5))  # true at one call in some

    model, probe = pooled(mlp, keras.optimizers.Adam), layerwise.Probe(("parts",), every=every)
    model.fit(x, y, batch_size=8, callbacks=[probe], verbose=0)
    assert asked == [1, 2, 3, 4, 5, 6]
    assert list(dict.fromkeys(probe.frame["step"])) == [2, 5]


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="one step an execution")
def test_steps_that_an_execution_lacks_at_the_end_of_an_epoch_are_asked_about_once_too():
    (x, y), asked = vectors(40), []
    model = compiled(mlp(), steps_per_execution=4)
    probe = layerwise.Probe(
        ("parts",), lambda step: asked.append(step) or step == 7, (x[:8], y[:8])
    )
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=[probe], verbose=0)
    # The executions hold steps 1 to 4, 5 of 5 to 8, 6 to 9, and 10 of 10 to 13; 0 is asked about with data.
    assert asked == [*range(14)] and set(probe.frame["step"]) == {9}
