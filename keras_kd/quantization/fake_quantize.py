"""`FakeQuantize`: the layer that learns the range of an activation and rounds to it."""

from typing import Any

import keras
from keras import ops

from keras_kd.quantization.grid import activation_scale, activations_on_grid
from keras_kd.scalars import checked_number

_LEAST_WIDTH = 1e-6


@keras.saving.register_keras_serializable(package="keras_kd")
class FakeQuantize(keras.layers.Layer):
    """Rounds activations to int8 between two numbers that are moving averages of what it has seen.

    In training, `low → low + r · (min(x, 0) - low)` and `high → high + r · (max(x, 0) - high)` over the batch, with
    `r = max(1 - decay, 1 / n)` in the n-th step; then, as in inference, `x` is rounded to the 256 levels between the
    two. Until the first training step it lets everything through. Computes in float32 under every policy.

    Args:
        decay: How slowly the range moves, in [0, 1). Defaults to 0.99.
        fixed: A pair `(low, high)` in place of a range that is learnt. Defaults to none.
        **kwargs: As `keras.layers.Layer` takes them.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> layer = FakeQuantize()
        >>> ops.convert_to_numpy(layer(ops.array([0.0, 0.6, 255.0]), training=True)).tolist()
        [0.0, 1.0, 255.0]

    Reference:
        Jacob et al. Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference. 2018.
        arXiv:1712.05877. Theirs is a plain exponential average; ours begins as a mean, so that short training has no
        memory of the first batch.
    """

    def __init__(self, decay: float = 0.99, fixed: tuple[float, float] | None = None, **kwargs: Any):
        super().__init__(autocast=False, **kwargs)
        self.decay = checked_number(self, "decay", decay, low=0.0, high=1.0)
        self.fixed = None if fixed is None else tuple(fixed)
        if self.fixed is not None and not self.fixed[0] <= 0 <= self.fixed[1] > self.fixed[0]:
            raise ValueError(f"`FakeQuantize`: `fixed` must be (low <= 0, high >= 0). Received: fixed={fixed}.")
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        if self.fixed is None:
            self.low, self.high, self.steps = (
                self.add_weight(
                    shape=(),
                    initializer="zeros",
                    trainable=False,
                    dtype="float32",
                    autocast=False,
                    aggregation="mean",
                    name=name,
                )
                for name in ("low", "high", "steps")
            )

    @property
    def range(self) -> tuple[float, float] | None:
        """The least and the greatest value, or `None` before the first training step."""
        if self.fixed is not None:
            return self.fixed
        if not self.built or not float(ops.convert_to_numpy(self.steps)):
            return None
        return float(ops.convert_to_numpy(self.low)), float(ops.convert_to_numpy(self.high))

    @property
    def scale(self) -> Any:
        """The step between two levels, a float32 tensor; 0 before the first training step."""
        if self.fixed is not None:
            return activation_scale(*self.fixed)
        return ops.where(self.steps.value > 0, activation_scale(self.low.value, self.high.value), 0.0)

    def call(self, x: Any, training: bool | None = None) -> Any:
        given = ops.cast(x, "float32")
        if self.fixed is not None:
            return ops.cast(activations_on_grid(given, *self.fixed), x.dtype)
        if training:
            self._observe(given)
        rounded = activations_on_grid(given, self.low.value, self.high.value)
        return ops.cast(ops.where(self.steps.value > 0, rounded, given), x.dtype)

    def _observe(self, x: Any) -> None:
        rate = ops.maximum(1.0 - self.decay, 1.0 / (self.steps.value + 1.0))
        low = ops.minimum(ops.min(x), 0.0)
        high = ops.maximum(ops.max(x), ops.maximum(low + _LEAST_WIDTH, 0.0))
        self.low.assign(self.low.value + rate * (low - self.low.value))
        self.high.assign(self.high.value + rate * (high - self.high.value))
        self.steps.assign(self.steps.value + 1.0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "decay": self.decay, "fixed": self.fixed}
