"""What the augmentations share: random numbers, checks of arguments, and arithmetic that gives equal bits everywhere.

The graph optimiser may turn `(a + b) + c` into `a + (b + c)` and a division by a constant into a product, which changes
the last bit. Whatever a replayed view depends on is therefore written with products, and without a chain of sums or of
products that begins in a random number: `uniforms` unstacks its numbers, which ends the chain.
"""

import operator

import tensorflow as tf

# A mean of numbers in [0, 1] is taken over whole multiples of this: their float64 sum is exact, so the order in which
# threads add them, which differs with the number of cores, does not reach the result.
GRAIN = 2.0**-24


def uniforms(seed: tf.Tensor, *ranges: tuple[float, float]) -> list[tf.Tensor]:
    """Draws one float32 number from each `(low, high)`."""
    low, high = zip(*ranges, strict=True)
    return tf.unstack(tf.random.stateless_uniform([len(ranges)], seed, minval=low, maxval=high))


def steady_mean(x: tf.Tensor) -> tf.Tensor:
    """Returns the mean of numbers in [0, 1], as float32 and to the same bits whatever the order of the sum."""
    total = tf.reduce_sum(tf.round(tf.cast(x, tf.float64) * (1 / GRAIN)))
    return tf.cast(total * tf.math.reciprocal(tf.cast(tf.size(x), tf.float64)) * GRAIN, tf.float32)


def restored(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Gives float32 results the dtype of the example: whole numbers are rounded and kept within its range."""
    return tf.saturate_cast(tf.round(x), dtype) if dtype.is_integer else tf.cast(x, dtype)


def shifted(x: tf.Tensor, seed: tf.Tensor, reach: int, axes: int) -> tf.Tensor:
    """Moves `x` by up to `reach` places along each of its first `axes` and fills with zeros."""
    still = x.shape.rank - axes
    padded = tf.pad(x, [[reach, reach]] * axes + [[0, 0]] * still)
    offset = tf.random.stateless_uniform([axes], seed, maxval=2 * reach + 1, dtype=tf.int32)
    return tf.slice(padded, tf.concat([offset, [0] * still], axis=0), tf.shape(x))


def box_around(centre: tf.Tensor, extent: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns first and last-plus-one row and column of a box that is cut off where it leaves the image, int32."""
    start = centre - extent // 2
    return tf.clip_by_value(start, 0, size), tf.clip_by_value(start + extent, 0, size)


def pasted(x: tf.Tensor, start: tf.Tensor, stop: tf.Tensor, content: tf.Tensor) -> tf.Tensor:
    """Replaces the box of an image by `content`, of the box's shape."""
    # Several times faster than choosing between two images by a mask.
    return tf.raw_ops.TensorStridedSliceUpdate(input=x, begin=start, end=stop, strides=[1, 1], value=content)


def between(index: tf.Tensor, start: tf.Tensor, stop: tf.Tensor) -> tf.Tensor:
    """Tells which of `index` lie in `[start, stop)`."""
    return (index >= start) & (index < stop)


def whole(owner: str, name: str, value: int, least: int = 0) -> int:
    """Returns `value` as an `int`, or raises."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"`{owner}`: `{name}` must be an integer. Received: {name}={value!r}.") from None
    require(value >= least, owner, f"`{name}` must be {least} or more", **{name: value})
    return value


def within(owner: str, name: str, value: float, low: float, high: float = float("inf")) -> float:
    """Returns `value` as a `float`, or raises."""
    wanted = f"{low} or more" if high == float("inf") else f"from {low} to {high}"
    require(low <= value <= high and value != float("inf"), owner, f"`{name}` must be {wanted}", **{name: value})
    return float(value)


def require(condition: bool, owner: str, expected: str, **received: object) -> None:
    """Raises ValueError unless the condition holds."""
    if not condition:
        values = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"`{owner}`: {expected}. Received: {values}.")
