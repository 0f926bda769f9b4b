"""Models that make inputs of noise: the one that is built for images, and what every other must fulfil."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers


def image_generator(
    shape: Sequence[int],
    *,
    latent_dim: int = 256,
    width: int = 64,
    mean: float | Sequence[float] = 0.5,
    std: float | Sequence[float] = 0.25,
) -> keras.Sequential:
    """Builds the convolutional generator of the papers: noise in, images out.

    A dense layer makes a small grid, which is doubled and convolved until it has the size of the images. Batch
    normalisation without parameters comes last, so that what is drawn has, over a batch and by channel, the given mean
    and standard deviation: those of the images that the models know.

    Args:
        shape: `(height, width, channels)` of the images.
        latent_dim: Length of the noise vector. Defaults to 256.
        width: Channels of the last convolution but one; those before it have twice as many. Defaults to 64.
        mean: Mean of the images, a number or one for each channel. Defaults to 0.5, for images in [0, 1]; 0 for
            models of images that were normalised by their mean and deviation.
        std: Their standard deviation, likewise. Defaults to 0.25; 1 for models of normalised images.

    Returns:
        A `keras.Sequential` that takes noise `(batch, latent_dim)` and gives float32 images `(batch, *shape)`.

    Raises:
        ValueError: If `shape` is not that of an image.

    Example:
        >>> image_generator((28, 28, 1), width=8).output_shape
        (None, 28, 28, 1)

    Reference:
        Fang, Song, Shen, Wang, Chen, Song. Data-Free Adversarial Distillation. 2019. arXiv:1912.11006, `GeneratorA` of
        the authors' code, for images of 32 pixels: `mean=0, std=1`, and for MNIST `latent_dim=100`. Larger images are
        doubled more often here.
    """
    if not is_image(shape):
        raise ValueError(f"`image_generator`: `shape` must be (height, width, channels). Received: shape={shape!r}.")
    doublings = max(2, math.ceil(math.log2(max(shape[:2]) / 8)))
    grid = [math.ceil(size / 2**doublings) for size in shape[:2]]
    surplus = [side * 2**doublings - size for side, size in zip(grid, shape[:2], strict=True)]
    stack = [
        keras.Input((latent_dim,)),
        layers.Dense(2 * width * grid[0] * grid[1]),
        layers.Reshape((*grid, 2 * width)),
        _normalisation(),
    ]
    for doubling in range(doublings):
        channels = width if doubling == doublings - 1 else 2 * width
        stack += [layers.UpSampling2D(data_format="channels_last"), _convolution(channels), _normalisation()]
        stack.append(layers.LeakyReLU(negative_slope=0.2))
    stack += [_convolution(shape[-1]), layers.Activation("tanh"), _normalisation(scale=False, center=False)]
    if any(surplus):
        stack.append(layers.Cropping2D([(0, size) for size in surplus], data_format="channels_last"))
    stack.append(layers.Rescaling(std, offset=mean, dtype="float32"))
    return keras.Sequential(stack, name="generator")


def _convolution(channels: int) -> keras.Layer:
    return layers.Conv2D(channels, 3, padding="same", data_format="channels_last")


def _normalisation(**kwargs: Any) -> keras.Layer:
    # The momentum and epsilon of the authors' framework: what a generator draws changes fast.
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, **kwargs)


def is_image(shape: Any) -> bool:
    """Whether a shape is that of one image, all sizes known."""
    return isinstance(shape, list | tuple) and len(shape) == 3 and all(isinstance(size, int) for size in shape)


def default_generator(student: keras.Model) -> keras.Model:
    """The generator for a student of images.

    Raises:
        ValueError: If the student takes something else, or does not tell what.
    """
    taken = shape_of(student, "input_shape")
    if taken is None or not is_image(taken[1:]):
        raise ValueError(
            "`DataFreeDistiller`: there is a default generator for students of images alone, of a known shape (None, "
            f"height, width, channels). Received: a student that takes {taken}. Give `generator`, a Keras model that "
            "makes of noise what the student takes."
        )
    return image_generator(taken[1:])


def check_generator(generator: Any, student: keras.Model) -> None:
    """Checks that a generator tells what noise it takes, and gives what the student takes, as far as that is known.

    Raises:
        ValueError: If not.
    """
    if not isinstance(generator, keras.Model):
        raise ValueError(f"`DataFreeDistiller`: `generator` must be a `keras.Model`. Received: {generator!r}.")
    noise = shape_of(generator, "input_shape")
    if noise is None or None in noise[1:]:
        raise ValueError(
            f"`DataFreeDistiller`: the generator `{generator.name}` must take one tensor of noise of a known shape "
            f"(None, ...). Received: {noise}. Begin it with `keras.Input((latent_dim,))`."
        )
    given, taken = shape_of(generator, "output_shape"), shape_of(student, "input_shape")
    if given and taken and (len(given) != len(taken) or any(_differ(*pair) for pair in zip(given, taken, strict=True))):
        raise ValueError(
            f"`DataFreeDistiller`: the generator `{generator.name}` must give what the student takes, {taken}. "
            f"Received: {given}."
        )


def _differ(one: int | None, other: int | None) -> bool:
    return None not in (one, other) and one != other


def shape_of(model: keras.Model, side: str) -> tuple[int | None, ...] | None:
    """The `input_shape` or `output_shape` of a model of one tensor there, or `None`."""
    shape = getattr(model, side, None)
    one = isinstance(shape, tuple) and all(size is None or isinstance(size, int) for size in shape)
    return shape if one else None
