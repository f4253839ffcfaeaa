import pandas as pd
import pytest

from layerwise.comparison import frames
from layerwise.comparison.journal import Journal
from tests.comparison import problems


def filled(folder, n=3):
    journal = Journal(folder)
    _, curves = problems.made_up()
    for number in range(n):
        row = problems.run_row("greedy", number, run_id=f"run{number}", updates=None)
        journal.add(row, curves[:9].assign(run_id=f"run{number}"))
    return journal


def test_another_process_reads_what_one_wrote(tmp_path):
    written = filled(tmp_path / "new")
    read = Journal(tmp_path / "new")
    assert len(read) == 3
    assert [row["seed"] for row in read.rows()] == [0, 1, 2]
    for run_id, curve in written.curves().items():
        pd.testing.assert_frame_equal(read.curves()[run_id], curve)
        assert curve.dtypes.equals(frames.curve_frame([]).dtypes)


def test_a_half_written_file_is_no_run(tmp_path):
    journal = filled(tmp_path)
    (tmp_path / ".run9.json.123").write_text('{"row": {"run_id"')
    assert len(journal) == len(journal.rows()) == 3
    journal.clear()
    assert not tmp_path.exists()


@pytest.mark.parametrize("damage", ["", '{"row": {"run_id', '{"row": {"run_id": "run1"}}', "[]"])
def test_a_damaged_file_is_named_and_set_aside_and_the_others_are_read(tmp_path, damage):
    journal = filled(tmp_path)
    (tmp_path / "run1.json").write_text(damage)
    with pytest.warns(UserWarning, match=r"run1\.json is damaged .* set aside as run1\.damaged"):
        assert [row["seed"] for row in journal.rows()] == [0, 2]
    assert (tmp_path / "run1.damaged").read_text() == damage
    assert len(Journal(tmp_path)) == 2
    filled(tmp_path)
    assert len(Journal(tmp_path)) == 3


def test_a_file_that_holds_another_run_is_damaged(tmp_path):
    journal = filled(tmp_path)
    (tmp_path / "run1.json").write_text((tmp_path / "run2.json").read_text())
    with pytest.warns(UserWarning, match="it holds the run run2"):
        assert len(journal) == 2


@pytest.mark.parametrize("other", [False, True])
def test_clearing_removes_its_own_files_only(tmp_path, other):
    journal = filled(tmp_path / "unfinished")
    if other:
        (tmp_path / "unfinished" / "notes.txt").write_text("mine")
    journal.clear()
    assert (tmp_path / "unfinished").exists() is other
