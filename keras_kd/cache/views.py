"""Views: an example as an augmentation shows it under a stored seed."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

Augment = Callable[..., Any]


def mixes(augment: Augment | None) -> bool:
    """Whether an augmentation mixes an example with a partner, as mixup does."""
    return bool(getattr(augment, "mixes", False))


def name_of(augment: Augment) -> str:
    """What an augmentation is called, the same in every process."""
    text = repr(augment)
    return text if " at 0x" not in text else getattr(augment, "__qualname__", type(augment).__qualname__)


def partners(structure: Any, seeds: tf.Tensor) -> Any:
    """For each example of a block the one it is mixed with, drawn from the block by the example's seed."""
    size = tf.cast(tf.shape(seeds)[0], tf.int32)
    chosen = tf.math.floormod(seeds, size)
    return keras.tree.map_structure(lambda leaf: tf.gather(leaf, chosen), structure)


def pair_of(seed: tf.Tensor) -> tf.Tensor:
    """The seed as TensorFlow's stateless functions take it: two numbers."""
    return tf.stack([seed, tf.zeros_like(seed)])


def shown(augment: Augment, x: Any, seed: tf.Tensor, *partner: Any) -> Any:
    """One example, as the augmentation shows it."""
    return augment(x, pair_of(seed), *partner)


def view_of_block(augment: Augment | None, x: Any, seeds: tf.Tensor) -> tf.data.Dataset:
    """A data set of one element: a block in the view that its seeds draw."""
    if augment is None:
        return tf.data.Dataset.from_tensors(x)
    parts = (x, seeds, *([partners(x, seeds)] if mixes(augment) else []))
    examples = tf.data.Dataset.from_tensor_slices(parts).map(
        lambda x, seed, *partner: shown(augment, x, seed, *partner), tf.data.AUTOTUNE
    )
    return examples.batch(tf.shape(seeds, tf.int64)[0])


def mixed_labels(augment: Augment, y: Any, seed: tf.Tensor, partner: Any) -> Any:
    """The labels of an example that was mixed with a partner."""
    return augment.mix_labels(y, pair_of(seed), partner)
