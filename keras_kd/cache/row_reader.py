"""Reads rows of a cache by their place, in any order."""

import os
import threading
import weakref
from pathlib import Path

import numpy as np

from keras_kd.cache.store import BEFORE, Geometry, shard_name

OPEN_FILES = 64


class RowReader:
    """Reads rows of any examples by their place in the cache, in any order; keeps nothing but a few open files.

    Args:
        folder: The folder of the cache.
        geometry: Where rows lie.
        row: The type of a row.
        examples: Examples of the cache.
    """

    def __init__(self, folder: Path, geometry: Geometry, row: np.dtype, examples: int):
        self._folder, self._geometry, self._row, self._examples = folder, geometry, row, examples
        self._files: dict[int, int] = {}
        self._lock = threading.Lock()  # `tf.data` reads several batches at a time
        weakref.finalize(self, _close, self._files)

    def rows(self, places: np.ndarray, view: int) -> np.ndarray:
        """Rows of a view, in the order of the places."""
        found = np.empty(len(places), self._row)
        ends = [*(np.flatnonzero(np.diff(places) != 1) + 1), len(places)]
        with self._lock:
            for start, end in zip([0, *ends], ends, strict=False):
                self._read(found[start:end].view(np.uint8), int(places[start]) if end > start else 0, view)
        return found

    def _read(self, rows: np.ndarray, place: int, view: int) -> None:
        """Fills the bytes of rows that follow each other."""
        while rows.size:
            shard, inside = divmod(place, self._geometry.shard)
            held = min(self._geometry.shard, self._examples - shard * self._geometry.shard)
            offset, following = self._geometry.run(inside, view, held)
            part = rows[: following * self._row.itemsize]
            if os.preadv(self._file(shard), [part], offset) != part.size:
                raise OSError(
                    f"`open_cache`: {self._folder / shard_name(shard)} was cut short while it was being read."
                )
            rows, place = rows[part.size :], place + following

    def _file(self, shard: int) -> int:
        if shard not in self._files:
            if len(self._files) >= OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
            self._files[shard] = os.open(self._folder / shard_name(shard), os.O_RDONLY)
        return self._files[shard]

    def keys(self) -> np.ndarray:
        """The keys of all examples, in the order of the cache."""
        geometry, found = self._geometry, []
        for first in range(0, self._examples, geometry.block):
            shard, inside = divmod(first, geometry.shard)
            keys = np.empty(min(geometry.block, self._examples - first), "<i8")
            with self._lock:
                start = geometry.block_start(inside // geometry.block) + BEFORE
                os.preadv(self._file(shard), [keys.view(np.uint8)], start)
            found.append(keys)
        return np.concatenate(found)


def _close(files: dict[int, int]) -> None:
    for file in files.values():
        os.close(file)
