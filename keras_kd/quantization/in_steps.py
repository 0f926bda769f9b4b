"""`InSteps`: a layer that TFLite has no operator for, computed in the steps of those that it has."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from keras_kd.quantization.fake_quantize import FakeQuantize
from keras_kd.quantization.grid import FIXED_RANGES


class InSteps(keras.layers.Layer):
    """Computes what a Keras layer does, with a range for each intermediate result.

    Args:
        layer: The layer that it computes, and whose weights it trains.
        decay: That of `FakeQuantize`. Defaults to 0.99.
        **kwargs: As `keras.layers.Layer` takes them.
    """

    steps: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[Mapping[str, str]] = {}  # steps whose range is that of a function

    def __init__(self, layer: keras.Layer, decay: float = 0.99, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer
        self.decay = decay
        self.ranges = {
            step: FakeQuantize(decay, FIXED_RANGES.get(self.fixed.get(step)), name=step) for step in self.steps
        }

    def build(self, input_shape: Any) -> None:
        self._build_parts(input_shape)

    def _build_parts(self, *shapes: Any) -> None:
        if not self.layer.built:
            self.layer.build(*shapes)
        for quantize in self.ranges.values():
            quantize.build(None)

    def get_config(self) -> dict[str, Any]:
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer, "decay": self.decay}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "InSteps":
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


class RoundsItsResult(InSteps):
    """One whose last step is the result, on the grid of `"result"`."""

    @property
    def rounding(self) -> FakeQuantize:
        """What rounds the result."""
        return self.ranges["result"]

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
