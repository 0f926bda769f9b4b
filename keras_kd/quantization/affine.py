"""`QuantizedAffine`: a layer with a kernel, whose weights are rounded in each step, BatchNorm folded in."""

import math
from typing import Any

import keras
from keras import ops

from keras_kd.quantization import kinds
from keras_kd.quantization.fake_quantize import FakeQuantize
from keras_kd.quantization.grid import bias_on_grid, weight_scale, weights_on_grid
from keras_kd.quantization.scaling import folded

_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose)
AFFINE = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    *_DEPTHWISE,
    *_TRANSPOSED,
)


@keras.saving.register_keras_serializable(package="keras_kd")
class QuantizedAffine(keras.layers.Layer):
    """Computes what a layer does with its kernel on the grid of int8, and a BatchNorm that follows folded into it.

    With `m = γ / √(variance + ε)`, the kernel is `weights_on_grid(m · kernel)` and the bias `m · (bias - mean) + β`, as
    the converter folds them. The moving statistics stay as they are: what is learnt is the kernel, bias, γ and β.

    Args:
        layer: One of `AFFINE`, without activation.
        batch_normalization: What follows it. Defaults to nothing.
        multiplier: A number that weights and bias are multiplied by. Defaults to 1.
        **kwargs: As `keras.layers.Layer` takes them.

    Example:
        >>> layer = QuantizedAffine(keras.layers.Dense(1, kernel_initializer="ones", use_bias=False), multiplier=0.5)
        >>> ops.convert_to_numpy(layer(ops.ones((1, 4)))).tolist()
        [[2.0]]

    Reference:
        Jacob et al. Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference. 2018.
        arXiv:1712.05877. They fold the statistics of the batch; we the moving ones, for students that are trained.
    """

    def __init__(
        self,
        layer: keras.Layer,
        batch_normalization: keras.layers.BatchNormalization | None = None,
        multiplier: float = 1.0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.layer = layer
        self.batch_normalization = batch_normalization
        self.multiplier = multiplier
        self.entered_by(None)

    def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(x, keras.KerasTensor) and hasattr(x, "_keras_history"):
            self.entered_by(range_of(x))
        return super().__call__(x, *args, **kwargs)

    def entered_by(self, quantize: FakeQuantize | None) -> None:
        """Says what rounds the input, on which the scale of the bias depends; it is no part of this layer."""
        self.__dict__["_entering"] = quantize

    def build(self, input_shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(input_shape)
        if self.batch_normalization is not None and not self.batch_normalization.built:
            self.batch_normalization.build(self.layer.compute_output_shape(input_shape))

    def call(self, x: Any) -> Any:
        factor, shift = self._folded()
        channels = channel_axes(self.layer)
        kernel = ops.convert_to_tensor(self.layer.kernel)
        if self.batch_normalization is not None:
            shape = [kernel.shape[axis] if axis in channels else 1 for axis in range(len(kernel.shape))]
            factor = ops.reshape(factor, shape)
        folded_kernel = kernel * factor
        bias = self._rounded_bias(shift, weight_scale(folded_kernel, channels))
        kernel = weights_on_grid(folded_kernel, channels)
        contracted = contracted_axes(self.layer)
        return self._convolved(x, kernel, bias) if contracted is None else _multiplied(x, kernel, bias, contracted)

    def _convolved(self, x: Any, kernel: Any, bias: Any) -> Any:
        """Whatever the layer does with its kernel, it does with the rounded one."""
        values = [(self.layer.kernel, kernel)]
        if self.layer.bias is not None:
            values.append((self.layer.bias, bias))
        with keras.StatelessScope(values):
            y = self.layer.call(x)
        return y if self.layer.bias is not None or bias is None else y + ops.cast(bias, y.dtype)

    def _rounded_bias(self, bias: Any, weight_scales: Any) -> Any:
        if bias is None or self._entering is None:
            return bias
        scale = ops.reshape(weight_scales, bias.shape) * self._entering.scale
        return bias_on_grid(bias, scale)

    def _folded(self) -> tuple[Any, Any]:
        """What the kernel is multiplied by, and the bias, `None` where there is none."""
        bias = None if self.layer.bias is None else ops.convert_to_tensor(self.layer.bias)
        if self.batch_normalization is not None:
            return folded(self.batch_normalization, 0.0 if bias is None else bias)
        return self.multiplier, None if bias is None else bias * self.multiplier

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        parts = {
            name: keras.saving.serialize_keras_object(getattr(self, name)) for name in ("layer", "batch_normalization")
        }
        return {**super().get_config(), **parts, "multiplier": self.multiplier}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "QuantizedAffine":
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in ("layer", "batch_normalization")}
        return cls(**{**config, **parts})


def channel_axes(layer: keras.Layer) -> list[int]:
    """The axes of a kernel that have a scale for each of their places in TFLite."""
    rank = len(layer.kernel.shape)
    if isinstance(layer, _DEPTHWISE):
        return [rank - 2, rank - 1]
    if isinstance(layer, _TRANSPOSED):
        return [rank - 2]
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, rest = layer.equation.split(",")
        kernel = rest.split("->")[0]
        return [axis for axis, letter in enumerate(kernel) if letter not in inputs]
    return [rank - 1]


def contracted_axes(layer: keras.Layer) -> int | None:
    """How many axes, the last of the input and the first of the kernel, a matrix product sums over; else `None`."""
    if isinstance(layer, keras.layers.Dense):
        return 1
    if not isinstance(layer, keras.layers.EinsumDense):
        return None
    inputs, rest = layer.equation.split(",")
    kernel, outputs = rest.split("->")
    for count in range(1, len(kernel)):
        if inputs.endswith(kernel[:count]) and outputs == inputs[: len(inputs) - count] + kernel[count:]:
            return count
    return None


def _multiplied(x: Any, kernel: Any, bias: Any, contracted: int) -> Any:
    """A product of two matrices, to which TFLite adds a bias at once; of more axes, only after a reshape."""
    summed, made = kernel.shape[:contracted], kernel.shape[contracted:]
    kept = len(x.shape) - contracted
    y = ops.matmul(
        ops.reshape(x, (-1, math.prod(summed))), ops.cast(ops.reshape(kernel, (math.prod(summed), -1)), x.dtype)
    )
    if bias is not None:
        y += ops.cast(ops.reshape(ops.broadcast_to(bias, made), (-1,)), y.dtype)
    sizes = ops.shape(x)[1:kept]
    return ops.reshape(y, (-1, *sizes, *made))


def range_of(x: keras.KerasTensor) -> FakeQuantize | None:
    """The layer on whose grid a symbolic tensor lies, where its graph tells."""
    operation, index, _ = x._keras_history
    if isinstance(operation, FakeQuantize):
        return operation
    if hasattr(operation, "rounding"):  # layers that round what they give
        return operation.rounding
    return range_of(operation._inbound_nodes[index].input_tensors[0]) if kinds.keeps_range(operation) else None
