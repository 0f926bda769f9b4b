"""One file of each kind, read into the form of its modality."""

import math
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_kd.data.multimodal.modalities import Audio, Image
from keras_kd.data.multimodal.resampling import resample, samples_needed
from keras_kd.data.multimodal.wav import read_wav

_GREATEST_RATIO = 2**17


def read_image(path: tf.Tensor | str, spec: Image) -> tf.Tensor:
    """Reads a JPEG, PNG, BMP or GIF (first frame), in a graph or outside.

    Alpha is dropped; grey is repeated for RGB, RGB becomes 0.2989 R + 0.587 G + 0.114 B for grey; sizes are brought to
    that of `spec`, bilinear and antialiased.

    Args:
        path: the file.
        spec: what to make of it.

    Returns:
        Float32 of shape `spec.shape` in [0, 1].

    Raises:
        tf.errors.OpError: if TensorFlow cannot read the file.
    """
    pixels = tf.io.decode_image(tf.io.read_file(path), expand_animations=False)
    pixels = tf.ensure_shape(pixels, (None, None, None))
    channels = tf.shape(pixels)[-1]
    colours = tf.gather(pixels, tf.minimum(tf.range(3), tf.where(channels > 2, 2, 0)), axis=-1)
    colours = tf.cast(colours, tf.float32) / 255
    if spec.channels == 1:
        colours = tf.where(channels > 2, tf.image.rgb_to_grayscale(colours), colours[..., :1])
    resized = tf.image.resize(colours, (spec.height, spec.width), antialias=True)
    return tf.clip_by_value(resized, 0.0, 1.0)


def read_audio(path: str | bytes, spec: Audio) -> np.ndarray:
    """Reads a WAV file.

    Args:
        path: the file.
        spec: what to make of it.

    Returns:
        Float32 of shape `spec.shape` in [-1, 1]: the mean of the channels, resampled, cut or padded at the end. What
        goes beyond full scale is clipped.

    Raises:
        ValueError: if it is not a WAV file that can be read, or of a rate that takes a filter of millions of taps.
        OSError: if the file cannot be opened.
    """
    samples, rate = read_wav(tf.compat.as_str_any(path))
    if max(rate, spec.rate) // math.gcd(rate, spec.rate) > _GREATEST_RATIO:
        raise ValueError(f"its rate is {rate} Hz, which goes with {spec.rate} Hz into no small whole numbers")
    resampled = resample(samples[: samples_needed(spec.samples, rate, spec.rate)], rate, spec.rate)
    return padded(np.clip(resampled, -1, 1), spec)


def padded(samples: np.ndarray, spec: Audio) -> np.ndarray:
    """Cuts or pads a waveform at its end, as float32."""
    samples = samples[: spec.samples]
    return np.pad(samples, (0, spec.samples - len(samples))).astype("float32")


def read_text(path: Path) -> str:
    """Reads a UTF-8 file, with or without a byte order mark.

    Args:
        path: the file.

    Returns:
        Its text.

    Raises:
        UnicodeDecodeError: if it is not UTF-8.
        OSError: if the file cannot be opened.
    """
    return path.read_text("utf-8-sig")
