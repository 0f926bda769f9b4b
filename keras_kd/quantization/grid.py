"""The grids of int8: weights by channel, activations between a least and a greatest value."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops

LEVELS = 127  # TFLite leaves out -128 for weights
# The ranges that TFLite fixes for these functions, whatever their inputs.
FIXED_RANGES = {"sigmoid": (0.0, 255 / 256), "softmax": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


def weights_on_grid(weights: Any, channels: Sequence[int]) -> Any:
    """Rounds weights to what int8 can say of them, with one scale for each channel.

    `w → s · round(w / s)`, `s = max |w| / 127` over the channel. The gradient passes as if nothing were rounded.

    Args:
        weights: Float tensor.
        channels: The axes of the channels; the scale is that of all others.

    Returns:
        Tensor of the same shape and type.

    Example:
        >>> ops.convert_to_numpy(weights_on_grid(ops.array([[127.0, 0.3], [0.6, 63.5]]), [1])).tolist()
        [[127.0, 0.5], [1.0, 63.5]]

    Reference:
        Jacob et al. Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference. 2018.
        arXiv:1712.05877; by channel: Krishnamoorthi. Quantizing Deep Convolutional Networks for Efficient Inference.
        2018. arXiv:1806.08342.
    """
    scale = weight_scale(weights, channels)
    return _passing(weights, scale * ops.clip(ops.round(weights / scale), -LEVELS, LEVELS))


def weight_scale(weights: Any, channels: Sequence[int]) -> Any:
    """The scales of `weights_on_grid`, with axes of length 1 for those that are not channels."""
    others = [axis for axis in range(len(weights.shape)) if axis not in channels]
    greatest = ops.max(ops.abs(weights), axis=others, keepdims=True)
    return ops.where(greatest > 0, greatest, 1.0) / LEVELS


def bias_on_grid(bias: Any, scale: Any) -> Any:
    """Rounds a bias to multiples of the scale of the input times that of the weights, as TFLite adds it up in int32.

    Args:
        bias: Float tensor.
        scale: Tensor of the same shape. Where it is 0, nothing is rounded.

    Returns:
        Tensor of the same shape.
    """
    rounded = scale * ops.round(bias / ops.where(scale > 0, scale, 1.0))
    return _passing(bias, ops.where(scale > 0, rounded, bias))


def activations_on_grid(x: Any, low: Any, high: Any) -> Any:
    """Rounds activations to the 256 levels of int8 that hold `low`, 0 and `high`, or nearly so.

    `scale = (high - low) / 255`, rounded up to 16 bits, `zero = round(-low / scale)`, and
    `x → scale · (clip(round(x / scale) + zero, 0, 255) - zero)`. The gradient passes between the ends, and is 0
    outside.

    Args:
        x: Float32 tensor.
        low: At most 0.
        high: At least 0, and greater than `low`.

    Returns:
        Tensor of the same shape.

    Example:
        >>> ops.convert_to_numpy(activations_on_grid(ops.array([-1.0, 0.2, 7.3, 300.0]), 0.0, 255.0)).tolist()
        [0.0, 0.0, 7.0, 255.0]
    """
    scale = activation_scale(low, high)
    zero = ops.clip(ops.round(-ops.cast(low, "float32") / scale), 0.0, 255.0)
    # TFLite's converter reads the ranges off these very operators.
    return tf.quantization.fake_quant_with_min_max_vars(x, -zero * scale, (255.0 - zero) * scale)


def activation_scale(low: Any, high: Any) -> Any:
    """The step of `activations_on_grid`: `(high - low) / 255`, rounded up to 16 bits, so that 255 times it is exact.

    TFLite's operators are given the ends and its files the step: so both compute with the same numbers.
    """
    dropped = (1 << 8) - 1
    step = (ops.cast(high, "float32") - ops.cast(low, "float32")) / 255.0
    return tf.bitcast((tf.bitcast(ops.stop_gradient(step), "int32") + dropped) & ~dropped, "float32")


def constants_on_grid(constant: Any) -> Any:
    """Rounds an operand that is no kernel, as TFLite does: to 256 levels between its least and greatest value and 0.

    Args:
        constant: Float32 tensor.

    Returns:
        Tensor of the same shape.
    """
    return activations_on_grid(constant, ops.minimum(ops.min(constant), 0.0), ops.maximum(ops.max(constant), 1e-6))


def _passing(x: Any, rounded: Any) -> Any:
    """What is rounded, with the gradient of what is not."""
    return x + ops.stop_gradient(rounded - x)
