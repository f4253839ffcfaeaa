import keras
import pytest

from experiments.cost import programs
from experiments.harness import rows
from tests.experiments.cost import tiny

TORCH = keras.backend.backend() == "torch"


@pytest.fixture(scope="module")
def found():
    return programs.measure(tiny.SETTINGS)


@pytest.mark.thorough
def test_programs_are_one_a_block_or_as_many_as_asked_for(found):
    frame = rows.frame(found)
    counts = tiny.values(frame, "programs", ["n_blocks", "variant"])
    one_each, shared = "a program for each block", "max_programs=2"
    expected = {(2, one_each): 2, (3, one_each): 3, (3, shared): 2}
    for key, number in expected.items():
        assert counts[key] == (0 if TORCH else number)  # torch runs eagerly
    assert (tiny.values(frame, "compile") > 0).all()


def test_figure_and_answer(found, tmp_path):
    names, lines = tiny.shown("programs", found, tmp_path)
    assert names == {"programs"}
    ways = () if TORCH else ("a program for each block", "max_programs=2")
    assert set(lines) == {
        f"compiling a sweep of 3 blocks / a simultaneous step, {way}" for way in ways
    }
