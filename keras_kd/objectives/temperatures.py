"""A temperature that is trained against the student."""

from typing import Any

import keras
from keras import ops

from keras_kd import losses
from keras_kd.objectives.class_logits import LogitsObjective
from keras_kd.scalars import MovableScalar, as_float, checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class CurriculumTemperature(LogitsObjective):
    r"""Soft targets at a temperature that learns to make them hard for the student.

    `T = low + (high - low) · sigmoid(θ)`, one trained scalar `θ` for all examples, which starts at 1. The gradient
    that `θ` receives is that of `keras_kd.losses.soft_target_kl` at `T`, times `-reversal`; the student's is as it is.
    In the paper the reversal grows from 0 to 1 over the first 10 epochs along a cosine:
    `keras_kd.schedules.Cosine("curriculum_temperature.reversal", 0.0, 1.0, epochs=11)`.

    Args:
        low: Least temperature, `> 0`. Defaults to 1.
        high: Greatest temperature, more than `low`. Defaults to 21.
        reversal: Strength of the reversed gradient, `>= 0`: a variable, so that it can be assigned while training.
            Defaults to 1.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"curriculum_temperature"`.

    Raises:
        ValueError: If `low`, `high`, `reversal` or the weight is out of range; when training begins, if the classes
            differ.

    Example:
        >>> objective = CurriculumTemperature(low=1.0, high=21.0)
        >>> round(float(objective.temperature), 2)   # 1 + 20 / (1 + 1 / e)
        15.62

    Reference:
        Li, Li, Yang, Zhao, Song, Luo, Li, Yang. Curriculum Temperature for Knowledge Distillation. 2023.
        arXiv:2211.16231. This is the global version; the other has a small network say `T` for each example.
    """

    loss = staticmethod(losses.soft_target_kl)
    reversal = MovableScalar(low=0.0)

    def __init__(self, low: float = 1.0, high: float = 21.0, *, reversal: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.low = checked_number(self, "low", low, low=0.0, open_low=True)
        self.high = checked_number(self, "high", high, low=self.low, open_low=True)
        self.reversal = reversal
        self.theta = self.add_weight(shape=(), initializer="ones", dtype="float32", autocast=False, name="theta")

    @property
    def temperature(self) -> Any:
        """The temperature now, a scalar tensor, by which the gradient to `θ` is reversed."""
        theta, fixed = ops.convert_to_tensor(self.theta), ops.stop_gradient(self.theta)
        # The difference is zero: it has a gradient and no value.
        reversed_theta = fixed - self.reversal * (theta - fixed)
        return self.low + (self.high - self.low) * ops.sigmoid(reversed_theta)

    def arguments(self, temperature):
        return {"temperature": self.temperature}

    def get_config(self):
        return {**super().get_config(), "low": self.low, "high": self.high, "reversal": as_float(self.reversal)}
