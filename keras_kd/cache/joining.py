"""Inputs and stored signals, joined by the key of the example; never by their order alone."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.cache.examples import ID
from keras_kd.cache.layout import SEED
from keras_kd.cache.manifest import Manifest
from keras_kd.cache.planning import keys_in, seeds_in
from keras_kd.cache.store import RowReader


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

    def check(self, x: Any) -> None:
        """Holds a first batch against its rows.

        Raises:
            ValueError: If they were not written for these examples.
        """
        keys = keys_in(x, 0).numpy()
        places, known = self._places(keys)
        wrong = self._reader.rows(places, 0)[SEED] != seeds_in(x, keys, 0, self._manifest.contents["seed"]).numpy()
        wrong |= ~known
        if wrong.any():
            raise ValueError(f"`open_cache`: {self._complaint} The first is example {int(np.argmax(wrong))}.")

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
        keys = keys_in(x, first)
        flat = tf.nest.flatten(self._sample)
        proved, seeds, *tensors = tf.numpy_function(
            self._read,
            [keys, seeds_in(x, keys, view, self._manifest.contents["seed"]), view],
            [tf.bool, tf.int32, *(array.dtype for array in flat)],
        )
        complaint = tf.debugging.Assert(tf.reduce_all(proved), [f"`open_cache`: {self._complaint}"], summarize=1)
        size = keys.shape[0]
        with tf.control_dependencies([complaint]):
            signals = [
                tf.ensure_shape(tensor, (size, *array.shape[1:])) for tensor, array in zip(tensors, flat, strict=True)
            ]
            return tf.ensure_shape(seeds, (size,)), tf.nest.pack_sequence_as(self._sample, signals)

    def _read(self, keys: np.ndarray, seeds: np.ndarray, view: np.ndarray) -> list[np.ndarray]:
        places, known = self._places(keys)
        rows = self._reader.rows(places, int(view))
        return [known & (rows[SEED] == seeds), seeds, *tf.nest.flatten(self._layout.decode(rows))]

    def _places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the examples stand in the cache, and whether they do."""
        if self._sorted is None:
            return np.minimum(keys, self._manifest.examples - 1), keys < self._manifest.examples
        found = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return self._order[found], self._sorted[found] == keys
