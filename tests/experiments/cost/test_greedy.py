import pytest

from experiments.cost import greedy
from experiments.harness import rows
from tests.experiments.cost import tiny


@pytest.fixture(scope="module")
def found():
    return greedy.measure(tiny.SETTINGS)


def test_greedy_runs_with_each_cache(found):
    ratios = tiny.values(rows.frame(found), "run over a simultaneous run")
    assert list(ratios.index) == ["simultaneous", *greedy.CACHES]
    assert ratios["simultaneous"] == 1 and (ratios > 0).all()


def test_figure_and_answer(found, tmp_path):
    names, lines = tiny.shown("greedy", found, tmp_path)
    assert names == {"greedy"}
    assert list(lines) == [
        f"greedy run / simultaneous run of a stage's epochs, {cache}" for cache in greedy.CACHES
    ]
