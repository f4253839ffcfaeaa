import pytest

from experiments.harness import command
from experiments.harness.readme import part

ANSWER = "**digits, mlp, SGD** (target 90 %)\n\n| a |\n| --- |\n| 1 |\n\n**digits, mlp, Adam**\n\n| b |\n"
TEXT = (
    "Before.\n\n<!-- mine/answer.md: digits, mlp, SGD -->\nan old table\n<!-- end -->\n\nAfter.\n"
)


def test_a_marked_table_is_written_from_the_answer_and_nothing_else_changes(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "answer.md").write_text(ANSWER)
    file = tmp_path / "README.md"
    file.write_text(TEXT)
    command.main(["readme", str(file)])
    table = "**digits, mlp, SGD** (target 90 %)\n\n| a |\n| --- |\n| 1 |"
    assert file.read_text() == TEXT.replace("an old table", table)
    command.main(["readme", str(file)])
    assert capsys.readouterr().out == f"{file}: written\n{file}: nothing new\n"


def test_a_title_that_no_part_has_is_an_error():
    with pytest.raises(ValueError, match="has no part that begins"):
        part(ANSWER, "digits, mlp")


def test_an_answer_that_is_not_there_ends_the_command(tmp_path):
    file = tmp_path / "README.md"
    file.write_text(TEXT)
    with pytest.raises(SystemExit, match=r"answer\.md"):
        command.main(["readme", str(file)])
