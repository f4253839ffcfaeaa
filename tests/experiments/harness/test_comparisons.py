import argparse
import json
from pathlib import Path

import keras
import pytest

import layerwise
from experiments.harness import command, comparisons
from layerwise.comparison import Comparison, frames
from layerwise.comparison.audit import audit
from tests.comparison import problems


@pytest.mark.parametrize(
    "dataset, scale, folder",
    [
        ("digits", "full", "results"),
        ("digits", "quick", "results/quick"),
        ("mnist", "full", "results/mnist"),
        ("mnist", "quick", "results/mnist-quick"),
    ],
)
def test_default_results_never_mix(dataset, scale, folder):
    assert comparisons.default_results(dataset, scale) == Path(folder)


@pytest.mark.parametrize(
    "words, given",
    [
        ("", {"jobs": 7, "cluster": None, "budget": "flops"}),
        ("--jobs 2", {"jobs": 2}),
        (
            "--cluster dask://h:1 --budget seconds",
            {"cluster": "dask://h:1", "jobs": 1, "budget": "seconds"},
        ),
        ("--seeds 3 --tuning-seeds 2 --timed 0", {"seeds": 3, "tuning_seeds": 2, "timed": 0}),
        ("--models mlp --only greedy --batch-size 7", {"batch_size": 7}),
    ],
)
def test_what_is_typed_reaches_the_comparison(words, given, tmp_path, monkeypatch):
    got = {}

    def compare(**arguments):
        got.update(arguments)
        raise RuntimeError("enough")

    monkeypatch.setattr(layerwise, "compare", compare)
    monkeypatch.setattr(comparisons, "side_by_side", lambda: 7)
    with pytest.raises(SystemExit, match="error: enough"):
        command.main(["run", "convergence", *words.split(), "--results", str(tmp_path)])
    assert {name: got[name] for name in given} == given
    assert got["results"] == tmp_path / "convergence" and list(got["data"]) == ["digits"]
    if "--only" in words:
        assert list(got["schedules"]) == ["simultaneous", "greedy"] and list(got["models"]) == [
            "mlp"
        ]


def test_a_cluster_that_cannot_be_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(SystemExit, match="'nowhere'"):
        command.main(["run", "convergence", "--cluster", "nowhere", "--results", str(tmp_path)])
    assert not list(tmp_path.rglob("runs.csv"))


@pytest.fixture
def folder(tmp_path):
    """Frames as a run leaves them; the results folder is two above."""
    runs, curves = problems.made_up()
    folder = tmp_path / "mine" / "convergence"
    frames.write(folder, runs=runs, curves=curves)
    return folder


def test_plot_and_table_come_from_frames_alone(folder, capsys, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", None)
    results = str(folder.parents[1])
    command.main(["plot", "convergence", "--results", results])
    assert len(list(folder.glob("*.png"))) == 8
    command.main(["table", "convergence", "--results", results])
    out = capsys.readouterr().out
    assert out.count("drawn: ") == 8 and f"written: {folder / 'answer.md'}" in out
    text = Comparison.load(folder).table()
    assert text in out
    assert (folder / "answer.md").read_text().rstrip().endswith(text.rstrip())


def test_an_answer_says_what_is_asked_found_and_not_shown(folder, capsys):
    def findings(comparison, rows):
        return [f"{len(comparison.runs)} runs.", f"{len(rows)} verdicts."]

    mine = comparisons.experiment("How many?", dict, findings, "how few.")
    mine.table(argparse.Namespace(name="convergence", results=folder.parents[1]))
    said = capsys.readouterr().out
    n_runs = len(Comparison.load(folder).runs)
    assert said.startswith(f"### {folder}\n\n# How many?\n\n**In short**\n\n")
    assert f"\n\n- {n_runs} runs.\n- 2 verdicts.\n\n" in said
    assert "What this cannot show: how few." in said


def test_an_answer_names_the_commands_that_made_it(folder):
    assert comparisons.commands([folder], ["tensorflow"]) == "an unknown command"
    command = {"command": "python -m experiments run convergence"}
    (folder / "settings.json").write_text(json.dumps({"sessions": [{}, command, command]}))
    said = "python -m experiments run convergence"
    assert comparisons.commands([folder], ["tensorflow"] * 2) == f"`{said}`"
    assert comparisons.commands([folder], ["jax"] * 2) == f"`KERAS_BACKEND=jax {said}`"


def test_the_audit_prints_its_findings_and_fails_where_there_are_any(folder, capsys):
    arguments = ["table", "convergence", "--audit", "--results", str(folder.parents[1])]
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    findings = audit(Comparison.load(folder).runs)
    assert stopped.value.code.startswith(f"error: the audit has {len(findings)} findings")
    assert f"- {findings[0]}" in capsys.readouterr().out


def test_a_clean_audit_ends_well(tmp_path, capsys):
    rows = [
        problems.run_row(
            "simultaneous",
            1000,
            "tune",
            rate,
            best_validation_score=score,
            best_validation_loss=0.1,
            flops_to_target=None,
        )
        for rate, score in ((0.01, 0.8), (0.1, 0.9), (1.0, 0.8))
    ]
    rows += [problems.run_row("simultaneous", seed) for seed in range(5)]
    folder = tmp_path / "mine" / "convergence"
    frames.write(folder, runs=frames.run_frame(rows), curves=frames.curve_frame([]))
    command.main(["table", "convergence", "--audit", "--results", str(tmp_path)])
    assert "no findings" in capsys.readouterr().out
