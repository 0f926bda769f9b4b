"""What each operation of a float graph becomes: a piece of layers that compute it as int8 does."""

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_kd.quantization import kinds
from keras_kd.quantization.affine import AFFINE, QuantizedAffine
from keras_kd.quantization.attention import QuantizedAttention
from keras_kd.quantization.fake_quantize import FakeQuantize
from keras_kd.quantization.grid import FIXED_RANGES
from keras_kd.quantization.groups import Group
from keras_kd.quantization.normalization import QuantizedLayerNormalization
from keras_kd.quantization.scaling import QuantizedScaling

layers = keras.layers
Piece = Callable[..., Any]
_ROUND_THEMSELVES = {
    layers.BatchNormalization: QuantizedScaling,
    layers.LayerNormalization: QuantizedLayerNormalization,
}


class Pieces:
    """Makes the pieces, and keeps which weights their layers are to have.

    Args:
        decay: That of `FakeQuantize`.
    """

    def __init__(self, decay: float):
        self._decay = decay
        self._copied: list[tuple[keras.Layer, list[Any], bool]] = []

    def copy_weights(self) -> None:
        """Gives the layers, once they are built, the weights of those that they stand for."""
        for layer, weights, trainable in self._copied:
            layer.set_weights(weights)
            layer.trainable = trainable

    def quantize(self, name: str, fixed: tuple[float, float] | None = None) -> FakeQuantize:
        """A layer that rounds."""
        return FakeQuantize(self._decay, fixed, name=name)

    def of(self, group: Group) -> Piece:
        """What to call in place of a group.

        Raises:
            ValueError: If it has no form in int8.
        """
        operation = group.operation
        if kinds.keeps_range(operation):
            return self._copy(operation)
        if type(operation) in _ROUND_THEMSELVES and group.function is None:
            return self._in_steps(group, group.name)
        function = kinds.function_of(operation)
        if function is not None:
            return self._function(function, group.name)
        own_name = operation.name if operation.name != group.name else f"{operation.name}_kernel"
        computing = self._computing(group, own_name)
        if group.function is None:
            return _chain(computing, self.quantize(group.name))
        if group.function in kinds.FUSED:
            return _chain(computing, self._function(group.function, group.name))
        before = self.quantize(f"{group.name}_before")
        return _chain(computing, before, self._function(group.function, group.name))

    def _computing(self, group: Group, name: str) -> Piece:
        """The operation itself, before its result is rounded."""
        operation = group.operation
        kind = type(operation)
        if isinstance(operation, AFFINE):
            copied = self._copy(operation, activation="linear")
            return QuantizedAffine(copied, self._copy(group.batch_normalization), name=name)
        if kind in kinds.SEPARABLE:
            return self._separable(operation, self._copy(group.batch_normalization), name)
        if isinstance(operation, layers.Rescaling):
            return self._rescaling(operation, name)
        if kind in kinds.AVERAGES and operation.padding == "valid":
            return self._average(operation, name)
        _refuse_what_int8_has_not(group)
        if kind is layers.MultiHeadAttention:
            return QuantizedAttention(self._copy(operation), decay=self._decay, name=name)
        if kind in _ROUND_THEMSELVES:
            return self._in_steps(group, name)
        return self._copy(operation, name=name)

    def _in_steps(self, group: Group, name: str) -> Piece:
        _refuse_what_int8_has_not(group)
        operation = group.operation
        return _ROUND_THEMSELVES[type(operation)](self._copy(operation), decay=self._decay, name=name)

    def _copy(self, operation: Any, **changed: Any) -> Any:
        """One of the same settings, whose weights are copied when it is built."""
        if operation is None:
            return None
        copied = type(operation).from_config({**operation.get_config(), **changed})
        if getattr(operation, "weights", ()):
            self._copied.append((copied, operation.get_weights(), operation.trainable))
        return copied

    def _average(self, operation: Any, name: str) -> Piece:
        """A convolution: TFLite's averages stay on the grid of what they average, and round halves by their sign."""
        weight = keras.initializers.Constant(1 / math.prod(operation.pool_size))
        averaging = kinds.AVERAGES[type(operation)](
            operation.pool_size,
            operation.strides,
            use_bias=False,
            depthwise_initializer=weight,
            data_format=operation.data_format,
            trainable=False,
            dtype=operation.dtype_policy,
            name=f"{name}_mean",
        )
        return QuantizedAffine(averaging, name=name)

    def _function(self, function: str, name: str) -> Piece:
        """An activation function of what is rounded, or that TFLite computes with the operator before."""
        activation = layers.Activation
        if function in kinds.FUSED | kinds.FUNCTIONS:
            fixed = FIXED_RANGES.get(function)
            return _chain(activation(function, name=f"{name}_{function}"), self.quantize(name, fixed))
        if function == "silu":
            gate = _chain(
                activation("sigmoid", name=f"{name}_sigmoid"),
                self.quantize(f"{name}_gate", FIXED_RANGES["sigmoid"]),
            )
            product = _chain(layers.Multiply(name=f"{name}_product"), self.quantize(name))
            return lambda x: product([x, gate(x)])
        if function == "hard_sigmoid":
            return _chain(
                layers.Rescaling(1.0, 3.0, name=f"{name}_shifted"),
                layers.ReLU(6.0, name=f"{name}_relu6"),
                self.quantize(f"{name}_clipped"),
                layers.Rescaling(1 / 6, name=f"{name}_scaled"),
                self.quantize(name),
            )
        raise ValueError(
            f"`fake_quantize`: the activation of {name!r} must be one of "
            f"{', '.join(sorted(kinds.FUSED | kinds.FUNCTIONS | kinds.SEVERAL))}. Received: {function!r}."
        )

    def _separable(self, layer: keras.Layer, norm: keras.layers.BatchNormalization | None, name: str) -> Piece:
        """A depthwise convolution, and one of 1 × 1."""
        config = layer.get_config()
        depthwise = kinds.SEPARABLE[type(layer)](
            config["kernel_size"],
            use_bias=False,
            depthwise_regularizer=config["depthwise_regularizer"],
            name=f"{name}_depthwise",
            **{
                key: config[key]
                for key in ("strides", "padding", "dilation_rate", "data_format", "depth_multiplier", "dtype")
            },
        )
        pointwise = (layers.Conv1D if isinstance(layer, layers.SeparableConv1D) else layers.Conv2D)(
            config["filters"],
            1,
            kernel_regularizer=config["pointwise_regularizer"],
            name=f"{name}_pointwise",
            **{key: config[key] for key in ("use_bias", "data_format", "bias_regularizer", "dtype")},
        )
        kernel, *rest = layer.get_weights()
        self._copied += [(depthwise, [kernel], layer.trainable), (pointwise, rest, layer.trainable)]
        return _chain(
            QuantizedAffine(depthwise, name=f"{name}_first"),
            self.quantize(f"{name}_between"),
            QuantizedAffine(pointwise, norm, name=name),
        )

    def _rescaling(self, layer: layers.Rescaling, name: str) -> Piece:
        scaled = layers.Rescaling(layer.scale, dtype=layer.dtype_policy, name=f"{name}_scale")
        if not layer.offset:
            return scaled
        shifted = layers.Rescaling(1.0, layer.offset, dtype=layer.dtype_policy, name=name)
        return _chain(scaled, self.quantize(f"{name}_scaled"), shifted)


def _chain(first: Piece, *others: Piece) -> Piece:
    def call(*args: Any, **kwargs: Any) -> Any:
        y = first(*args, **kwargs)
        for piece in others:
            y = piece(y)
        return y

    return call


def _refuse_what_int8_has_not(group: Group) -> None:
    operation = group.operation
    if not isinstance(operation, keras.Layer) or kinds.is_custom(operation):
        return
    allowed = {
        layers.BatchNormalization: group.last_axis,
        layers.LayerNormalization: group.last_axis,
        layers.MultiHeadAttention: group.rank == 3 and not getattr(operation, "_use_gate", False),
        layers.Embedding: not getattr(operation, "mask_zero", False),
    }
    if not allowed.get(type(operation), isinstance(operation, kinds.ONE_OPERATOR)):
        raise ValueError(
            f"`fake_quantize`: the layer {operation.name!r} must have a form in int8: a kernel, BatchNormalization, "
            "LayerNormalization over the last axis, attention over sequences, merging, pooling, shaping or activation, "
            f"without masks. Received: {type(operation).__name__}. Replace it, or export with `quantize='dynamic'`."
        )
