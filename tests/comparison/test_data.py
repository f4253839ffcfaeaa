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
    ],
)
def test_parts_that_do_not_fit_raise(change, message):
    with pytest.raises(ValueError, match=message):
        layerwise.Data(**(parts() | change))


def test_fixed_splits_are_the_parts():
    given = parts()
    data = layerwise.Data(**given)
    for name, rows in data.splits(seed=3).items():
        x, y = data.batch(rows)
        np.testing.assert_array_equal(x, given[name][0])
        np.testing.assert_array_equal(y, given[name][1])


def test_resplit_draws_train_and_validation_anew_and_leaves_test():
    data = problems.data(n=300)
    first, second = data.splits(0), data.splits(1)
    for splits in (first, second):
        both = np.sort(np.concatenate([splits["train"], splits["validation"]]))
        np.testing.assert_array_equal(both, np.arange(450))
        assert len(splits["train"]) == 300
    np.testing.assert_array_equal(first["test"], second["test"])
    assert set(first["train"]) != set(second["train"])
    np.testing.assert_array_equal(first["train"], problems.data(n=300).splits(0)["train"])
    shares = [np.bincount(data.y[rows]) / len(rows) for rows in first.values()]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.01)


def test_fingerprint_sees_every_value_and_the_way_it_is_split():
    prints = {problems.data().fingerprint, problems.data(resplit=False).fingerprint}
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
    batch, y = data.batch(np.array([7, 0]))
    np.testing.assert_array_equal(batch["left"], [[2, 3], [0, 1]])
    np.testing.assert_array_equal(batch["right"], [1, 0])
    assert y.tolist() == [1, 0]
