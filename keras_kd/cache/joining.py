"""Inputs and stored signals, joined by the key of the example; never by their order alone."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.cache.examples import ID, flat_with_names, without_id
from keras_kd.cache.fingerprints import sums_of, view_seeds
from keras_kd.cache.layout import SEED
from keras_kd.cache.manifest import Manifest
from keras_kd.cache.planning import keys_in
from keras_kd.cache.row_reader import RowReader


class Joiner:
    """Finds for each example of a batch the row that was written for it, and proves that it is.

    A row's seed was drawn from the example's own bits and its key: another example, or an example at another place,
    would have another.

    Args:
        manifest: The cache.
    """

    def __init__(self, manifest: Manifest):
        self._manifest, self._layout = manifest, manifest.plan.layout
        geometry = manifest.plan.geometry
        self._reader = RowReader(manifest.path, geometry, self._layout.row, manifest.examples)
        self._sorted = self._order = None
        if geometry.keyed:
            keys = self._reader.keys()
            self._order = np.argsort(keys)
            self._sorted = keys[self._order]
        self._sample = self._layout.decode(np.zeros(1, self._layout.row))

    @property
    def count(self) -> int:
        """How many examples the cache has."""
        return self._manifest.examples

    def check(self, x: Any, first: int = 0) -> None:
        """Holds a batch, which begins at a place, against its rows.

        Raises:
            ValueError: If they were not written for these examples.
        """
        proved, *_ = self._read(self._first(x, first), 0, *(leaf for _, leaf in flat_with_names(without_id(x))))
        if not proved.all():
            raise ValueError(f"`open_cache`: {self._complaint} The first is example {first + int(np.argmin(proved))}.")

    @property
    def _complaint(self) -> str:
        remedy = (
            "Open it with the examples that the teacher saw."
            if self._sorted is not None
            else f"Open it with the source in the order that the teacher saw, and shuffle afterwards; or give `{ID}`s."
        )
        return f"{self._manifest.path} is the cache of another data set, or of another order of it. {remedy}"

    def __call__(self, x: Any, first: tf.Tensor, view: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """The seeds of a batch and the signals of a view, by the text of their keys."""
        leaves = [leaf for _, leaf in flat_with_names(without_id(x))]
        arguments = [self._first(x, first), view, *leaves]
        proved, *said = tf.numpy_function(self._read, arguments, [tf.bool, *self._dtypes])
        complaint = tf.debugging.Assert(tf.reduce_all(proved), [f"`open_cache`: {self._complaint}"], summarize=1)
        with tf.control_dependencies([complaint]):
            return self._arranged([tf.identity(tensor) for tensor in said], leaves[0].shape[0])

    def replayed(self, places: tf.Tensor, view: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """The same for examples that are proved already, by their places alone."""
        return self._arranged(tf.numpy_function(self._rows_of, [places, view], self._dtypes), None)

    @property
    def _dtypes(self) -> list[Any]:
        return [tf.int32, *(array.dtype for array in tf.nest.flatten(self._sample))]

    def _arranged(self, said: list[tf.Tensor], size: int | None) -> tuple[tf.Tensor, Any]:
        for tensor, array in zip(said, (np.zeros(1), *tf.nest.flatten(self._sample)), strict=True):
            tensor.set_shape((size, *array.shape[1:]))
        return said[0], tf.nest.pack_sequence_as(self._sample, said[1:])

    def _rows_of(self, places: np.ndarray, view: np.ndarray) -> list[np.ndarray]:
        rows = self._reader.rows(places, int(view))
        return [rows[SEED], *tf.nest.flatten(self._layout.decode(rows))]

    def _first(self, x: Any, first: Any) -> Any:
        """The keys of a batch's examples, or the place of its first."""
        return first if self._sorted is None else keys_in(x, first)

    def _read(self, first: Any, view: Any, *leaves: Any) -> list[np.ndarray]:
        """Whether each row was written for its example, its seed, and what it says."""
        sums = sums_of(*leaves)
        keys = np.asarray(first) if np.ndim(first) else first + np.arange(len(sums))
        places, known = self._places(keys)
        rows = self._reader.rows(places, int(view))
        halves = keys.view(np.uint32).reshape(-1, 2)
        seeds = view_seeds(sums, halves, np.array([view], np.uint32), self._manifest.contents["seed"]).view(np.int32)
        return [known & (rows[SEED] == seeds), seeds, *tf.nest.flatten(self._layout.decode(rows))]

    def _places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the examples stand in the cache, and whether they do."""
        if self._sorted is None:
            return np.minimum(keys, self._manifest.examples - 1), keys < self._manifest.examples
        found = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return self._order[found], self._sorted[found] == keys
