"""Every answer in results/ is what its experiment makes of the committed frames."""

from pathlib import Path

import pytest

from experiments.harness import command

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("name", command.NAMES)
def test_committed_answers_come_from_the_committed_frames(name, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    answers = list(Path("results").rglob(f"{name}/answer.md"))
    if not answers:
        pytest.skip(f"there are no results of {name}")
    said = ""
    for path in sorted(answers, key=lambda path: len(path.parts)):
        text = path.read_text().strip()
        if text not in said:  # a folder of results may be told with those below it
            command.main(["table", name, "--results", str(path.parents[1])])
            said += capsys.readouterr().out
        assert text in said, path
