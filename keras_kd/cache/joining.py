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

    def check(self, x: Any) -> None:
        """Holds a first batch against its rows.

        Raises:
            ValueError: If they were not written for these examples.
        """
        proved, *_ = self._read(self._first(x, 0), 0, *(leaf for _, leaf in flat_with_names(without_id(x))))
        if not proved.all():
            raise ValueError(f"`open_cache`: {self._complaint} The first is example {int(np.argmin(proved))}.")

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
        flat = tf.nest.flatten(self._sample)
        leaves = [leaf for _, leaf in flat_with_names(without_id(x))]
        proved, seeds, *tensors = tf.numpy_function(
            self._read, [self._first(x, first), view, *leaves], [tf.bool, tf.int32, *(array.dtype for array in flat)]
        )
        for tensor, array in zip((seeds, *tensors), (np.zeros(1), *flat), strict=True):
            tensor.set_shape((leaves[0].shape[0], *array.shape[1:]))
        complaint = tf.debugging.Assert(tf.reduce_all(proved), [f"`open_cache`: {self._complaint}"], summarize=1)
        with tf.control_dependencies([complaint]):
            return tf.identity(seeds), tf.nest.pack_sequence_as(self._sample, [tf.identity(t) for t in tensors])

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
