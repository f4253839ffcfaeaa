"""The facts that papers report, in their quick form."""

import argparse
import dataclasses
import itertools

import numpy as np
import pytest

from experiments.published import experiment, facts


@pytest.mark.slow
def test_full_batch_descent_goes_to_the_edge_of_stability():
    rows = facts.edge(facts.digits(), (2000, 2200, 2400, 2600, 2800), width=64, rate=0.4)
    assert all(row["error"] < 0.02 * row["value"] for row in rows)
    assert np.mean([row["value"] for row in rows]) == pytest.approx(2 / 0.4, rel=0.1)


@pytest.mark.slow
def test_full_batch_adam_goes_to_its_own_edge():
    rows = facts.adaptive_edge(facts.digits(), (600, 800, 1000), width=64, rate=0.001)
    assert np.mean([row["value"] for row in rows]) == pytest.approx(38 / 0.001, rel=0.1)


@pytest.mark.slow
def test_a_large_part_of_the_parameters_hurts_in_a_step():
    rows = facts.hurting(facts.digits(1500), (100, 300, 600), batch_size=20)
    assert all(0.35 < row["value"] < 0.65 and row["error"] < 2e-3 for row in rows)


@pytest.mark.slow
def test_normalization_is_sharper_than_attention_and_that_than_embeddings():
    found = {row["setting"]: row for row in facts.kinds_of_layers((200,), samples=12)}
    for sharper, flatter in itertools.pairwise(("normalization", "attention", "embedding")):
        one, other = found[sharper], found[flatter]
        assert one["value"] - one["error"] > other["value"] + other["error"]


def test_the_answer_is_from_the_rows_and_a_second_run_replaces_its_own(tmp_path, monkeypatch):
    names = iter([["digits", "cifar10"], ["digits"]])
    value = iter([1.0, 2.0, 3.0])

    def measure(options):
        return [
            {"data": data, "setting": "rate 1", "step": 1, "measure": "largest eigenvalue",
             "value": next(value), "expected": 2.0, "error": 0.1}
            for data in next(names)
        ]  # fmt: skip

    name = "edge of stability"
    fact = dataclasses.replace(experiment.FACTS[name], measure=measure)
    monkeypatch.setitem(experiment.FACTS, name, fact)
    options = argparse.Namespace(only=[name], results=tmp_path, scale="full")
    experiment.run(options)
    experiment.run(options)
    text = (tmp_path / "published" / "answer.md").read_text()
    assert "2 of 2 (cifar10" in text and "3 of 2 (digits" in text and "1 of 2" not in text
    assert (tmp_path / "published" / "published.png").exists()
    with pytest.raises(FileNotFoundError, match="Run it first"):
        experiment.answer(tmp_path)
