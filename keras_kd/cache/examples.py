"""A data set seen example by example: batched or not, with or without ids, as arrays or as `tf.data`."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BLOCK = 256
ID = "tfds_id"
OPEN_SIZE = 32
STRETCH_BYTES = 2**22


@dataclass(frozen=True)
class Examples:
    """A source of examples in its stable order, or in any order where each carries its `tfds_id`.

    Attributes:
        dataset: The source as it came.
        batched: Whether its elements are batches.
        spec: What one example's inputs look like, without the id, as JSON text.
    """

    dataset: tf.data.Dataset
    batched: bool
    spec: str

    @classmethod
    def of(
        cls,
        data: Any,
        owner: str,
        ranks: list[int] | None = None,
        spec: str | None = None,
        seen: Callable[[Any], Any] = lambda x: x,
    ) -> "Examples":
        """Reads what a user hands over as data.

        Args:
            data: A `tf.data.Dataset`, an array, a dict of arrays, or a tuple `(x, y[, sample_weight])` of those.
            owner: Who asks, for the text of errors.
            ranks: Ranks of the batches that the teacher takes, where they are known.
            spec: What an example looks like, where a cache says it.
            seen: Picks from the inputs what the teacher takes. Defaults to all.

        Raises:
            ValueError: If it is none of these.
        """
        dataset = as_dataset(data, owner)
        x, rest = split(dataset.element_spec)
        if spec in (_spec(x, batched=False), _spec(x, batched=True)):
            batched = _spec(x, batched=False) != spec
        elif ranks is not None and len(ranks) == len(taken := keras.tree.flatten(seen(without_id(x)))):
            batched = [leaf.shape.rank for leaf in taken] == ranks
        else:
            shapes = [leaf.shape for leaf in keras.tree.flatten((without_id(x), rest))]
            batched = all(shape.rank and shape[0] is None for shape in shapes)
        return cls(dataset, batched, _spec(x, batched))

    @property
    def has_ids(self) -> bool:
        """Whether the examples carry a `tfds_id`, by which they are known in any order."""
        x, _ = split(self.dataset.element_spec)
        return isinstance(x, Mapping) and ID in x

    @property
    def tensors(self) -> Any | None:
        """The tensors that the examples are slices of; `None` where they come from elsewhere, and may change."""
        # TensorFlow has no public way to what a data set slices; mapping it costs more than the rest of the pipeline.
        slices = tf.data.Dataset.from_tensor_slices([0])
        source = self.dataset
        if self.batched:
            whole = type(source) is type(slices.batch(1)) and not self.drops_remainder
            source = getattr(source, "_input_dataset", None) if whole else None
        if type(source) is not type(slices) or not hasattr(source, "_tensors"):
            return None
        return tf.nest.pack_sequence_as(source.element_spec, source._tensors)

    @property
    def count(self) -> int | None:
        """The number of examples, where the source knows it."""
        size = int(self.dataset.cardinality())
        return size if size >= 0 and not self.batched else None

    def counted(self) -> int:
        """The number of examples, counted where it is not known."""
        if self.count is not None:
            return self.count
        return int(self.blocks().reduce(tf.constant(0, tf.int64), lambda sum, element: sum + size_of(element)))

    @property
    def block_size(self) -> int:
        """Examples are handled in blocks; one by one where their sizes differ."""
        fixed = all(tf.TensorShape(shape).is_fully_defined() for _, shape, _ in json.loads(self.spec))
        return BLOCK if fixed else 1

    def blocks(self, size: int | None = None) -> tf.data.Dataset:
        """The examples in blocks, each from a multiple of the size on; of `block_size` if none is given."""
        size = size or self.block_size
        return self.dataset.rebatch(size) if self.batched else self.dataset.batch(size)

    @property
    def stretch(self) -> int:
        """How many examples are best read at a time where nothing is mixed within a block."""
        if self.block_size == 1:
            return 1
        size = sum(math.prod(shape) * tf.as_dtype(dtype).size for _, shape, dtype in json.loads(self.spec))
        return max(1, min(4 * BLOCK, STRETCH_BYTES // max(size, 1)))

    @property
    def drops_remainder(self) -> bool:
        """Whether all batches have one size, which the last examples may not fill."""
        return self.batched and self._first_leaf.shape[0] is not None

    @cached_property
    def batch_size(self) -> int:
        """The size of the first batch."""
        return self._first_leaf.shape[0] or next(int(size_of(element)) for element in self.dataset)

    @property
    def _first_leaf(self) -> tf.TensorSpec:
        return keras.tree.flatten(self.dataset.element_spec)[0]

    def batched_alike(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Single examples in batches of the size of the source's first, where it has batches."""
        return dataset.batch(self.batch_size, drop_remainder=self.drops_remainder) if self.batched else dataset

    def rebatched(self, blocks: tf.data.Dataset) -> tf.data.Dataset:
        """Blocks cut into batches of the size of the source's first."""
        return blocks.rebatch(self.batch_size, drop_remainder=self.drops_remainder)

    def has_even_batches(self, count: int) -> bool:
        """Whether `count` examples in batches of the size of the first are as many batches as the source has."""
        whole, rest = divmod(count, self.batch_size)
        return int(self.dataset.cardinality()) == whole + (rest > 0 and not self.drops_remainder)

    def made_up(self, count: int) -> Any:
        """So many inputs of the same kind, the same for every source of that kind."""
        x, _ = split(self.dataset.element_spec)
        shapes = {name: shape for name, shape, _ in json.loads(self.spec)}
        rng = np.random.default_rng(0)

        def make(name, leaf):
            shape = [OPEN_SIZE if size is None else size for size in shapes[name]]
            if leaf.dtype == tf.string:
                return tf.constant(rng.integers(0, 10, (count, *shape)).astype(str))
            values = rng.random((count, *shape)) * (1 if leaf.dtype.is_floating else min(leaf.dtype.max, 255))
            return tf.cast(values, leaf.dtype)

        return _mapped_with_names(make, without_id(x))


def as_dataset(data: Any, owner: str) -> tf.data.Dataset:
    """Arrays as a data set, floats in Keras's own type as `fit` would have them; a data set as it is."""
    if isinstance(data, tf.data.Dataset):
        return data
    leaves = keras.tree.flatten(data)
    if not leaves or not all(hasattr(leaf, "shape") and len(leaf.shape) for leaf in leaves):
        raise ValueError(
            f"`{owner}`: `dataset` must be a `tf.data.Dataset`, or arrays: x, or (x, y). Received: {type(data)}."
        )
    return tf.data.Dataset.from_tensor_slices(keras.tree.map_structure(_in_float_type, data))


def size_of(element: Any) -> tf.Tensor:
    """The number of examples in a batch."""
    return tf.shape(keras.tree.flatten(element)[0], tf.int64)[0]


def _mapped_with_names(function: Any, x: Any) -> Any:
    named = [function("/".join(map(str, path)), leaf) for path, leaf in keras.tree.flatten_with_path(x)]
    return keras.tree.pack_sequence_as(x, named)


def _in_float_type(array: Any) -> Any:
    array = np.asarray(array)
    return array.astype(keras.config.floatx()) if array.dtype == np.float64 else array


def split(element: Any) -> tuple[Any, tuple[Any, ...]]:
    """The inputs of an element, and what comes with them: labels, sample weights."""
    return (element[0], element[1:]) if isinstance(element, tuple) else (element, ())


def without_id(x: Any) -> Any:
    """The inputs less their id."""
    return {name: leaf for name, leaf in x.items() if name != ID} if isinstance(x, Mapping) else x


def _spec(x: Any, batched: bool) -> str:
    shapes = [(name, leaf.shape[1:] if batched else leaf.shape, leaf) for name, leaf in flat_with_names(without_id(x))]
    return json.dumps([[name, list(shape), leaf.dtype.name] for name, shape, leaf in shapes])


def flat_with_names(x: Any) -> list[tuple[str, Any]]:
    """The tensors of a structure with their paths, sorted by path."""
    flat = keras.tree.flatten_with_path(x)
    return sorted(("/".join(map(str, path)), leaf) for path, leaf in flat)
