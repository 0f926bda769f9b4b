"""Inputs and stored signals, joined by the key of the example; never by their order alone."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from keras_kd.cache.examples import ID, flat_with_names, without_id
from keras_kd.cache.fingerprints import sums_of, view_seeds
from keras_kd.cache.layout import SEED
from keras_kd.cache.manifest import Manifest
from keras_kd.cache.planning import keys_in
from keras_kd.cache.row_reader import RowReader

Decoded = dict[str, dict[str, np.ndarray]]


class _Rows:
    """The rows of one cache, found by the keys of their examples.

    Args:
        manifest: The cache.
        member: Its place among those that are opened together, `None` where it is the only one.
    """

    def __init__(self, manifest: Manifest, member: int | None):
        layout = manifest.plan.layout
        self._layout = replace(layout, keys=[replace(key, member=member) for key in layout.keys])
        self._reader = RowReader(manifest.path, manifest.plan.geometry, layout.row, manifest.examples)
        self._path, self._count = manifest.path, manifest.examples
        self._sorted = self._order = None
        if manifest.plan.geometry.keyed:
            keys = self._reader.keys()
            self._order = np.argsort(keys)
            self._sorted = keys[self._order]

    @property
    def sample(self) -> Decoded:
        """What a row says, of zeros."""
        return self._layout.decode(np.zeros(1, self._layout.row))

    @property
    def complaint(self) -> str:
        """What is said where they are not those of the examples."""
        remedy = (
            "Open it with the examples that the teacher saw."
            if self._sorted is not None
            else f"Open it with the source in the order that the teacher saw, and shuffle afterwards; or give `{ID}`s."
        )
        return f"{self._path} is the cache of another data set, or of another order of it. {remedy}"

    def read(self, keys: np.ndarray, view: int) -> tuple[np.ndarray, np.ndarray, Decoded]:
        """Whether there are rows of these keys, their seeds, and what they say."""
        places, known = self._places(keys)
        rows = self._reader.rows(places, view)
        return known, rows[SEED], self._layout.decode(rows)

    def _places(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the examples stand in the cache, and whether they do."""
        if self._sorted is None:
            return np.minimum(keys, self._count - 1), keys < self._count
        found = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return self._order[found], self._sorted[found] == keys


class Joiner:
    """Finds for each example of a batch the row that was written for it in each cache, and proves that it is.

    A row's seed was drawn from the example's own bits and its key: another example, or an example at another place,
    would have another.

    Args:
        manifests: The caches: of one data set, in views of the same seeds.
    """

    def __init__(self, manifests: Sequence[Manifest]):
        self._manifest = manifests[0]
        alone = len(manifests) == 1
        self._caches = [_Rows(manifest, None if alone else member) for member, manifest in enumerate(manifests)]
        self._sample = _together(cache.sample for cache in self._caches)

    @property
    def count(self) -> int:
        """How many examples the caches have."""
        return self._manifest.examples

    @property
    def views(self) -> int:
        """How many views of each."""
        return self._manifest.views

    @property
    def keyed(self) -> bool:
        """Whether the examples are known by their ids."""
        return self._manifest.plan.geometry.keyed

    @property
    def bytes_of_a_view(self) -> int:
        """What the seeds and signals of a view take in memory."""
        return self.count * (np.dtype(np.int32).itemsize + sum(array.nbytes for array in tf.nest.flatten(self._sample)))

    def check(self, x: Any, first: int = 0) -> None:
        """Holds a batch, which begins at a place, against its rows.

        Raises:
            ValueError: If they were not written for these examples.
        """
        proved, *_ = self._read(self._first(x, first), 0, *(leaf for _, leaf in flat_with_names(without_id(x))))
        for cache, of_cache in zip(self._caches, proved, strict=True):
            if not of_cache.all():
                place = first + int(np.argmin(of_cache))
                raise ValueError(f"`open_cache`: {cache.complaint} The first is example {place}.")

    def __call__(self, x: Any, first: tf.Tensor, view: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """The seeds of a batch and the signals of a view, by the text of their keys."""
        leaves = [leaf for _, leaf in flat_with_names(without_id(x))]
        arguments = [self._first(x, first), view, *leaves]
        proved, *said = tf.numpy_function(self._read, arguments, [tf.bool, *self._dtypes])
        complaints = [
            tf.debugging.Assert(tf.reduce_all(proved[index]), [f"`open_cache`: {cache.complaint}"], summarize=1)
            for index, cache in enumerate(self._caches)
        ]
        with tf.control_dependencies(complaints):
            return self._arranged([tf.identity(tensor) for tensor in said], leaves[0].shape[0])

    def replayed(self, places: tf.Tensor, view: tf.Tensor) -> tuple[tf.Tensor, Any]:
        """The same for examples that are proved already, by their places alone."""
        return self._arranged(tf.numpy_function(self._replay, [places, view], self._dtypes), None)

    @property
    def _dtypes(self) -> list[Any]:
        return [tf.int32, *(array.dtype for array in tf.nest.flatten(self._sample))]

    def _arranged(self, said: list[tf.Tensor], size: int | None) -> tuple[tf.Tensor, Any]:
        for tensor, array in zip(said, (np.zeros(1), *tf.nest.flatten(self._sample)), strict=True):
            tensor.set_shape((size, *array.shape[1:]))
        return said[0], tf.nest.pack_sequence_as(self._sample, said[1:])

    def _first(self, x: Any, first: Any) -> Any:
        """The keys of a batch's examples, or the place of its first."""
        return keys_in(x, first) if self.keyed else first

    def _read(self, first: Any, view: Any, *leaves: Any) -> list[np.ndarray]:
        """Whether each row was written for its example, cache by cache, their seeds, and what they say."""
        sums = sums_of(*leaves)
        keys = np.asarray(first) if np.ndim(first) else first + np.arange(len(sums))
        halves = keys.view(np.uint32).reshape(-1, 2)
        seeds = view_seeds(sums, halves, np.array([view], np.uint32), self._manifest.contents["seed"]).view(np.int32)
        known, held, said = zip(*(cache.read(keys, int(view)) for cache in self._caches), strict=True)
        return [np.stack(known) & (np.stack(held) == seeds), seeds, *tf.nest.flatten(_together(said))]

    def _replay(self, places: np.ndarray, view: np.ndarray) -> list[np.ndarray]:
        """The seeds of a view, the same in every cache, and what it says."""
        _, held, said = zip(*(cache.read(places, int(view)) for cache in self._caches), strict=True)
        return [held[0], *tf.nest.flatten(_together(said))]


def _together(said: Iterable[Decoded]) -> Decoded:
    return {key: tensors for of_cache in said for key, tensors in of_cache.items()}
