import pickle

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


def test_workers_are_not_sent_what_was_read(tmp_path):
    journal = filled(tmp_path)
    before = len(pickle.dumps(journal))
    journal.rows()
    assert len(pickle.dumps(journal)) == before
    assert pickle.loads(pickle.dumps(journal)).rows() == journal.rows()


@pytest.mark.parametrize("other", [False, True])
def test_clearing_removes_its_own_files_only(tmp_path, other):
    journal = filled(tmp_path / "unfinished")
    if other:
        (tmp_path / "unfinished" / "notes.txt").write_text("mine")
    journal.clear()
    assert (tmp_path / "unfinished").exists() is other
