"""Data for the experiments: embedded digits, one's own arrays, or what Keras downloads."""

import zipfile
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import layerwise

DOWNLOADS = ("mnist", "fashion_mnist", "cifar10")
KEYS = ("x_train", "y_train", "x_test", "y_test")


def load(
    source: str = "digits", subset: int | None = None, test_subset: int | None = None
) -> tuple[str, layerwise.Data, int]:
    """Loads images (or feature rows) and labels, scaled to 0..1 and split in three.

    The test part is fixed: the file's own, or a fixed fifth of the digits. A sixth of the rest is for
    validation, the same in every run. The digits are few: their rest is in three folds, each of
    which is for validation in a third of the runs, in the proportions of the classes.

    Args:
        source: "digits" (scikit-learn's, embedded), the path of an .npz file with the arrays
            x_train, y_train, x_test and y_test, or "mnist", "fashion_mnist" or "cifar10"
            (downloaded by Keras).
        subset: How many of the images that are not for testing are used, in the proportions of the
            classes; `None`: all.
        test_subset: How many of those for testing, likewise.

    Returns:
        `(name, layerwise.Data, number of classes)`. Images have the shape (height, width,
        channels).

    Raises:
        ValueError: If there is no such data, or arrays do not fit together; the message says what
            to do.

    Example:
    >>> from experiments.harness.data import load
    >>> load("digits")
    ('digits', Data(958 train, 479 validation, 360 test, x (8, 8, 1), 3 folds), 10)
    """
    if source == "digits":
        x, y = load_digits(return_X_y=True)
        x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
        rest, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=0)
        arrays, share = (x[rest], y[rest], x[test], y[test]), 1 / 3
    elif source in DOWNLOADS:
        arrays, share = _downloaded(source), 1 / 6
    else:
        arrays, share = _from_file(Path(source)), 1 / 6
    x, y, x_test, y_test = arrays
    x, x_test = _inputs(x), _inputs(x_test)
    y, y_test = (_labels(labels, name) for labels, name in ((y, "y_train"), (y_test, "y_test")))
    n_classes = int(max(y.max(), y_test.max())) + 1
    # Of the subset a part is for validation, with an image of each class.
    x, y = _some(x, y, subset, n_classes, round(n_classes / share), "--subset", "not for testing")
    x_test, y_test = _some(
        x_test, y_test, test_subset, n_classes, 2 * n_classes, "--test-subset", "for testing"
    )
    x, x_validation, y, y_validation = train_test_split(
        x, y, test_size=share, stratify=y, random_state=0
    )
    data = layerwise.Data(
        (x, y), (x_validation, y_validation), (x_test, y_test), 3 if source == "digits" else None
    )
    return Path(source).stem, data, n_classes


def _some(x, y, count, n_classes, least, option, which):
    """So many of the examples, in the proportions of the classes; all where the count is None."""
    if count is None or count == len(y):
        return x, y
    most = len(y) - n_classes  # those that are left are in the proportions of the classes, too
    if not least <= count <= most:
        raise ValueError(
            f"{option} must lie between {least} ({least // n_classes} for each of {n_classes} classes) and {most}, or be "
            f"the {len(y)} images {which} that there are, got {count}."
        )
    x, _, y, _ = train_test_split(x, y, train_size=count, stratify=y, random_state=0)
    return x, y


def _downloaded(name):
    try:
        (x, y), (x_test, y_test) = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception where there is no network
        raise ValueError(
            f"--data {name}: Keras could not download it ({' '.join(str(error).split())[:200]}). "
            "Without a network, use "
            f"--data digits, or --data FILE.npz with the arrays {', '.join(KEYS)}."
        ) from error
    return x, y, x_test, y_test


def _from_file(path):
    if not path.exists():
        raise ValueError(
            f"--data {path}: there is no such file. Give an .npz file with the arrays "
            f"{', '.join(KEYS)}, or one of: digits, "
            f"{', '.join(DOWNLOADS)}."
        )
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("it is no .npz file")
        with np.load(path, allow_pickle=False) as file:
            missing = [key for key in KEYS if key not in file.files]
            if missing:
                names = ", ".join(file.files) or "none"
                raise ValueError(f"it lacks the arrays {', '.join(missing)}; it has {names}")
            arrays = tuple(file[key] for key in KEYS)
    except (ValueError, OSError) as error:
        raise ValueError(
            f"--data {path}: {error}. Write the file with numpy.savez(path, x_train=..., "
            "y_train=..., x_test=..., y_test=...)."
        ) from error
    x, y, x_test, y_test = arrays
    if len(x) != len(y) or len(x_test) != len(y_test) or x.shape[1:] != x_test.shape[1:]:
        shapes = ", ".join(f"{key} {array.shape}" for key, array in zip(KEYS, arrays, strict=True))
        raise ValueError(
            f"--data {path}: the arrays do not fit together: {shapes}. x and y need the same "
            "number of rows, x_train and "
            "x_test the same shape of a row."
        )
    return arrays


def _inputs(x):
    """Float32, bytes scaled to 0..1, images with a channel axis at the end."""
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or x.ndim not in (2, 3, 4):
        raise ValueError(
            "x must hold numbers, with shape (examples, features), (examples, height, width) or "
            "(examples, height, width, "
            f"channels); got {x.dtype} of shape {x.shape}."
        )
    x = x.astype("float32") / 255 if x.dtype == np.uint8 else x.astype("float32")
    return x[..., None] if x.ndim == 3 else x


def _labels(y, name):
    """Integer class labels, one a row."""
    flat = y.reshape(len(y), -1)
    if (
        flat.shape[1] != 1
        or not np.issubdtype(y.dtype, np.number)
        or (flat < 0).any()
        or (flat % 1).any()
    ):
        raise ValueError(
            f"{name} must hold one class label from 0, 1, 2, ... for each example; got {y.dtype} "
            f"of shape {y.shape}."
        )
    return flat[:, 0].astype("int32")
