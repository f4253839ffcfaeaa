"""What README.md shows runs: Python blocks in order in one session.

Bash blocks with a mark (setup, quick, test, slow, comparisons) take minutes: ``.ci/run`` runs those. Blocks without one
take hours: their command lines are parsed.
"""

import re
import shlex

import pytest

from experiments.harness import command, readme
from tests.readme import README, blocks


@pytest.mark.parametrize(
    "block",
    [
        ("bash", "setup"),
        ("bash", "quick"),
        ("bash", "test"),
        ("bash", "slow"),
        ("bash", "comparisons"),
        ("python", ""),
    ],
)
def test_readme_has_the_blocks_that_are_run(block):
    assert blocks(*block)


@pytest.mark.slow
def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for number, code in enumerate(blocks("python"), start=1):
        exec(compile(code, f"README.md, Python block {number}", "exec"), namespace)


def test_tables_are_those_of_the_answers():
    text = README.read_text()
    assert readme.filled(text, README.parent) == text
    assert text.count("<!-- end -->") >= 1


def test_answers_in_a_line_are_sentences_of_the_answers():
    quoted = re.findall(
        r"^  (?:On .+: )?\[(.+)\.\]\((results/.+\.md)\)$", README.read_text(), re.MULTILINE
    )
    assert len(quoted) >= 3
    for sentence, file in quoted:
        assert sentence in " ".join((README.parent / file).read_text().split()), sentence


def test_long_commands_are_understood(monkeypatch):
    understood = []
    monkeypatch.setattr(command, "run", understood.append)
    for line in blocks("bash")[0].replace("\\\n", " ").splitlines():
        *_, arguments = line.partition("python -m experiments ")
        if arguments and not arguments.startswith("report"):
            command.main(shlex.split(arguments, comments=True))
    assert {options.scale for options in understood} == {"full"}
    names = [options.name for options in understood]
    assert names[:3] == ["convergence"] * 3
    assert {path.parent.name for path in README.parent.glob("results/**/answer.md")} == set(names)
