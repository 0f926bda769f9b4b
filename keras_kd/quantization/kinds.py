"""What a layer is to TFLite in int8: keeps the range of its input, has a kernel, or makes a range of its own."""

from typing import Any

import keras

layers = keras.layers

# The operators of TFLite that give what they are given, in the same range.
KEEPS_RANGE = (
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector, layers.Identity),
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D, layers.Cropping2D),
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.GaussianNoise, layers.GaussianDropout),
    layers.ActivityRegularization,
)
KEEPS_RANGE_BY_NAME = {"Reshape", "Transpose", "ExpandDims", "Squeeze", "GetItem", "Max", "Identity"}
AVERAGES = {layers.AveragePooling1D: layers.DepthwiseConv1D, layers.AveragePooling2D: layers.DepthwiseConv2D}
SEPARABLE = {layers.SeparableConv1D: layers.DepthwiseConv1D, layers.SeparableConv2D: layers.DepthwiseConv2D}
# One operator, whose result has a range of its own.
ONE_OPERATOR = (
    *(layers.Add, layers.Subtract, layers.Multiply, layers.Maximum, layers.Minimum, layers.Concatenate),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.Embedding),
    *(layers.LeakyReLU, layers.PReLU, layers.ELU),
)
# Functions that TFLite computes inside the operator before them.
FUSED = {"relu", "relu6"}
# Functions that are one operator of TFLite, from one range to another.
FUNCTIONS = {"sigmoid", "softmax", "tanh", "gelu", "elu", "leaky_relu", "hard_silu"}
# Functions that are several operators.
SEVERAL = {"silu", "hard_sigmoid"}
_SAME = {"swish": "silu", "hard_swish": "hard_silu", "linear": None}


def function_of(operation: Any) -> str | None:
    """The name of the activation function that an operation is, or `None` where it is something else.

    Example:
        >>> function_of(layers.ReLU(6.0)), function_of(layers.Activation("swish")), function_of(layers.Dense(2))
        ('relu6', 'silu', None)
    """
    if isinstance(operation, layers.Activation):
        return activation_name(operation.activation)
    if isinstance(operation, layers.Softmax):
        return "softmax" if operation.axis in (-1,) else None
    if isinstance(operation, layers.ReLU):
        plain = not operation.negative_slope and not operation.threshold
        return {None: "relu", 6.0: "relu6"}.get(operation.max_value) if plain else None
    if isinstance(operation, keras.Layer):
        return None
    name = "".join(f"_{c.lower()}" if c.isupper() else c for c in type(operation).__name__).lstrip("_")
    return name if name in FUSED | FUNCTIONS | SEVERAL else None


def activation_name(function: Any) -> str | None:
    """The name of a Keras activation, `None` for none, or for a function that is not of Keras its own name."""
    if function is None:
        return None
    name = getattr(function, "__name__", type(function).__name__)
    return _SAME.get(name, name)


def keeps_range(operation: Any) -> bool:
    """Whether an operation gives values of its input, on the same grid."""
    return isinstance(operation, KEEPS_RANGE) or type(operation).__name__ in KEEPS_RANGE_BY_NAME


def is_custom(operation: Any) -> bool:
    """Whether a layer's class is somebody's own."""
    return isinstance(operation, keras.Layer) and not type(operation).__module__.startswith("keras.")
