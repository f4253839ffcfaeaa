import numpy as np
import pytest

import layerwise
from tests.comparison import problems


def parts(n=30, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(size=(n, 4)), rng.integers(0, 3, n))
        for name in ("train", "validation", "test")
    }


@pytest.mark.parametrize(
    "change, message",
    [
        ({"train": (np.zeros((3, 4)), np.zeros(4))}, "as many rows in x as in y"),
        ({"test": (np.zeros((0, 4)), np.zeros(0))}, "at least one"),
        ({"validation": np.zeros((3, 4))}, "must be a pair"),
        ({"test": (np.zeros((3, 5)), np.zeros(3, int))}, "same shapes"),
        ({"train": (np.full((3, 4), np.nan), np.zeros(3, int))}, "NaN"),
        ({"train": (np.zeros((3, 4)), np.zeros(3, int), np.ones(4))}, "weights of shape"),
        ({"folds": 1}, "between 2 and the 60 examples, got 1"),
    ],
)
def test_parts_that_do_not_fit_raise(change, message):
    with pytest.raises(ValueError, match=message):
        layerwise.Data(**(parts() | change))


def test_fixed_splits_are_the_parts():
    given = parts()
    data = layerwise.Data(**given)
    for name, rows in data.source.splits(seed=3).items():
        x, y = data.source.batch(rows)
        np.testing.assert_array_equal(x, given[name][0])
        np.testing.assert_array_equal(y, given[name][1])


def test_folds_pair_over_schedules_cover_all_and_keep_proportions_and_leave_test():
    data = problems.data(n=300, folds=3)
    parts = [data.source.splits(seed) for seed in range(4)]
    validation = [splits["validation"] for splits in parts]
    np.testing.assert_array_equal(np.sort(np.concatenate(validation[:3])), np.arange(450))
    for splits in parts:
        both = np.sort(np.concatenate([splits["train"], splits["validation"]]))
        np.testing.assert_array_equal(both, np.arange(450))
        np.testing.assert_array_equal(splits["test"], parts[0]["test"])
        share = np.bincount(data.source.y[splits["validation"]]) / len(splits["validation"])
        whole = np.bincount(data.source.y[:450]) / 450
        np.testing.assert_allclose(share, whole, atol=0.01)
    np.testing.assert_array_equal(validation[3], validation[0])
    again = problems.data(n=300, folds=3).source.splits(1)
    np.testing.assert_array_equal(again["train"], parts[1]["train"])


def test_fingerprint_sees_every_value_and_the_way_it_is_split():
    prints = {problems.data().fingerprint, problems.data(folds=None).fingerprint}
    changed = parts()
    prints.add(layerwise.Data(**changed).fingerprint)
    changed["test"][0][-1, -1] += 1e-9
    prints.add(layerwise.Data(**changed).fingerprint)
    assert len(prints) == 4
    assert problems.data().fingerprint == problems.data().fingerprint


def test_several_inputs_are_taken_row_by_row():
    x = {"left": np.arange(12).reshape(6, 2), "right": np.arange(6)}
    part = (x, np.array([0, 1, 0, 1, 0, 1]))
    data = layerwise.Data(part, part, part)
    batch, y = data.source.batch(np.array([7, 0]))
    np.testing.assert_array_equal(batch["left"], [[2, 3], [0, 1]])
    np.testing.assert_array_equal(batch["right"], [1, 0])
    assert y.tolist() == [1, 0]


def test_numbers_are_divided_without_classes():
    part = np.zeros((30, 2)), np.linspace(0, 1, 30)
    data = layerwise.Data(part, part, part, folds=4)
    assert sorted(len(data.source.splits(seed)["validation"]) for seed in range(4)) == [15] * 4
