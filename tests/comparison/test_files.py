"""Files of frames: written whole, and named where they cannot be read."""

import pytest

from layerwise.comparison import frames, timings
from layerwise.comparison.files import write_atomically
from tests.comparison import problems


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("old")

    def broken(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, broken)
    assert path.read_text() == "old"


@pytest.fixture
def kept(tmp_path):
    """A folder with the frames of three runs."""
    rows = [problems.run_row("simultaneous", seed) for seed in range(3)]
    curves = frames.curve_frame(
        [{"run_id": rows[0]["run_id"], "epoch": 0, "split": "train", "loss": 1.0}]
    )
    frames.write(tmp_path, runs=frames.run_frame(rows), curves=curves)
    return tmp_path


@pytest.mark.parametrize(
    "name, damage",
    [
        ("runs.csv", lambda path: path.write_bytes(path.read_bytes()[:-90])),
        ("runs.csv", lambda path: path.write_text("")),
        ("runs.csv", lambda path: path.write_text("a,b\n1,2\n")),
        ("runs.csv", lambda path: path.write_bytes(bytes(range(256)))),
        ("curves.parquet", lambda path: path.write_bytes(path.read_bytes()[:-30])),
        ("curves.parquet", lambda path: path.unlink()),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_left_alone(kept, name, damage):
    assert len(frames.read(kept)[0]) == 3
    damage(kept / name)
    there = {path.name: path.read_bytes() for path in kept.iterdir()}
    with pytest.raises(ValueError, match=rf"{name} cannot be read .* from git or a backup"):
        frames.read(kept)
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == there


@pytest.mark.parametrize(
    "kept_rows", [None, 1, 3]
)  # none written yet, the header, two runs of three
def test_frames_whose_writing_was_killed_after_the_curves_are_read(kept, kept_rows):
    path = kept / "runs.csv"
    lines = path.read_text().splitlines(True)
    path.unlink() if kept_rows is None else path.write_text("".join(lines[:kept_rows]))
    assert len(frames.read(kept)[0]) == (kept_rows or 1) - 1


@pytest.mark.parametrize("name, read", [("timings", timings.read), ("probes", frames.read_probes)])
def test_damaged_timings_and_probes_are_named(tmp_path, name, read):
    assert read(tmp_path).empty
    (tmp_path / f"{name}.parquet").write_text("no parquet")
    with pytest.raises(ValueError, match=rf"{name}\.parquet cannot be read"):
        read(tmp_path)
