"""`QuantizedLayerNormalization`: layer normalisation in the steps in which TFLite computes it."""

from typing import Any

import keras
from keras import ops

from keras_kd.quantization.grid import constants_on_grid
from keras_kd.quantization.in_steps import RoundsItsResult


@keras.saving.register_keras_serializable(package="keras_kd")
class QuantizedLayerNormalization(RoundsItsResult):
    """`γ · (x - mean) / √(variance + ε) + β` over the last axis, each intermediate result rounded to int8.

    `variance + ε` is at least one step of its grid.

    TFLite has no operator for it, so that each of its steps has a range of its own, but for the last two, which share
    one: without a shift they are the same, and the converter refuses two ranges for one tensor (TF 2.21).

    Args:
        layer: The `keras.layers.LayerNormalization` that it computes, over the last axis.
        decay: That of `FakeQuantize`. Defaults to 0.99.
        **kwargs: As `keras.layers.Layer` takes them.
    """

    steps = ("mean", "centred", "squared", "variance", "stabilised", "inverse", "normalised", "result")

    def call(self, x: Any, training: bool | None = None) -> Any:
        def rounded(step: str, value: Any) -> Any:
            return self.ranges[step](value, training=training)

        x = ops.cast(x, "float32")
        centred = x
        if not getattr(self.layer, "rms_scaling", False):
            centred = rounded("centred", x - rounded("mean", ops.mean(x, axis=-1, keepdims=True)))
        squared = rounded("squared", centred * centred)
        variance = rounded("variance", ops.mean(squared, axis=-1, keepdims=True))
        stabilised = rounded("stabilised", variance + self.layer.epsilon)
        # A small variance may round to 0, ε and all.
        inverse = rounded("inverse", ops.rsqrt(ops.maximum(stabilised, self.ranges["stabilised"].scale)))
        y = centred * inverse
        if self.layer.gamma is not None:
            y = rounded("normalised", y) * constants_on_grid(self.layer.gamma)
        if self.layer.beta is not None:
            y = rounded("result", y) + constants_on_grid(self.layer.beta)
        return ops.cast(rounded("result", y), self.compute_dtype)
