"""Augmentations that draw from a seed they are given, so that a cached teacher can see the same view again."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import tensorflow as tf

from keras_kd.data.drawing import require

_SHAPES = {
    "image": "one image of shape (height, width, channels)",
    "waveform": "one waveform of shape (samples,) or (samples, 1)",
    "spectrogram": "one spectrogram of shape (time, bands) or (time, bands, channels)",
    "example": "one example",
}


@dataclass(frozen=True, repr=False)
class Augmentation:
    """A random change of one example that depends on a seed and on nothing else.

    `augment(x, seed)` gives the same bits eagerly, in a `tf.data` map and in another process, on CPUs of one kind and
    with one version of TensorFlow. Its `repr` reads as it is made and so names the views it gives: two augmentations
    of equal `repr` are equal.

    Args:
        name: what makes it, as "random_shift".
        function: `(x, seed, *parts, **settings) -> x`, with `seed` int64 of shape `(2,)`.
        takes: "image", "waveform", "spectrogram" or "example" for any.
        settings: what it was made with.
        parts: the augmentations it is composed of.

    Example:
        >>> import keras_kd.data
        >>> augment = keras_kd.data.random_flip()
        >>> augment, augment.mixes
        (random_flip(), False)
        >>> augment([[[1], [2]]], seed=(0, 2)).numpy().tolist()
        [[[2], [1]]]
    """

    name: str
    function: Callable[..., tf.Tensor]
    takes: str = "example"
    settings: dict[str, object] = field(default_factory=dict, hash=False)
    parts: tuple["Augmentation", ...] = ()

    mixes: ClassVar[bool] = False

    def __call__(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return self._run(x, seed)

    def __repr__(self) -> str:
        settings = (f"{name}={value!r}" for name, value in self.settings.items())
        return f"{self.name}({', '.join([*map(repr, self.parts), *settings])})"

    def _run(self, x: tf.Tensor, seed: tf.Tensor, *partners: tf.Tensor) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        require(_fits(x.shape, self.takes), self.name, f"expected {_SHAPES[self.takes]}", shape=x.shape)
        result = self.function(x, tf.cast(seed, tf.int64), *partners, *self.parts, **self.settings)
        result.set_shape(x.shape)
        return result


@dataclass(frozen=True, repr=False)
class MixingAugmentation(Augmentation):
    """A random change that mixes an example with a partner, and their labels alike.

    `augment(x, seed, partner_x)` gives the mixed example and `augment.mix_labels(y, seed, partner_y)` its label: scores
    of shape `(classes,)`, float32, that belong to it if the seed is the same.

    Args:
        name: what makes it, as "mixup".
        function: `(x, seed, partner_x, *parts, **settings) -> x`, with `seed` int64 of shape `(2,)`.
        takes: "image", "waveform", "spectrogram" or "example" for any.
        settings: what it was made with.
        parts: the augmentations it is composed of.
        label_function: `(y, seed, partner_y, *parts, **settings) -> scores`.

    Example:
        >>> import keras_kd.data
        >>> augment = keras_kd.data.mixup(num_classes=2)
        >>> augment, augment.mixes
        (mixup(alpha=0.2, num_classes=2), True)
        >>> share = float(augment.mix_labels(0, (0, 1), 1)[0])    # of the example in the mixture
        >>> share == float(augment([1.0], (0, 1), [0.0])[0])
        True
    """

    label_function: Callable[..., tf.Tensor] = field(kw_only=True)

    mixes: ClassVar[bool] = True

    def __call__(self, x: tf.Tensor, seed: tf.Tensor, partner_x: tf.Tensor) -> tf.Tensor:
        x, partner_x = tf.convert_to_tensor(x), tf.convert_to_tensor(partner_x)
        require(
            x.shape.is_compatible_with(partner_x.shape) and x.dtype == partner_x.dtype,
            self.name,
            "expected a partner of the example's shape and dtype",
            x=(x.shape, x.dtype.name),
            partner_x=(partner_x.shape, partner_x.dtype.name),
        )
        return self._run(x, seed, partner_x)

    def mix_labels(self, y: tf.Tensor, seed: tf.Tensor, partner_y: tf.Tensor) -> tf.Tensor:
        """Returns the scores of the example that `seed` makes of those with labels `y` and `partner_y`."""
        return self.label_function(y, tf.cast(seed, tf.int64), partner_y, *self.parts, **self.settings)


def compose(*augmentations: Augmentation) -> Augmentation:
    """Makes an augmentation that applies others one after another, each with a seed of its own.

    `seed_1, ..., seed_n = tf.random.split(seed, n)`, the first for the first. If the last one mixes, those before it
    change the partner as they change the example, with the same seeds: both are flipped, or neither.

    Args:
        augmentations: one or more. One that mixes, as `mixup`, may only be the last.

    Returns:
        The `Augmentation`, or the `MixingAugmentation` if the last one is.

    Raises:
        TypeError: if one is not an `Augmentation`.
        ValueError: if there is none, or if one that mixes is not the last.

    Example:
        >>> import keras_kd.data
        >>> from keras_kd.data import mixup, random_flip, random_shift
        >>> compose(random_flip(), random_shift(max_pixels=2))
        compose(random_flip(), random_shift(max_pixels=2))
        >>> compose(random_flip(), mixup()).mixes
        True
    """
    require(len(augmentations) > 0, "compose", "expected one augmentation or more", augmentations=augmentations)
    for augmentation in augmentations:
        if not isinstance(augmentation, Augmentation):
            raise TypeError(
                "`compose`: expected augmentations of `keras_kd.data`, whose `repr` names the views they give. "
                f"Received: {augmentation!r}. Wrap a function as `Augmentation(name, function)`."
            )
    *plain, last = augmentations
    require(
        not any(augmentation.mixes for augmentation in plain),
        "compose",
        "expected one augmentation that mixes at most, as the last",
        augmentations=augmentations,
    )
    if last.mixes:
        return MixingAugmentation("compose", _apply_all_and_mix, parts=augmentations, label_function=_mix_labels_last)
    return Augmentation("compose", _apply_all, parts=augmentations)


def _apply_all(x: tf.Tensor, seed: tf.Tensor, *parts: Augmentation) -> tf.Tensor:
    return _apply(x, parts, _seeds(seed, parts))


def _apply_all_and_mix(x: tf.Tensor, seed: tf.Tensor, partner: tf.Tensor, *parts: Augmentation) -> tf.Tensor:
    *plain, last = parts
    *seeds, last_seed = _seeds(seed, parts)
    return last(_apply(x, plain, seeds), last_seed, _apply(partner, plain, seeds))


def _mix_labels_last(y: tf.Tensor, seed: tf.Tensor, partner_y: tf.Tensor, *parts: Augmentation) -> tf.Tensor:
    return parts[-1].mix_labels(y, _seeds(seed, parts)[-1], partner_y)


def _apply(x: tf.Tensor, augmentations: list[Augmentation], seeds: list[tf.Tensor]) -> tf.Tensor:
    for augmentation, seed in zip(augmentations, seeds, strict=True):
        x = augmentation(x, seed)
    return x


def _seeds(seed: tf.Tensor, parts: tuple[Augmentation, ...]) -> list[tf.Tensor]:
    return tf.unstack(tf.random.split(seed, len(parts)))


def _fits(shape: tf.TensorShape, takes: str) -> bool:
    if takes == "image":
        return shape.rank == 3
    if takes == "waveform":
        return shape.rank == 1 or (shape.rank == 2 and shape[1] == 1)
    return shape.rank in (2, 3) if takes == "spectrogram" else True
