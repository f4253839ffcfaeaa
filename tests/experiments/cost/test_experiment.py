"""The cost experiment as a whole: what it asks for, and that figures and the answer come from its rows alone."""

import argparse
from pathlib import Path

import keras
import pytest

from experiments.cost import experiment
from experiments.cost.part import PARTS, load
from experiments.cost.settings import settings
from experiments.harness import command, rows
from tests.experiments.cost import tiny


@pytest.mark.parametrize("scale", ["quick", "full"])
@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_every_scale_measures_the_networks_of_the_question(scale, device):
    chosen = settings(scale, device)
    assert (chosen.scale, chosen.device) == (scale, device)
    assert chosen.repetitions >= 3
    if (scale, device) != ("quick", "gpu"):  # minutes on a machine that is lent for minutes
        assert {"convnet", "transformer"} < {network.name for network in chosen.networks}
    if scale == "full":
        assert max(chosen.shared_counts) == 200
        assert "ResNet50" in {network.name for network in chosen.memory}


@pytest.fixture
def measured(tmp_path):
    """Rows of two parts as a run leaves them; torch was not asked about greedy."""
    number = {"network": "dense", "n_blocks": 6, "value": 1.5, "low": 1, "high": 2, "unit": "ratio"}
    ratio = number | {"quantity": "run over a simultaneous run", "variant": "no cache"}
    held = number | {"variant": "drop", "unit": "bytes"}
    quantities = ("optimizer state", "largest block", "peak resident memory")
    memory = [held | {"quantity": name, "value": 2**20} for name in quantities]
    rows.add(tmp_path / "cost", "memory", tiny.of_backends(memory, "jax", "torch"))
    rows.add(tmp_path / "cost", "greedy", tiny.of_backends([ratio], "jax"))
    return tmp_path


def test_figures_and_answer_come_from_the_rows_alone(measured, capsys, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    command.main(["plot", "cost", "--results", str(measured)])
    drawn = capsys.readouterr().out.splitlines()
    folder = measured / "cost"
    assert drawn == [
        f"drawn: {folder / 'memory.png'}",
        f"drawn: {folder / 'greedy.png'}",
        f"written: {folder / 'answer.md'}",
    ]
    command.main(["table", "cost", "--results", str(measured)])
    text = capsys.readouterr().out
    assert text == (folder / "answer.md").read_text()
    *lines, last = [line for line in text.splitlines() if line]
    assert "`python -m experiments run cost`" in last and "What this cannot show" in last
    assert lines == [
        "# What does a step that moves one block cost in time, memory and compilation?",
        "![memory](memory.png)",
        "![greedy](greedy.png)",
        "|  | jax, a processor, float32 | torch, a processor, float32 |",
        "| --- | --- | --- |",
        "| optimizer state / largest block, dense, drop | 1 | 1 |",
        "| greedy run / simultaneous run of a stage's epochs, no cache | 1.5 (1 to 2) |  |",
    ]


def test_each_part_says_its_own_name():
    assert [load(name).name for name in PARTS] == list(PARTS)
    figures = [figure for name in PARTS for figure in load(name).figures]
    assert len(set(figures)) == len(figures)


def test_each_part_is_measured_on_each_backend(monkeypatch, tmp_path):
    asked = []

    def measured(part, backend, scale, device, dtype):
        asked.append((part, backend, scale, device, dtype))
        return tiny.of_backends([{"quantity": "run", "value": 1.0}], backend)

    monkeypatch.setattr(experiment, "measured", measured)
    monkeypatch.setattr(experiment, "plot", lambda options: None)
    arguments = ["--backend", "tensorflow", "torch", "--only", "greedy", "memory"]
    monkeypatch.setattr(experiment, "check_installed", lambda *given: None)
    command.main(["run", "cost", *arguments, "--results", str(tmp_path)])
    assert asked == [
        (part, backend, "quick", "cpu", "float32")
        for backend in ("tensorflow", "torch")
        for part in ("greedy", "memory")
    ]
    found = rows.read(tmp_path / "cost", "memory")
    assert list(found["backend"]) == ["tensorflow", "torch"]


def test_quick_rows_do_not_write_over_the_full_ones():
    folders = [
        experiment.results_folder(argparse.Namespace(results=None, scale=scale), "cost")
        for scale in ("full", "quick")
    ]
    assert folders == [Path("results/cost"), Path("results/quick/cost")]
    given = argparse.Namespace(results=None)  # plot and table have no scale
    assert experiment.results_folder(given, "cost") == folders[0]


def test_what_cannot_be_done_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(
        experiment.importlib.util, "find_spec", lambda name: None if name == "badam" else name
    )
    with pytest.raises(ValueError, match="baselines"):
        experiment.check_installed(["jax"], ["baselines"])
    experiment.check_installed(["jax"], ["steps"])
    for show in (experiment.plot, experiment.table):
        with pytest.raises(FileNotFoundError, match="Run it first"):
            show(argparse.Namespace(results=tmp_path))
