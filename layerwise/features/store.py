"""Rows of features, found by the content of the example that they belong to, in memory or on disk."""

import os
import shutil
import tempfile

import keras
import numpy as np

CHUNK_BYTES = 2**24


class Level:
    """Rows of features and of masks, found by key."""

    def __init__(self, folder):
        self._folder = None if folder is None else tempfile.mkdtemp(dir=folder)
        self._at, self._columns = {}, None

    def __len__(self):
        return len(self._at)

    def read(self, keys):
        """Features and masks (None: there are none) of these keys, or None if a key is unknown."""
        positions = list(map(self._at.get, keys))
        if None in positions:
            return None
        positions = np.array(positions)
        return [None if column is None else column.read(positions) for column in self._columns]

    def write(self, keys, arrays):
        """Keeps the rows whose keys are not known."""
        if self._columns is None:
            self._columns = [None if a is None else _Rows(a, self._folder) for a in arrays]
        new = [i for i, key in enumerate(keys) if key not in self._at]
        first = self._columns[0].size
        for column, array in zip(self._columns, arrays, strict=True):
            if column is not None:
                column.append(array if len(new) == len(keys) else array[new])
        self._at.update(zip([keys[i] for i in new], range(first, first + len(new)), strict=True))

    def close(self):
        self._at, self._columns = {}, None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Rows:
    """A growing array of rows, in chunks, so that growing copies nothing."""

    def __init__(self, like, folder):
        self._shape, self._dtype, self._folder = like.shape[1:], like.dtype, folder
        self._each = max(1, CHUNK_BYTES // max(1, like[:1].nbytes))
        self._chunks, self.size = [], 0

    def append(self, rows):
        if rows.shape[1:] != self._shape:
            raise ValueError(
                f"Features of one shape can be cached, got {self._shape} and then {rows.shape[1:]} "
                "an example. Pad all examples to one length, or pass cache_features=None."
            )
        while len(rows):
            number, start = divmod(self.size, self._each)
            if number == len(self._chunks):
                self._chunks.append(self._new_chunk())
            now, rows = np.split(rows, [min(len(rows), self._each - start)])
            self._chunks[number][start : start + len(now)] = now
            self.size += len(now)

    def read(self, positions):
        numbers, starts = np.divmod(positions, self._each)
        if len(self._chunks) == 1:
            return self._chunks[0][positions]
        rows = np.empty((len(positions), *self._shape), self._dtype)
        for number in np.unique(numbers):
            here = numbers == number
            rows[here] = self._chunks[number][starts[here]]
        return rows

    def _new_chunk(self):
        shape = (self._each, *self._shape)
        if self._folder is None:
            return np.empty(shape, self._dtype)
        file, path = tempfile.mkstemp(dir=self._folder)
        try:
            size = int(np.prod(shape)) * self._dtype.itemsize
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(
                    file, 0, max(1, size)
                )  # a full disk raises here; a write to the map would kill
        finally:
            os.close(file)
        return np.memmap(path, self._dtype, mode="r+", shape=shape)


def keys_of(x):
    """A key of each example's content."""
    leaves = [
        keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(x) if leaf is not None
    ]
    contents = [
        [str(row.tolist()) if leaf.dtype == object else row.tobytes() for row in leaf]
        for leaf in leaves
    ]
    return list(map(hash, zip(*contents, strict=True)))
