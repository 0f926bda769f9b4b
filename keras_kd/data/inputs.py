"""`input_transform`: from an example as stored to what a model takes."""

from collections.abc import Callable, Sequence

import tensorflow as tf

from keras_kd.data.source import Source

_AUDIO_PEAK = 32768  # 16-bit samples, which TFDS stores as int64


def input_transform(
    source: Source, input_shape: Sequence[int | None], *, scale: float | None = None
) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes the function that turns one stored example into what a model takes: float32, scaled, in the model's shape.

    Images are resized (bilinear, antialiased) and turned from grey to RGB (repeated) or from RGB to grey
    (0.2989 R + 0.587 G + 0.114 B). Audio is cut at its end or padded there with zeros. Features keep their shape.

    Args:
        source: where the examples come from.
        input_shape: shape of one input of the model, `model.input_shape[1:]`: `(height, width, channels)` or
            `(height, width)` for images, `(samples,)` or `(samples, 1)` for audio. A size of `None` keeps the source's.
        scale: what stored values are multiplied by. Defaults to what brings them within [0, 1] or [-1, 1]: 1 / 255 for
            8-bit images, 1 / 32768 for integer audio, 1 for features and for all that is stored as float.

    Returns:
        `transform(x)`, for `pipeline(..., transform=...)`.

    Raises:
        ValueError: if the examples cannot be made to fit `input_shape`.

    Example:
        >>> import keras_kd.data
        >>> source = keras_kd.data.load("digits")
        >>> transform = input_transform(source, (32, 32, 3))
        >>> x, _ = next(iter(source.train))
        >>> transform(x).shape
        TensorShape([32, 32, 3])
    """
    make = {"image": _image_transform, "audio": _audio_transform, "features": _feature_transform}[source.kind]
    fit = make(source, tuple(input_shape))
    factor = _default_scale(source) if scale is None else scale

    def transform(x: tf.Tensor) -> tf.Tensor:
        return fit(tf.cast(x, tf.float32) * factor)

    return transform


def _default_scale(source: Source) -> float:
    dtype = source.train.element_spec[0].dtype
    if source.kind == "features" or not dtype.is_integer:
        return 1.0
    return 1 / dtype.max if source.kind == "image" else 1 / _AUDIO_PEAK


def _image_transform(source: Source, input_shape: tuple[int | None, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    stored = source.input_shape
    if len(input_shape) not in (2, 3):
        raise _misfit(source, input_shape, "a model of images takes (height, width, channels) or (height, width)")
    size = tuple(wanted or held for wanted, held in zip(input_shape[:2], stored[:2], strict=True))
    if None in size:
        raise _misfit(source, input_shape, "image sizes vary; give the model a fixed height and width")
    channels = input_shape[2] if len(input_shape) == 3 else 1
    if channels not in (stored[2], None) and {channels, stored[2]} != {1, 3}:
        raise _misfit(source, input_shape, "only 1 and 3 channels can be turned into each other")

    def fit(image: tf.Tensor) -> tf.Tensor:
        if (stored[2], channels) == (3, 1):
            image = tf.image.rgb_to_grayscale(image)
        if stored[:2] != size:
            image = tf.image.resize(image, size, antialias=True)
        if (stored[2], channels) == (1, 3):
            image = tf.image.grayscale_to_rgb(image)
        return tf.squeeze(image, -1) if len(input_shape) == 2 else image

    return fit


def _audio_transform(source: Source, input_shape: tuple[int | None, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    if len(source.input_shape) != 1 or len(input_shape) not in (1, 2) or input_shape[1:] not in ((), (1,)):
        raise _misfit(source, input_shape, "only mono audio, in a model of (samples,) or (samples, 1), can be fitted")
    length = input_shape[0] or source.input_shape[0]
    if length is None:
        raise _misfit(source, input_shape, "recordings vary in length; give the model a fixed number of samples")

    def fit(samples: tf.Tensor) -> tf.Tensor:
        samples = samples[:length]
        samples = tf.pad(samples, [[0, length - tf.shape(samples)[0]]])
        return tf.reshape(samples, (length, *input_shape[1:]))

    return fit


def _feature_transform(source: Source, input_shape: tuple[int | None, ...]) -> Callable[[tf.Tensor], tf.Tensor]:
    if not tf.TensorShape(source.input_shape).is_compatible_with(input_shape):
        raise _misfit(source, input_shape, "features are not reshaped; give the model their shape")
    return tf.identity


def _misfit(source: Source, input_shape: tuple[int | None, ...], reason: str) -> ValueError:
    return ValueError(
        f"`input_transform`: expected `input_shape` to fit {source.kind} examples of shape {source.input_shape} from "
        f"{source.name!r}. Received: input_shape={input_shape}; {reason}."
    )
