"""The cost experiment on tiny networks: what is timed is what is meant, and tables and figures hold it."""

import argparse
import functools
import importlib.util
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

import layerwise
from experiments.cost import (
    answer,
    baselines,
    command,
    devices,
    figures,
    greedy,
    memory,
    programs,
    steps,
    switches,
    tables,
    timing,
)
from experiments.cost.networks import Network, convnet, dense, transformer
from experiments.cost.recompile import Recompiling
from experiments.cost.settings import Settings, settings
from experiments.cost.timing import Planned, Training

TORCH = keras.backend.backend() == "torch"
SMALL = Network("dense", functools.partial(dense, 3, 64), batch_size=256, steps=3)
TINY = Settings(
    networks=(SMALL,),
    repetitions=2,
    many=functools.partial(dense, width=4),
    counts=(2, 3),
    shared_counts=(3,),
    max_programs=2,
    memory=(),
    greedy=SMALL,
    stage_epochs=1,
    baseline=SMALL,
    visits=(1, 2),
)


def frame(rows):
    return pd.DataFrame(rows).reindex(columns=tables.COLUMNS)


@functools.cache
def measured_rows(part):
    """The rows of one part, measured once for all tests."""
    if part == "memory":
        return [row for variant in memory.VARIANTS for row in memory.of_network(SMALL, variant)]
    return {"steps": steps, "switches": switches, "programs": programs, "greedy": greedy}[
        part
    ].measure(TINY)


def weights(model):
    return [np.array(w) for w in model.get_weights()]


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_scale_measures_the_networks_of_the_question(scale, device):
    chosen = settings(scale, device)
    assert chosen.repetitions >= 3
    assert {"convnet", "transformer"} < {network.name for network in chosen.networks}
    if scale == "full":
        assert max(chosen.shared_counts) == 200
        assert "ResNet50" in {network.name for network in chosen.memory}


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
    assert len(training.epochs()) == 1


def test_a_plan_moves_its_blocks():
    training = Training(SMALL)
    schedule = Planned([2, "cyclic", 0])
    training.epochs(schedule, 3)
    names = [blocks[0] for blocks in schedule.visits["blocks"]]
    assert names == ["dense2", "dense1", "dense2", "dense0", "dense1", "dense0"]
    before = weights(training.model)
    training.epochs(schedule)  # goes on with the plan: block 2
    after = weights(training.model)
    assert [bool((a != b).any()) for a, b in zip(before, after, strict=True)] == [False] * 4 + [
        True
    ] * 2


def test_the_summary_is_the_median_and_the_quartiles():
    found = timing.summary([5.0, 1.0, 4.0, 2.0, 3.0])
    assert found == {"value": 3.0, "low": 2.0, "high": 4.0, "repetitions": 5}


def test_steps_have_the_limit_of_their_products():
    rows = frame(measured_rows("steps"))
    limits = rows[rows["quantity"] == "FLOP ratio"].set_index("block")["value"]
    depth = 3
    for block in range(depth):
        # of a layer's three products: all forward ones, those for inputs above the block, one for weights
        expected = (depth + (depth - 1 - block) + 1) / (3 * depth - 1)
        assert limits[block] == pytest.approx(expected, abs=0.04)
    ratios = rows[rows["quantity"] == "step ratio"]
    assert set(ratios["block"]) == {0, 1, 2, "mean", "cyclic"}
    assert (ratios["low"] <= ratios["value"]).all() and (ratios["value"] <= ratios["high"]).all()
    assert (ratios["value"] > 0).all() and (ratios["repetitions"] == 2).all()


def test_switches_of_each_state_and_of_compile():
    rows = frame(measured_rows("switches"))
    switched = rows[rows["quantity"] == "switch"]
    assert list(switched["variant"]) == ["keep", "reset", "drop", "trainable and compile"]
    taken = switched.set_index("variant")["value"]
    assert 0 < taken["keep"] < taken["reset"] < taken["trainable and compile"]
    total = rows[rows["quantity"] == "step with a switch"].set_index("variant")["value"]
    assert (total > 0).all()


def test_programs_are_one_a_block_or_as_many_as_asked_for():
    rows = frame(measured_rows("programs"))
    counts = rows[rows["quantity"] == "programs"].set_index(["n_blocks", "variant"])["value"]
    one_each, shared = "a program for each block", "max_programs=2"
    expected = {(2, one_each): 2, (3, one_each): 3, (3, shared): 2}
    for key, number in expected.items():
        assert counts[key] == (0 if TORCH else number)  # torch runs eagerly
    assert (rows[rows["quantity"] == "compile"]["value"] > 0).all()


@pytest.mark.parametrize("variant", memory.VARIANTS)
def test_optimizer_state_is_that_of_the_blocks_that_hold_it(variant):
    rows = frame(measured_rows("memory"))
    found = rows[rows["variant"] == variant].set_index("quantity")["value"]
    block = 4 * (64 * 64 + 64)
    assert found["largest block"] == block and found["weights"] == 3 * block
    assert found["optimizer state"] == 2 * (block if variant == "drop" else 3 * block)


@pytest.mark.skipif(not TORCH, reason="only torch shows what it saves")
def test_saved_activations_are_the_inputs_of_what_is_differentiated():
    saved = frame(memory.saved_activations(SMALL)).set_index("block")["value"]
    assert saved[0] > saved[1] > saved[2]
    activation = 256 * 64 * 4
    assert saved[0] - saved[1] == activation


def test_greedy_runs_with_each_cache():
    rows = frame(measured_rows("greedy"))
    ratios = rows[rows["quantity"] == "run over a simultaneous run"].set_index("variant")["value"]
    assert list(ratios.index) == ["simultaneous", *greedy.CACHES]
    assert ratios["simultaneous"] == 1 and (ratios > 0).all()


def test_the_masked_gradient_is_the_same_step():
    ours, masked = Training(SMALL, steps=6), Training(SMALL, steps=6)
    masked.model.set_weights(ours.model.get_weights())
    for training in (ours, masked):
        training.model.compile(keras.optimizers.SGD(0.1), loss=training.model.loss)
    baselines._mask_gradients(masked.model, layerwise.partition(masked.model), every=2)
    ours.epochs(layerwise.BlockCoordinate(every=2))
    masked.epochs()
    for a, b in zip(weights(ours.model), weights(masked.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_recompiling_moves_one_block_and_is_undone():
    training = Training(SMALL)
    way = Recompiling(training, layerwise.partition(training.model))
    before = weights(training.model)
    way.switch(1)
    training.model.train_on_batch(*training.batch())
    moved = [bool((a != b).any()) for a, b in zip(before, weights(training.model), strict=True)]
    assert moved == [False, False, True, True, False, False]
    way.undo()
    assert len(training.model.trainable_variables) == 6


@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("torch", "badam"))), reason="badam is not installed"
)
@pytest.mark.parametrize("every", [1, 2])
def test_badam_makes_the_same_visits(every):
    from experiments.cost.badam import Badam

    badam = Badam([64] * 4, 256, 3 * every, every)
    batches, moved = badam.batches, []
    for batch in batches[: 3 * every]:
        before = [p.detach().clone() for p in badam.network.parameters()]
        badam.step(*batch)
        after = badam.network.parameters()
        moved.append([bool((a != b).any()) for a, b in zip(before, after, strict=True)])
    blocks = [0] * every + [1] * every + [2] * every
    assert moved == [[k == block for k in (0, 0, 1, 1, 2, 2)] for block in blocks]


@pytest.fixture
def measured(tmp_path):
    """Tables as a run leaves them, of two backends."""
    identity = {"device": "a processor", "dtype": "float32"}
    origin = {"scale": "quick", "started_at": "2026-01-01T00:00:00+00:00"}
    parts = {
        part: measured_rows(part) for part in ("steps", "switches", "programs", "memory", "greedy")
    }
    number = {
        "network": "dense",
        "n_blocks": 3,
        "value": 0.01,
        "low": 0.009,
        "high": 0.02,
        "unit": "s",
    }
    parts["baselines"] = [
        number | {"every": every, "variant": variant, "quantity": quantity}
        for every in (1, 2)
        for variant in ("layerwise", "badam (torch)")
        for quantity in ("step", "step over layerwise")
    ]
    for part, rows in parts.items():
        for backend in ("jax", "torch"):
            tables.add(
                tmp_path / "cost",
                part,
                [{"backend": backend, **identity, **row, **origin} for row in rows],
            )
    return tmp_path


def test_figures_and_answer_come_from_the_tables_alone(measured):
    paths = figures.draw(measured / "cost")
    expected = {"steps", "switches", "programs", "memory", "greedy", "baselines"}
    assert {path.stem for path in paths} == expected
    assert all(path.stat().st_size > 10_000 for path in paths)
    text = answer.markdown(measured / "cost").splitlines()
    assert text[0] == "|  | jax, a processor, float32 | torch, a processor, float32 |"
    assert any(
        line.startswith("| optimizer state / largest block, dense, drop | 2 | 2 |") for line in text
    )


def test_a_new_measurement_replaces_that_of_the_same_backend_only(tmp_path):
    row = {"device": "cpu", "dtype": "float32", "quantity": "step", "value": 1.0}
    tables.add(tmp_path, "steps", [row | {"backend": "jax"}, row | {"backend": "torch"}])
    tables.add(tmp_path, "steps", [row | {"backend": "jax", "value": 2.0}])
    found = tables.read(tmp_path, "steps")
    assert found.set_index("backend")["value"].to_dict() == {"torch": 1.0, "jax": 2.0}


def test_quick_tables_do_not_write_over_the_full_ones():
    folders = [
        command._folder(argparse.Namespace(results=None, scale=scale))
        for scale in ("full", "quick")
    ]
    assert folders == [Path("results/cost"), Path("results/quick/cost")]
    assert command._folder(argparse.Namespace(results=None)) == folders[0]  # plot and table


def test_what_cannot_be_done_is_said(tmp_path, monkeypatch):
    if devices.device_name() == devices._processor():
        with pytest.raises(ValueError, match="sees no GPU"):
            devices.require("gpu")
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name: None if name == "badam" else name
    )
    with pytest.raises(ValueError, match="baselines"):
        command._check_installed(["jax"], ["baselines"])
    command._check_installed(["jax"], ["steps"])

    class Options:
        results = tmp_path

    with pytest.raises(FileNotFoundError, match="Run it first"):
        command.plot(Options)
