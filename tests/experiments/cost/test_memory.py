import dataclasses
import subprocess

import keras
import pytest

from experiments.cost import memory
from experiments.harness import rows
from tests.experiments.cost import tiny

TORCH = keras.backend.backend() == "torch"


@pytest.fixture(scope="module")
def found():
    return [row for variant in memory.VARIANTS for row in memory.of_steps(tiny.TWO, variant)]


@pytest.mark.parametrize("variant", memory.VARIANTS)
def test_optimizer_state_is_that_of_the_blocks_that_hold_it(found, variant):
    frame = rows.frame(found)
    held = frame[frame["variant"] == variant].set_index("quantity")["value"]
    block = 4 * (64 * 64 + 64)
    assert held["largest block"] == block and held["weights"] == 2 * block
    assert held["optimizer state"] == 2 * (block if variant == "drop" else 2 * block)


@pytest.mark.skipif(not TORCH, reason="only torch shows what it saves")
def test_saved_activations_are_the_inputs_of_what_is_differentiated():
    saved = rows.frame(memory.saved_activations(tiny.SMALL)).set_index("block")["value"]
    assert saved[0] > saved[1] > saved[2]
    activation = 256 * 64 * 4
    assert saved[0] - saved[1] == activation


def test_the_process_of_a_variant_measures_the_same_data_type(monkeypatch):
    commands = []

    def run(command, **options):
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="[]")

    monkeypatch.setattr(memory.subprocess, "run", run)
    keras.config.set_dtype_policy("mixed_bfloat16")
    memory.measure(dataclasses.replace(tiny.SETTINGS, memory=(tiny.TWO,), networks=()))
    ends = [
        ["quick", "cpu", "mixed_bfloat16", "dense", variant, peak]
        for variant in memory.VARIANTS
        for peak in memory.PEAKS
    ]
    assert [command[-6:] for command in commands] == ends


def test_figures_and_answer(found, tmp_path):
    activations = [
        {"network": "dense", "n_blocks": 2, "block": block, "unit": "bytes"}
        | {"quantity": "saved activations", "value": value}
        for block, value in (("simultaneous", 3e6), (0, 3e6), (1, 2e6))
    ]
    names, lines = tiny.shown("memory", found + activations, tmp_path)
    assert names == {"memory", "activations"}
    assert lines == {
        "optimizer state / largest block, dense, simultaneous": "4",
        "optimizer state / largest block, dense, drop": "2",
    }
