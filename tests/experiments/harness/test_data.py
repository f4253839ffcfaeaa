import numpy as np
import pytest

from experiments.harness import data


def arrays(n=120, dtype="uint8", shape=(6, 6)):
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n, *shape)).astype(dtype),
        "y_train": np.arange(n) % 3,
        "x_test": rng.integers(0, 256, (30, *shape)).astype(dtype),
        "y_test": np.arange(30) % 3,
    }


@pytest.fixture
def file(tmp_path):
    def write(**change):
        path = tmp_path / "own.npz"
        np.savez(path, **{k: v for k, v in (arrays() | change).items() if v is not None})
        return str(path)

    return write


def test_own_file_is_scaled_and_split(file):
    name, loaded, n_classes = data.load(file())
    assert (name, n_classes, loaded.folds) == ("own", 3, None)
    assert loaded.sizes == {"train": 100, "validation": 20, "test": 30}
    given = arrays()
    x = loaded.train[0]
    assert x.dtype == np.float32 and x.shape[1:] == (6, 6, 1)
    np.testing.assert_array_equal(
        loaded.test[0][..., 0], given["x_test"].astype("float32") / np.float32(255)
    )
    both = np.concatenate([loaded.train[0], loaded.validation[0]])[..., 0] * 255
    np.testing.assert_array_equal(
        np.sort(both.round().astype(int), axis=0), np.sort(given["x_train"], axis=0)
    )
    assert np.bincount(loaded.validation[1]).tolist() in ([7, 7, 6], [7, 6, 7], [6, 7, 7])


def test_floats_and_feature_rows_stay_as_they_are(file):
    rows = arrays(dtype="float64", shape=(5,))
    _, loaded, _ = data.load(file(**rows))
    np.testing.assert_array_equal(loaded.test[0], rows["x_test"].astype("float32"))


def test_subset_is_stratified_and_leaves_the_test_part(file):
    _, loaded, _ = data.load(file(), subset=30)
    assert loaded.sizes == {"train": 25, "validation": 5, "test": 30}
    labels = np.concatenate([loaded.train[1], loaded.validation[1]])
    assert np.bincount(labels).tolist() == [10, 10, 10]
    for accepted in (18, 117, 120):
        assert sum(data.load(file(), subset=accepted)[1].sizes.values()) == accepted + 30
    for refused in (17, 118, 121):
        bounds = rf"between 18 \(6 for each of 3 .* 117, or be the 120 images not .*{refused}"
        with pytest.raises(ValueError, match=bounds):
            data.load(file(), subset=refused)


def test_a_part_of_those_for_testing_is_stratified_and_leaves_the_rest(file):
    _, whole, _ = data.load(file())
    _, loaded, _ = data.load(file(), test_subset=9)
    assert loaded.sizes == {**whole.sizes, "test": 9}
    assert np.bincount(loaded.test[1]).tolist() == [3, 3, 3]
    np.testing.assert_array_equal(loaded.train[0], whole.train[0])
    with pytest.raises(ValueError, match=r"--test-subset .* 6 .* 27, or be the 30 images for"):
        data.load(file(), test_subset=31)


def test_digits_are_embedded_and_the_test_part_is_fixed():
    _, first, n_classes = data.load("digits")
    _, again, _ = data.load("digits", subset=500)
    assert n_classes == 10 and first.train[0].min() == 0 and first.train[0].max() == 1
    assert first.folds == 3
    np.testing.assert_array_equal(first.test[0], again.test[0])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"y_test": None}, r"lacks the arrays y_test; it has x_train, y_train, x_test"),
        ({"y_train": np.zeros(7)}, r"do not fit together: x_train \(120, 6, 6\), y_train \(7,\)"),
        ({"x_test": np.zeros((30, 5, 6))}, "do not fit together"),
        ({"y_train": np.full(120, 0.5)}, "y_train must hold one class label"),
        ({"y_test": np.array(["a"] * 30)}, "y_test must hold one class label"),
        ({"x_train": np.zeros((120, 2)), "x_test": np.zeros((30, 2, 2))}, "do not fit together"),
        ({"x_train": np.full((120, 6), "a"), "x_test": np.full((30, 6), "a")}, "must hold numbers"),
    ],
)
def test_files_that_do_not_fit_raise_and_say_why(file, change, message):
    with pytest.raises(ValueError, match=message):
        data.load(file(**change))


def test_missing_and_foreign_files_raise(tmp_path):
    with pytest.raises(ValueError, match=r"no such file.*one of: digits, mnist"):
        data.load(str(tmp_path / "none.npz"))
    text = tmp_path / "text.npz"
    text.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"Write the file with numpy.savez"):
        data.load(str(text))
    np.save(tmp_path / "single.npy", np.zeros(3))
    with pytest.raises(ValueError, match="it is no"):
        data.load(str(tmp_path / "single.npy"))


def test_no_network_is_said_with_what_to_do(monkeypatch):
    def load_data():
        raise Exception("URL fetch failure on https://example.org: None -- no route to host")

    monkeypatch.setattr(data.keras.datasets.mnist, "load_data", load_data)
    with pytest.raises(ValueError, match=r"could not download.*URL fetch.*Without a network, use"):
        data.load("mnist")
