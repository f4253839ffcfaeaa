"""The facts: each trains a small net and measures what a paper says of it, as rows."""

import argparse
import collections
import inspect
import pathlib
import re
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from sklearn.datasets import load_digits

from layerwise.diagnostics import Step
from layerwise.diagnostics.allocation import allocate
from layerwise.diagnostics.curvature import largest_eigenvalue, traces


class Images(NamedTuple):
    """Images with labels, and what they are called.

    Attributes:
        name: The data set.
        x: One flat row an image.
        y: Labels.
    """

    name: str
    x: np.ndarray
    y: np.ndarray


def digits(count: int = 500) -> Images:
    """scikit-learn's digits, embedded."""
    x, y = load_digits(return_X_y=True)
    return Images("digits", (x[:count] / 16).astype("float32"), y[:count])


def from_file(path: str | Path, count: int | None = None) -> Images:
    """The first training images of an .npz file with x_train and y_train, each channel with mean 0 and variance 1."""
    with np.load(path) as file:
        x, y = file["x_train"][:count], file["y_train"][:count].ravel()
    x = x.reshape(len(x), -1, x.shape[-1] if x.ndim == 4 else 1).astype("float32")
    x = (x - x.mean(axis=(0, 1))) / x.std(axis=(0, 1))
    return Images(Path(path).stem, x.reshape(len(x), -1), y)


def tanh_net(images: Images, width: int, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """Two hidden layers of tanh and ten linear outputs under squared error, initialized as in the paper's code."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    layers = [
        keras.layers.Dense(n, activation, kernel_initializer=start)
        for n, activation in ((width, "tanh"), (width, "tanh"), (10, None))
    ]
    model = keras.Sequential([keras.Input(images.x.shape[1:]), *layers])
    model.compile(optimizer, loss="mse")
    return model


def descend(model: keras.Model, x: np.ndarray, y: np.ndarray, steps: int) -> None:
    """So many steps on all examples at once; `fit` makes an epoch of each, which takes far longer on TensorFlow."""
    for _ in range(steps):
        model.train_on_batch(x, y)


def edge(images: Images, at: Sequence[int], width: int, rate: float) -> list[dict]:
    """Full-batch gradient descent: the largest eigenvalue of the Hessian."""
    model, targets = tanh_net(images, width, keras.optimizers.SGD(rate)), np.eye(10)[images.y]
    rows = []
    for before, now in zip((0, *at), at, strict=False):
        descend(model, images.x, targets, now - before)
        step = Step(model, images.x, targets)
        value, residual = largest_eigenvalue(step, range(len(step.blocks)), 10, 0.01)
        measure = "largest eigenvalue"
        rows.append(_row(images, f"rate {rate:g}", now, measure, value, 2 / rate, residual))
    return rows


def adaptive_edge(images: Images, at: Sequence[int], width: int, rate: float) -> list[dict]:
    """Full-batch Adam: the largest eigenvalue of the Hessian, preconditioned as Adam does."""
    first, second = 0.9, 0.99
    optimizer = keras.optimizers.Adam(rate, beta_1=first, beta_2=second)
    model, targets = tanh_net(images, width, optimizer), np.eye(10)[images.y]
    rows = []
    for before, now in zip((0, *at), at, strict=False):
        descend(model, images.x, targets, now - before)
        step = Step(model, images.x, targets)
        squares = [v for v in optimizer.variables if "velocity" in v.path]
        squares = iter([keras.ops.convert_to_numpy(v).astype("float64").ravel() for v in squares])
        means = [np.concatenate([next(squares) for _ in block.variables]) for block in step.blocks]
        # Adam divides the mean gradient by this; both means are corrected for their start at zero.
        lengths = [
            (1 - first**now) * (np.sqrt(v / (1 - second**now)) + optimizer.epsilon) for v in means
        ]
        scales = [1 / np.sqrt(length) for length in lengths]
        blocks = range(len(step.blocks))
        value, residual = largest_eigenvalue(step, blocks, 20, 0.01, scales=scales)
        expected = (2 + 2 * first) / ((1 - first) * rate)
        measure = "largest preconditioned eigenvalue"
        rows.append(_row(images, f"rate {rate:g}", now, measure, value, expected, residual))
    return rows


def hurting(images: Images, at: Sequence[int], batch_size: int = 250) -> list[dict]:
    """Gradient descent on small batches: the share of parameters whose move raises the loss on all images."""
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(n, "relu") for n in (100, 50)] + [keras.layers.Dense(10)]
    model = keras.Sequential([keras.Input(images.x.shape[1:]), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss=loss)
    order, rows, done = np.random.default_rng(0), [], 0
    for now in at:
        while done < now:
            batch = order.choice(len(images.x), batch_size, replace=False)
            model.train_on_batch(images.x[batch], images.y[batch])
            done += 1
        batch = order.choice(len(images.x), batch_size, replace=False)
        move = Step(model, images.x[batch], images.y[batch]).displacement
        parts, error = allocate(Step(model, images.x, images.y), along=move)
        entries = np.concatenate(parts)
        share = float(np.mean(entries[entries != 0] > 0))
        error /= abs(float(entries.sum()))
        rows.append(_row(images, "momentum 0.9", now, "share that hurts", share, 0.5, error))
    return rows


MODULES = (argparse, inspect, typing, pathlib)
KINDS = {
    "embedding": "(embed|place).*",
    "attention": "attention.*",
    "feed-forward": "(grow|shrink).*",
    "normalization": "norm.*",
    "output": "classify",
}


def kinds_of_layers(at: Sequence[int], samples: int = 64) -> list[dict]:
    """A small language model: curvature for each parameter, by kind of layer, from so many random vectors."""
    x, y = words()
    model = transformer()
    model.compile("adam", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    order, rows, done = np.random.default_rng(0), [], 0
    for now in at:
        while done < now:
            batch = order.choice(len(x), 32, replace=False)
            model.train_on_batch(x[batch], y[batch])
            done += 1
        step = Step(model, x[:64], y[:64], blocks=[[pattern] for pattern in KINDS.values()])
        for kind, block, *found in zip(KINDS, step.blocks, *traces(step, samples), strict=False):
            value, error = (float(each) / block.parameters for each in found)
            measure = "trace / parameters"
            rows.append(_row(Images("words", x, y), kind, now, measure, value, np.nan, error))
    return rows


def words(length: int = 32, most: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a text that every Python has, the source of some of its modules, as numbers of words and signs, and the
    word that comes next at each place. The rarest words share a number.
    """
    text = "".join(Path(module.__file__).read_text("utf-8") for module in MODULES)
    found = re.findall(r"[A-Za-z]+|[^A-Za-z\s]|\n", text)
    common = collections.Counter(found).most_common(most - 1)
    number = {word: k + 1 for k, (word, _) in enumerate(common)}
    tokens = np.array([number.get(word, 0) for word in found], "int32")
    count = (len(tokens) - 1) // length
    x, y = tokens[: count * length], tokens[1 : count * length + 1]
    return x.reshape(-1, length), y.reshape(-1, length)


def transformer(width: int = 32, depth: int = 2, length: int = 32, most: int = 2048) -> keras.Model:
    """Embeddings, and blocks of masked attention and a feed-forward part, each after a layer normalization."""
    keras.utils.set_random_seed(0)
    layers, tokens = keras.layers, keras.Input((length,), dtype="int32")
    places = keras.ops.arange(length)
    value = layers.Embedding(most, width, name="embed")(tokens)
    value = value + layers.Embedding(length, width, name="place")(places)
    for k in range(depth):
        normal = layers.LayerNormalization(name=f"norm_{k}a")(value)
        attention = layers.MultiHeadAttention(4, width // 4, name=f"attention_{k}")
        value = value + attention(normal, normal, use_causal_mask=True)
        normal = layers.LayerNormalization(name=f"norm_{k}b")(value)
        hidden = layers.Dense(4 * width, "gelu", name=f"grow_{k}")(normal)
        value = value + layers.Dense(width, name=f"shrink_{k}")(hidden)
    value = layers.LayerNormalization(name="norm_end")(value)
    return keras.Model(tokens, layers.Dense(most, name="classify")(value))


def _row(images, setting, step, measure, value, expected, error):
    return {
        "data": f"{images.name}, {len(images.x)}",
        "setting": setting,
        "step": step,
        "measure": measure,
        "value": value,
        "expected": expected,
        "error": error,
    }
