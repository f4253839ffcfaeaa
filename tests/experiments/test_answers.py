"""Every answer in results/ is what its experiment makes of the committed frames."""

from pathlib import Path

import pytest

from experiments.harness import command

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", command.NAMES)
def test_committed_answers_come_from_the_committed_frames(name, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    answers = list(Path("results").rglob(f"{name}/answer.md"))
    if not answers:
        pytest.skip(f"there are no results of {name}")
    command.main(["table", name])
    said = capsys.readouterr().out
    for path in answers:
        assert path.read_text().strip() in said, path
