"""Augmentations of images."""

import math
import sys

import tensorflow as tf

from keras_kd.data.augmentations import Augmentation
from keras_kd.data.drawing import (
    box_around,
    pasted,
    require,
    restored,
    shifted,
    steady_mean,
    uniforms,
    whole,
    within,
)


def random_shift(max_pixels: int) -> Augmentation:
    """Makes an augmentation that moves an image by up to `max_pixels` in each direction and fills with zeros.

    All `(2 * max_pixels + 1) ** 2` shifts are equally likely. It is the padding followed by a random crop that many
    papers use.

    Args:
        max_pixels: the largest shift along height and along width, 0 or more.

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)` and integers `seed` of shape `(2,)`.
        The result has the shape and dtype of `x` and depends on nothing but the two.

    Raises:
        TypeError: if `max_pixels` is not an integer.
        ValueError: if `max_pixels` is negative.

    Example:
        >>> import keras_kd.data
        >>> (x, _), _ = keras_kd.data.digits()
        >>> shifted = random_shift(2)(x[0], (0, 1))
        >>> shifted.shape
        TensorShape([8, 8, 1])
    """
    max_pixels = whole("random_shift", "max_pixels", max_pixels)
    return Augmentation("random_shift", _shift, "image", {"max_pixels": max_pixels})


def random_flip() -> Augmentation:
    """Makes an augmentation that swaps left and right of every second image.

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)` and integers `seed` of shape `(2,)`.

    Example:
        >>> x = [[[1], [2], [3]]]
        >>> [random_flip()(x, (0, index)).numpy().ravel().tolist() for index in (0, 1)]
        [[1, 2, 3], [3, 2, 1]]
    """
    return Augmentation("random_flip", _flip, "image")


def random_crop(scale: tuple[float, float] = (0.08, 1.0), aspect: tuple[float, float] = (3 / 4, 4 / 3)) -> Augmentation:
    r"""Makes an augmentation that cuts a part out of an image and enlarges it to the image's own size.

    The part has the area `s · height · width` and `width / height = a`, with `s` uniform in `scale` and `ln a` uniform
    between the logarithms of `aspect`; a side that would be longer than the image's is cut to it. Its place is uniform.
    Neither is rounded to pixels: the part is read by bilinear interpolation.

    Args:
        scale: least and largest share of the area, `0 < low <= high <= 1`. Defaults to (0.08, 1).
        aspect: least and largest width of a part of height 1, in pixels, `0 < low <= high`. Defaults to (3/4, 4/3).

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)` and integers `seed` of shape `(2,)`.

    Raises:
        ValueError: if `scale` or `aspect` is not such a pair.

    Example:
        >>> random_crop(scale=(0.5, 1.0), aspect=(1.0, 1.0))
        random_crop(scale=(0.5, 1.0), aspect=(1.0, 1.0))

    Reference:
        Szegedy et al. Going Deeper with Convolutions. 2014. arXiv:1409.4842. The paper gives the ranges; how a part
        that does not fit is treated, and `ln a`, are ours.
    """
    pairs = {
        "scale": _pair("scale", scale, "0 < low <= high <= 1", highest=1.0),
        "aspect": _pair("aspect", aspect, "0 < low <= high, both finite", highest=sys.float_info.max),
    }
    return Augmentation("random_crop", _crop, "image", pairs)


def random_rotation(max_degrees: float = 15.0) -> Augmentation:
    """Makes an augmentation that turns an image about its centre and fills with zeros.

    The angle is uniform between `-max_degrees` and `max_degrees`, a positive one counter-clockwise; pixels are read by
    bilinear interpolation.

    Args:
        max_degrees: the largest angle, from 0 to 180. Defaults to 15.

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)` and integers `seed` of shape `(2,)`.

    Raises:
        ValueError: if `max_degrees` is outside its range.

    Example:
        >>> random_rotation(max_degrees=10)
        random_rotation(max_degrees=10.0)
    """
    max_degrees = within("random_rotation", "max_degrees", max_degrees, 0, 180)
    return Augmentation("random_rotation", _rotate, "image", {"max_degrees": max_degrees})


def random_colour(
    brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.0, hue: float = 0.0
) -> Augmentation:
    r"""Makes an augmentation that changes brightness, contrast, saturation and hue, in this order.

    With `m` the mean of all pixels and channels: `clip(c · (x - m) + m + b, 0, 1)`, `b` uniform in `±brightness` and
    `c` in `1 ± contrast`. Then, in hue, saturation and value: saturation times a number uniform in `1 ± saturation`,
    and hue plus one uniform in `±hue`.

    Args:
        brightness: share of the range of pixels, from 0 to 1. Defaults to 0.2.
        contrast: from 0 to 1. Defaults to 0.2.
        saturation: from 0 to 1, for images of 3 channels. Defaults to 0: unchanged.
        hue: in turns of the colour wheel, from 0 to 0.5, for images of 3 channels. Defaults to 0: unchanged.

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)`, uint8 or any float dtype in [0, 1],
        and integers `seed` of shape `(2,)`. It raises ValueError if the image has another dtype, or not 3 channels
        where saturation or hue asks for them.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        >>> random_colour(brightness=0.1)
        random_colour(brightness=0.1, contrast=0.2, saturation=0.0, hue=0.0)
    """
    given = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    limits = {"hue": 0.5}
    settings = {name: within("random_colour", name, value, 0, limits.get(name, 1)) for name, value in given.items()}
    return Augmentation("random_colour", _colour, "image", settings)


def random_cutout(size: int) -> Augmentation:
    """Makes an augmentation that sets a square of an image to zero.

    Every pixel is equally likely to be the square's centre; what lies outside the image is cut off.

    Args:
        size: side of the square in pixels, 0 or more.

    Returns:
        `augment(x, seed)`, for one image `x` of shape `(height, width, channels)` and integers `seed` of shape `(2,)`.

    Raises:
        TypeError: if `size` is not an integer.
        ValueError: if `size` is negative.

    Example:
        >>> cut = random_cutout(3)([[[1]] * 3] * 3, (0, 1))    # of 3x3 pixels, the square covers 4, 6 or 9
        >>> int(9 - cut.numpy().sum())
        6

    Reference:
        DeVries, Taylor. Improved Regularization of Convolutional Neural Networks with Cutout. 2017. arXiv:1708.04552.
        The authors' code makes a square of odd size one pixel smaller.
    """
    return Augmentation("random_cutout", _cut_out, "image", {"size": whole("random_cutout", "size", size)})


def _shift(x: tf.Tensor, seed: tf.Tensor, max_pixels: int) -> tf.Tensor:
    return shifted(x, seed, max_pixels, axes=2)


def _flip(x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    drawn = tf.random.stateless_uniform([], seed, maxval=2, dtype=tf.int32)
    return tf.raw_ops.Reverse(tensor=x, dims=tf.stack([False, drawn == 1, False]))


def _crop(x: tf.Tensor, seed: tf.Tensor, scale: tuple[float, float], aspect: tuple[float, float]) -> tf.Tensor:
    share, stretch, *place = uniforms(seed, scale, tuple(math.log(value) / 2 for value in aspect), (0, 1), (0, 1))
    size = tf.cast(tf.shape(x)[:2], tf.float32)
    side = tf.sqrt(share * tf.reduce_prod(size))
    # height, width
    part = tf.minimum(side * tf.exp(tf.stack([-stretch, stretch])), size)
    start = tf.stack(place) * (size - part)
    zoom = size / part
    enlarged = tf.raw_ops.ScaleAndTranslate(
        images=tf.cast(x, tf.float32)[None],
        size=tf.shape(x)[:2],
        scale=zoom,
        translation=-start * zoom,
        kernel_type="triangle",
        antialias=False,
    )
    return restored(enlarged[0], x.dtype)


def _rotate(x: tf.Tensor, seed: tf.Tensor, max_degrees: float) -> tf.Tensor:
    limit = math.radians(max_degrees)
    return _rotated(x, *uniforms(seed, (-limit, limit)))


def _rotated(x: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    cosine, sine = tf.cos(angle), tf.sin(angle)
    # Where in the image the pixel at (column, row) of the result is read.
    matrix = tf.stack([[cosine, -sine], [sine, cosine]])
    centre = tf.cast(tf.shape(x)[1::-1] - 1, tf.float32) * 0.5
    offset = centre - tf.linalg.matvec(matrix, centre)
    transform = tf.concat([tf.reshape(tf.concat([matrix, offset[:, None]], axis=1), [6]), [0.0, 0.0]], axis=0)
    rotated = tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(x, tf.float32)[None],
        transforms=transform[None],
        output_shape=tf.shape(x)[:2],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return restored(rotated[0], x.dtype)


def _colour(
    x: tf.Tensor, seed: tf.Tensor, brightness: float, contrast: float, saturation: float, hue: float
) -> tf.Tensor:
    require(
        x.dtype == tf.uint8 or x.dtype.is_floating,
        "random_colour",
        "expected pixels of dtype uint8, or of a float dtype in [0, 1]",
        dtype=x.dtype.name,
    )
    require(
        x.shape[-1] == 3 or saturation == hue == 0,
        "random_colour",
        "expected 3 channels, since grey has no saturation or hue; set both to 0",
        shape=x.shape,
    )
    ranges = (-brightness, brightness), (1 - contrast, 1 + contrast), (1 - saturation, 1 + saturation), (-hue, hue)
    add, times, times_saturation, add_hue = uniforms(seed, *ranges)
    peak = float(x.dtype.max) if x.dtype.is_integer else 1.0
    pixels = tf.cast(x, tf.float32) * (1 / peak)
    mean = steady_mean(pixels)
    pixels = tf.clip_by_value((pixels - mean) * times + (mean + add), 0, 1)
    if saturation:
        pixels = tf.image.adjust_saturation(pixels, times_saturation)
    if hue:
        pixels = tf.image.adjust_hue(pixels, add_hue)
    return restored(pixels * peak, x.dtype)


def _cut_out(x: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    shape = tf.shape(x)[:2]
    drawn = tf.random.stateless_uniform([2], seed)
    centre = tf.cast(drawn * tf.cast(shape, tf.float32), tf.int32)
    start, stop = box_around(centre, size, shape)
    return pasted(x, start, stop, tf.zeros([*tf.unstack(stop - start), tf.shape(x)[2]], x.dtype))


def _pair(name: str, value: tuple[float, float], expected: str, highest: float) -> tuple[float, float]:
    low, high = value if len(value) == 2 else (math.nan, math.nan)
    require(0 < low <= high <= highest, "random_crop", f"`{name}` must be (low, high) with {expected}", **{name: value})
    return float(low), float(high)
