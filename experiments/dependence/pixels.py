"""The same images in four forms: as they are, their pixels shuffled, centred, and whitened."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

import layerwise

FORMS = ("as they are", "shuffled", "centred", "whitened")
SOFTENING = 0.1  # added to each variance in whitening, as a part of the mean one: noise stays small
EXPLAINED = 0.99  # the condition number is that of the directions with so much of the variance


def forms(data: layerwise.Data, chosen: tuple[str, ...] = FORMS) -> dict[str, layerwise.Data]:
    """`{form: Data}` of images.

    - "as they are": values from 0 to 1.
    - "shuffled": the pixels of all images in one and the same random order.
    - "centred": less the mean image, and divided by one number, so that a pixel's variance is 1 on average.
    - "whitened": the centred images with their pixels decorrelated by the smallest change that does so (ZCA), so that
      places keep their meaning; then scaled as the centred ones are. What differs from "centred" is dependence alone.

    Means and covariances are those of the images that are not for testing; labels do not enter.

    Source: Bell and Sejnowski, The independent components of natural scenes are edge filters (1997), for ZCA.
    """
    images = np.concatenate([data.train[0], data.validation[0]])
    shape = images.shape[1:]
    flat = images.reshape(len(images), -1).astype("float64")
    order = np.random.default_rng(0).permutation(int(np.prod(shape[:2])))
    mean = flat.mean(axis=0)
    size = flat.std(axis=0).mean() if flat.var() == 0 else np.sqrt(flat.var(axis=0).mean())
    decorrelate = whitening(np.cov((flat - mean) / size, rowvar=False))
    white = (flat - mean) / size @ decorrelate
    decorrelate /= np.sqrt(white.var(axis=0).mean())

    def shuffled(x):
        return x.reshape(len(x), -1, shape[2])[:, order].reshape(x.shape)

    def centred(x):
        return ((x.reshape(len(x), -1) - mean) / size).astype("float32").reshape(x.shape)

    def whitened(x):
        return (centred(x).reshape(len(x), -1) @ decorrelate).astype("float32").reshape(x.shape)

    changes = {
        "as they are": lambda x: x,
        "shuffled": shuffled,
        "centred": centred,
        "whitened": whitened,
    }
    return {form: _changed(data, changes[form]) for form in chosen}


def whitening(covariance: np.ndarray) -> np.ndarray:
    """The symmetric matrix (C + s I)^(-1/2), where s is `SOFTENING` times the mean variance.

    Example: two pixels of variance 1 with correlation 0.9 have the variances 1.9 and 0.1 along the diagonals.

    >>> import numpy as np
    >>> from experiments.dependence.pixels import whitening
    >>> matrix = whitening(np.array([[1.0, 0.9], [0.9, 1.0]]))
    >>> np.linalg.eigvalsh(matrix).round(4).tolist() == [round(2.0**-0.5, 4), round(0.2**-0.5, 4)]
    True
    """
    values, vectors = np.linalg.eigh(covariance)
    return (vectors / np.sqrt(values + SOFTENING * values.mean())) @ vectors.T


def dependence_of(images: Mapping[str, layerwise.Data]) -> pd.DataFrame:
    """How dependent the pixels of the training images are: one row a form.

    `neighbours`: mean size of the correlation of a pixel with the one to its right. `condition_number`: of the covariance,
    over the directions that hold `EXPLAINED` of the variance. `first_direction`: part of the mean square of all pixels
    that lies in a single direction: what a dense layer's Hessian is made of, the mean image included.
    """
    rows = []
    for form, data in images.items():
        x = np.asarray(data.train[0], "float64")
        flat = x.reshape(len(x), -1)
        values = np.linalg.eigvalsh(np.cov(flat, rowvar=False))[::-1]
        kept = np.searchsorted(np.cumsum(values) / values.sum(), EXPLAINED)
        squares = np.linalg.eigvalsh(flat.T @ flat)
        rows.append(
            {
                "form": form,
                "images": len(x),
                "pixels": flat.shape[1],
                "neighbours": _neighbours(x),
                "condition_number": values[0] / values[kept],
                "first_direction": squares[-1] / squares.sum(),
            }
        )
    return pd.DataFrame(rows)


def _neighbours(x):
    left, right = x[:, :, :-1].reshape(len(x), -1), x[:, :, 1:].reshape(len(x), -1)
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    spread = np.sqrt((left**2).mean(axis=0) * (right**2).mean(axis=0))
    varies = spread > 1e-6
    return float(np.abs((left * right).mean(axis=0)[varies] / spread[varies]).mean())


def _changed(data, change):
    parts = [(change(x), y) for x, y in (data.train, data.validation, data.test)]
    return layerwise.Data(*parts, data.folds)
