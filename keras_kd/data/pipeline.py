"""The input pipeline: transform, cache, shuffle, augment, batch, prefetch."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def pipeline(
    dataset: tf.data.Dataset,
    *,
    batch_size: int = 128,
    training: bool = False,
    transform: Callable[[tf.Tensor], tf.Tensor] | None = None,
    augment: Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | None = None,
    seed: int = 0,
) -> tf.data.Dataset:
    """Turns single examples into the batches that `fit` takes.

    Order and augmentation follow `seed`, and the global seed where `keras.utils.set_random_seed` was called: each epoch
    draws anew, and every run draws the same. The last batch keeps whatever is left over. The function is short on
    purpose: copy it and change any line.

    What an epoch draws depends on how many iterators were made before it, read or not: `for _ in range(n): iter(data)`
    puts a new pipeline where an old one stood after `n` of them. `fit` of Keras 3.15 makes two per epoch.

    Args:
        dataset: unbatched `(x, y)`, `(x, y, sample_weight)` or `x` alone, in a stable order.
        batch_size: examples per batch.
        training: whether to shuffle and augment. Without it the order is that of `dataset`.
        transform: `x -> x`, run once per example and then cached in memory; see `input_transform`.
        augment: `(x, seed) -> x`, run on each example in each epoch with a new seed of shape `(2,)`, in training only;
            see `random_shift`, and `compose` for several. `mixup` and `cutmix` mix labels too.
        seed: what the order and the augmentation are drawn from.

    Returns:
        The dataset of batches, its elements in the same form as those of `dataset`.

    Raises:
        ValueError: if `batch_size` is less than 1, or the data set is that of `open_cache`, which needs no pipeline.

    Example:
        >>> import keras_kd.data
        >>> source = keras_kd.data.load("digits")
        >>> train = pipeline(source.train, training=True, augment=keras_kd.data.random_shift(1))
        >>> x, y = next(iter(train))
        >>> x.shape, y.shape, len(train)
        (TensorShape([128, 8, 8, 1]), TensorShape([128]), 10)
    """
    if batch_size < 1:
        raise ValueError(f"`pipeline`: `batch_size` must be at least 1. Received: batch_size={batch_size}.")
    x = dataset.element_spec[0] if isinstance(dataset.element_spec, tuple) else dataset.element_spec
    if hasattr(x, "signals"):
        raise ValueError(
            "`pipeline`: it would hold on to one view of a cached teacher. Received the data set of `open_cache`. "
            "Shuffle and batch that itself: `cached.shuffle(10_000).batch(128).prefetch(2)`."
        )
    if transform is not None:
        dataset = _map_x(dataset, transform)
    dataset = dataset.cache()
    if training:
        dataset = dataset.shuffle(dataset.cardinality(), seed=seed, reshuffle_each_iteration=True)
        if augment is not None:
            seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(2, drop_remainder=True)
            mixes = getattr(augment, "mixes", False)
            dataset = _mixed(dataset, augment, seeds, seed) if mixes else _map_x(dataset, augment, seeds)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


def _mixed(dataset: tf.data.Dataset, augment: Any, seeds: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Mixes each example, and its label where there is one, with another that is drawn for it."""
    partners = dataset.shuffle(dataset.cardinality(), seed=seed + 1, reshuffle_each_iteration=True)

    def mix(element, partner, seed):
        if not isinstance(element, tuple):
            return augment(element, seed, partner)
        (x, y, *rest), (partner_x, partner_y, *_) = element, partner
        return augment(x, seed, partner_x), augment.mix_labels(y, seed, partner_y), *rest

    return tf.data.Dataset.zip((dataset, partners, seeds)).map(mix, tf.data.AUTOTUNE)


def _map_x(dataset: tf.data.Dataset, function: Callable[..., tf.Tensor], *drawn: tf.data.Dataset) -> tf.data.Dataset:
    """Replaces `x` by `function(x, *drawn)` and leaves labels and weights as they are."""

    def on_element(element, *values):
        if isinstance(element, tuple):
            x, *rest = element
            return (function(x, *values), *rest)
        return function(element, *values)

    return tf.data.Dataset.zip((dataset, *drawn)).map(on_element, tf.data.AUTOTUNE)
