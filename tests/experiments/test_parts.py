"""An experiment of parts: what is measured already is not measured again, and the answer is from the rows."""

import argparse

import pytest
from matplotlib.figure import Figure

from experiments.harness import parts


def part_of(measured):
    def measure(seed):
        measured.append(seed)
        return [{"value": 10 * seed}]

    return parts.Part(
        title="Which?",
        cases=lambda scale: {f"seed {seed}": {"seed": seed} for seed in range(2 if scale == "quick" else 3)},
        measure=measure,
        draw=lambda rows: Figure(),
        answer=lambda rows: f"**The sum is {rows['value'].sum()}.**",
    )  # fmt: skip


def test_only_what_is_missing_is_measured(tmp_path):
    measured = []
    parts.measure(tmp_path, "one", part_of(measured), "quick")
    parts.measure(tmp_path, "one", part_of(measured), "full")
    assert measured == [0, 1, 2]
    rows = parts.read(tmp_path, "one")
    assert rows[["case", "seed", "value"]].values.tolist() == [
        ["seed 0", 0, 0], ["seed 1", 1, 10], ["seed 2", 2, 20],
    ]  # fmt: skip


def test_the_answer_has_question_figure_and_command(tmp_path):
    part = part_of([])
    with pytest.raises(FileNotFoundError, match="Run it first"):
        parts.answer(tmp_path, "which", {"one": part}, "# Why?")
    parts.measure(tmp_path, "one", part, "full")
    text = parts.answer(tmp_path, "which", {"one": part}, "# Why?")
    assert text.startswith("# Why?") and "- The sum is 30." in text and "(one.png)" in text
    assert "python -m experiments run which --scale full --only one" in text


def test_only_names_the_parts():
    experiment = parts.experiment("linearity", "Why?", ("line", "flow"), "# Why?")
    parser = argparse.ArgumentParser()
    experiment.add_arguments(parser)
    assert parser.parse_args([]).only == ("line", "flow")
    assert parser.parse_args(["--only", "flow"]).only == ["flow"]
