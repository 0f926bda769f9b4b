"""Augmentations that draw from a seed they are given, so that a cached teacher can see the same view again."""

from collections.abc import Callable

import tensorflow as tf


def random_shift(max_pixels: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Makes an augmentation that moves an image by up to `max_pixels` in each direction and fills with zeros.

    All `(2 * max_pixels + 1) ** 2` shifts are equally likely.

    Args:
        max_pixels: the largest shift along height and along width, 0 or more.

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)` and integers `seed` of shape `(2,)`.
        The result has the shape and dtype of `x` and depends on nothing but the two.

    Raises:
        ValueError: if `max_pixels` is negative.

    Example:
        >>> import keras_kd.data
        >>> (x, _), _ = keras_kd.data.digits()
        >>> shifted = random_shift(2)(x[0], (0, 1))
        >>> shifted.shape
        TensorShape([8, 8, 1])
    """
    if max_pixels < 0:
        raise ValueError(f"`random_shift`: `max_pixels` must be 0 or more. Received: max_pixels={max_pixels}.")

    def augment(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        padded = tf.pad(x, [[max_pixels, max_pixels], [max_pixels, max_pixels], [0, 0]])
        offset = tf.random.stateless_uniform([2], seed, maxval=2 * max_pixels + 1, dtype=tf.int32)
        shifted = tf.slice(padded, tf.concat([offset, [0]], axis=0), tf.shape(x))
        return tf.ensure_shape(shifted, x.shape)

    return augment
