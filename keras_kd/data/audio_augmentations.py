"""Augmentations of waveforms and spectrograms."""

import math

import tensorflow as tf

from keras_kd.data.augmentations import Augmentation
from keras_kd.data.drawing import between, require, restored, shifted, steady_mean, uniforms, whole, within

# What one decibel of amplitude is in natural logarithms.
_NEPERS = math.log(10) / 20


def random_gain(max_decibels: float = 6.0) -> Augmentation:
    """Makes an augmentation that makes a waveform louder or softer.

    `x · 10^(g / 20)`, with `g` uniform between `-max_decibels` and `max_decibels`. Integers stay within the range of
    their dtype; floats are not limited.

    Args:
        max_decibels: the largest gain, from 0 to 100. Defaults to 6, which is about a factor of 2.

    Returns:
        `augment(x, seed)`, for one waveform `x` of shape `(samples,)` or `(samples, 1)` and integers `seed` of shape
        `(2,)`. The result has the shape and dtype of `x` and depends on nothing but the two.

    Raises:
        ValueError: if `max_decibels` is outside its range.

    Example:
        >>> louder = random_gain(max_decibels=20)([0.5, -0.25], (0, 1))
        >>> float(louder[1] / louder[0])
        -0.5
    """
    max_decibels = within("random_gain", "max_decibels", max_decibels, 0, 100)
    return Augmentation("random_gain", _gain, "waveform", {"max_decibels": max_decibels})


def random_noise(min_decibels: float = 10.0, max_decibels: float = 30.0) -> Augmentation:
    """Makes an augmentation that adds white Gaussian noise to a waveform.

    `x + n`, with `n` of standard deviation `√(mean(x²)) · 10^(-d / 20)` and the ratio of signal to noise `d`, in
    decibels, uniform between the two. Silence stays silent.

    Args:
        min_decibels: ratio of the loudest noise, from -100 to 100. Defaults to 10.
        max_decibels: ratio of the softest noise, from `min_decibels` to 100. Defaults to 30.

    Returns:
        `augment(x, seed)`, for one waveform `x` of shape `(samples,)` or `(samples, 1)` and integers `seed` of shape
        `(2,)`. Integers stay within the range of their dtype; floats are not limited.

    Raises:
        ValueError: if the two are outside their range or in the wrong order.

    Example:
        >>> random_noise(min_decibels=20, max_decibels=40)([0.0, 0.0], (0, 1)).numpy().tolist()
        [0.0, 0.0]
    """
    given = {"min_decibels": min_decibels, "max_decibels": max_decibels}
    settings = {name: within("random_noise", name, value, -100, 100) for name, value in given.items()}
    require(min_decibels <= max_decibels, "random_noise", "`min_decibels` must not be above `max_decibels`", **given)
    return Augmentation("random_noise", _noise, "waveform", settings)


def random_time_shift(max_samples: int) -> Augmentation:
    """Makes an augmentation that moves a waveform earlier or later by up to `max_samples` and fills with silence.

    All `2 * max_samples + 1` shifts are equally likely.

    Args:
        max_samples: the largest shift, 0 or more.

    Returns:
        `augment(x, seed)`, for one waveform `x` of shape `(samples,)` or `(samples, 1)` and integers `seed` of shape
        `(2,)`.

    Raises:
        TypeError: if `max_samples` is not an integer.
        ValueError: if `max_samples` is negative.

    Example:
        >>> moved = random_time_shift(1)([1, 2, 3], (0, 1)).numpy().tolist()
        >>> moved in ([2, 3, 0], [1, 2, 3], [0, 1, 2])
        True
    """
    max_samples = whole("random_time_shift", "max_samples", max_samples)
    return Augmentation("random_time_shift", _time_shift, "waveform", {"max_samples": max_samples})


def spec_augment(
    max_frames: int = 100, max_bands: int = 27, frame_masks: int = 2, band_masks: int = 2, max_share: float = 1.0
) -> Augmentation:
    """Makes an augmentation that sets stretches of time and of frequency in a spectrogram to zero.

    A mask over one axis of `n` places is `w` places wide, `w` uniform in 0 to the largest width, and begins at one of
    the `n - w + 1` places where it fits, all equally likely. Masks may overlap. Zero is the mean only of a spectrogram
    that was centred, as the paper's are.

    Args:
        max_frames: largest width of a mask in time, 0 or more; the paper's `T`. Defaults to 100.
        max_bands: largest width of a mask in frequency, 0 or more; the paper's `F`. Defaults to 27, of 80 bands.
        frame_masks: how many masks in time, 0 or more; the paper's `m_T`. Defaults to 2.
        band_masks: how many masks in frequency, 0 or more; the paper's `m_F`. Defaults to 2.
        max_share: largest width of a mask in time as a share of all frames, from 0 to 1; the paper's `p`. Defaults
            to 1. Where recordings are not much longer than `max_frames`, 0.2 keeps a mask from covering them whole.

    Returns:
        `augment(x, seed)`, for one spectrogram `x` of shape `(time, bands)` or `(time, bands, channels)` and integers
        `seed` of shape `(2,)`. All channels are masked alike.

    Raises:
        TypeError: if a width or a number of masks is not an integer.
        ValueError: if an argument is outside its range.

    Example:
        >>> augment = spec_augment(max_frames=2, max_bands=0, frame_masks=1, band_masks=0)
        >>> augment([[1], [2], [3], [4]], (0, 3)).numpy().ravel().tolist()
        [1, 2, 0, 0]

    Reference:
        Park, Chan, Zhang, Chiu, Zoph, Cubuk, Le. SpecAugment: A Simple Data Augmentation Method for Automatic Speech
        Recognition. 2019. arXiv:1904.08779. Defaults are the policy LD of its table 1. There is no time warping, which
        the paper finds the least important. Its interval of beginnings leaves out the last place, so that the last
        frame and band are never masked; ours does not.
    """
    counts = {"max_frames": max_frames, "max_bands": max_bands, "frame_masks": frame_masks, "band_masks": band_masks}
    settings = {name: whole("spec_augment", name, value) for name, value in counts.items()}
    settings["max_share"] = within("spec_augment", "max_share", max_share, 0, 1)
    return Augmentation("spec_augment", _mask_spectrogram, "spectrogram", settings)


def _gain(x: tf.Tensor, seed: tf.Tensor, max_decibels: float) -> tf.Tensor:
    limit = max_decibels * _NEPERS
    (nepers,) = uniforms(seed, (-limit, limit))
    return restored(tf.cast(x, tf.float32) * tf.exp(nepers), x.dtype)


def _noise(x: tf.Tensor, seed: tf.Tensor, min_decibels: float, max_decibels: float) -> tf.Tensor:
    noise_seed, ratio_seed = tf.unstack(tf.random.split(seed))
    (nepers,) = uniforms(ratio_seed, (-max_decibels * _NEPERS, -min_decibels * _NEPERS))
    signal = tf.cast(x, tf.float32)
    # Divided by its peak, the signal lies where `steady_mean` is exact.
    peak = tf.reduce_max(tf.abs(signal))
    power = steady_mean(tf.square(tf.math.divide_no_nan(signal, peak)))
    noise = tf.random.stateless_normal(tf.shape(x), noise_seed)
    deviation = tf.reduce_prod(tf.stack([peak, tf.sqrt(power), tf.exp(nepers)]))
    return restored(signal + noise * deviation, x.dtype)


def _time_shift(x: tf.Tensor, seed: tf.Tensor, max_samples: int) -> tf.Tensor:
    return shifted(x, seed, max_samples, axes=1)


def _mask_spectrogram(
    x: tf.Tensor,
    seed: tf.Tensor,
    max_frames: int,
    max_bands: int,
    frame_masks: int,
    band_masks: int,
    max_share: float,
) -> tf.Tensor:
    shape = tf.shape(x)
    widest = tf.minimum(max_frames, tf.cast(tf.cast(shape[0], tf.float32) * max_share, tf.int32))
    frame_draws, band_draws = tf.split(
        tf.random.stateless_uniform([frame_masks + band_masks, 2], seed), [frame_masks, band_masks]
    )
    frames = _masked(frame_draws, shape[0], widest)
    bands = _masked(band_draws, shape[1], tf.minimum(max_bands, shape[1]))
    mask = frames[:, None] | bands
    return tf.where(mask if x.shape.rank == 2 else mask[..., None], tf.zeros([], x.dtype), x)


def _masked(draws: tf.Tensor, size: tf.Tensor, widest: tf.Tensor) -> tf.Tensor:
    """Tells which of `size` places are under a mask, one mask for each pair of numbers in [0, 1)."""
    width = _chosen(draws[:, 0], widest + 1)
    start = _chosen(draws[:, 1], size - width + 1)
    return tf.reduce_any(between(tf.range(size), start[:, None], (start + width)[:, None]), axis=0)


def _chosen(draw: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Turns a number in [0, 1) into one of `count` integers from 0."""
    return tf.cast(draw * tf.cast(count, tf.float32), tf.int32)
