"""`QuantizedScaling`: a BatchNorm that no kernel stands before."""

from typing import Any

import keras
from keras import ops

from keras_kd.quantization.grid import constants_on_grid
from keras_kd.quantization.in_steps import RoundsItsResult


@keras.saving.register_keras_serializable(package="keras_kd")
class QuantizedScaling(RoundsItsResult):
    """`m · x + (β - m · mean)` with `m = γ / √(variance + ε)` and the moving statistics, both steps rounded to int8.

    Both share one range: without a shift they are the same, and the converter refuses two for one tensor (TF 2.21).

    Args:
        layer: The `keras.layers.BatchNormalization` that it computes, over the last axis.
        decay: That of `FakeQuantize`. Defaults to 0.99.
        **kwargs: As `keras.layers.Layer` takes them.
    """

    steps = ("result",)

    def call(self, x: Any, training: bool | None = None) -> Any:
        factor, shift = folded(self.layer)
        scaled = self.rounding(x * ops.cast(constants_on_grid(factor), x.dtype), training=training)
        return self.rounding(scaled + ops.cast(constants_on_grid(shift), x.dtype), training=training)


def folded(norm: keras.layers.BatchNormalization, bias: Any = 0.0) -> tuple[Any, Any]:
    """What `norm(x + bias)` multiplies `x` by, and what it adds, in inference: one number for each channel."""
    factor = ops.rsqrt(norm.moving_variance + norm.epsilon)
    factor = factor if norm.gamma is None else factor * norm.gamma
    shift = (bias - norm.moving_mean) * factor
    return factor, shift if norm.beta is None else shift + norm.beta
