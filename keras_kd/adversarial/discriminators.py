"""Discriminators, built from the shapes of what they are shown."""

from typing import Any

import keras
from keras import layers

from keras_kd.projectors import Shape

SLOPE = 0.2


def discriminator_for(
    shape: Shape, outputs: int = 1, *, inputs: Shape | None = None, spectral_normalization: bool = False
) -> keras.Model:
    """Builds a discriminator of moderate size, in float32.

    Vectors go through dense layers of 128, 256 and 128 units; sequences and grids through convolutions of 64, 128 and
    256 channels, each halving the places, and their mean. Inputs beside them: a vector beside a vector is appended; a
    grid beside a grid resized to its places and appended to its channels; a grid beside a vector first brought to a
    vector by convolutions of its own. Leaky rectifiers, and no batch normalization, which a gradient penalty forbids.

    Args:
        shape: Of what it judges, `(batch, channels)`, `(batch, steps, channels)` or `(batch, height, width, channels)`;
            the channels must be known.
        outputs: How many scores it gives. Defaults to 1.
        inputs: Shape of the inputs that it sees beside, see `can_see`. Defaults to none.
        spectral_normalization: Whether every layer has a spectral norm of one. Defaults to `False`.

    Returns:
        A model of what it judges, or of `[what it judges, the inputs]`, that gives scores `(batch, outputs)`.

    Raises:
        ValueError: If the shape is none of these.

    Example:
        >>> judge = discriminator_for((None, 10), inputs=(None, 28, 28, 1))
        >>> judge.input_shape, judge.output_shape
        ([(None, 10), (None, 28, 28, 1)], (None, 1))

    Reference:
        Miyato, Kataoka, Koyama, Yoshida. Spectral Normalization for Generative Adversarial Networks. 2018.
        arXiv:1802.05957.
    """
    if len(shape) not in (2, 3, 4) or shape[-1] is None:
        raise ValueError(
            "`AdversarialDistiller`: no discriminator is known for what has the shape "
            f"{tuple(shape)}; vectors, sequences and grids with a known number of channels have one. Give one as "
            "`discriminator`, or name another layer in `on`."
        )
    build = _Builder(spectral_normalization)
    judged = keras.Input(shape[1:], dtype="float32", name="judged")
    seen = None if inputs is None else keras.Input(inputs[1:], dtype="float32", name="inputs")
    value = judged
    if seen is not None:
        value = layers.Concatenate(axis=-1, dtype="float32")([judged, build.beside(seen, shape)])
    value = build.convolved(value) if len(shape) > 2 else value
    for units in (128, 256, 128) if len(shape) == 2 else ():
        value = build(layers.Dense(units, dtype="float32"), value)
    scores = build.normalized(layers.Dense(outputs, dtype="float32", name="scores"))(value)
    model = keras.Model(judged if seen is None else [judged, seen], scores, name="discriminator")
    model.dtype_policy = keras.DTypePolicy("float32")  # which else is the policy of the day
    return model


def can_see(shape: Shape, inputs: Any) -> bool:
    """Whether a default discriminator of what has this shape can see inputs of that spec beside: one float tensor,
    a vector or a grid of known size, for which there are places in what it judges."""
    if not (hasattr(inputs, "shape") and inputs.shape.rank in (2, 4) and inputs.dtype.is_floating):
        return False
    known = None not in (*inputs.shape[1:], *shape[1:])
    return known and (len(shape) == 2 or len(shape) == len(inputs.shape) == 4)


class _Builder:
    """Puts layers together, each with a leaky rectifier."""

    def __init__(self, spectral_normalization: bool):
        self.spectral_normalization = spectral_normalization

    def __call__(self, layer: keras.Layer, value: Any) -> Any:
        return layers.LeakyReLU(SLOPE, dtype="float32")(self.normalized(layer)(value))

    def normalized(self, layer: keras.Layer) -> keras.Layer:
        return layers.SpectralNormalization(layer, dtype="float32") if self.spectral_normalization else layer

    def convolved(self, value: Any) -> Any:
        """A sequence or a grid as a vector."""
        rank = len(value.shape) - 2
        convolution, mean = {
            1: (layers.Conv1D, layers.GlobalAveragePooling1D),
            2: (layers.Conv2D, layers.GlobalAveragePooling2D),
        }[rank]
        common = {"padding": "same", "data_format": "channels_last", "dtype": "float32"}
        for channels in (64, 128, 256):
            value = self(convolution(channels, 4, strides=2, **common), value)
        return mean(data_format="channels_last", dtype="float32")(value)

    def beside(self, seen: Any, shape: Shape) -> Any:
        """The inputs in the form of what is judged."""
        if len(shape) == 4:
            return layers.Resizing(*shape[1:-1], data_format="channels_last", dtype="float32")(seen)
        return self.convolved(seen) if len(seen.shape) > 2 else seen
