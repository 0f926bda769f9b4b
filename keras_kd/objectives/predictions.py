"""Objectives of how the class predictions of a whole batch hang together."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_kd import losses
from keras_kd.objectives.class_logits import LogitsObjective, SoftenedObjective
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class DIST(SoftenedObjective):
    """The student's predictions correlate with the teacher's, over the classes and over the examples of the batch.

    See `keras_kd.losses.dist` for the formula. All places of a sequence or a map are examples of one batch, but those
    that a mask leaves out.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training.
        inter_weight: Factor of the correlation over the classes of an example, `>= 0`. Defaults to 1.
        intra_weight: Factor of the correlation over the examples of a class, `>= 0`. Defaults to 1.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"dist"`.

    Raises:
        ValueError: If a factor, the temperature or the weight is out of range; when training begins, if the classes
            differ.

    Example:
        >>> DIST(4.0, intra_weight=2.0).get_config()["intra_weight"]
        2.0

    Reference:
        Huang, You, Wang, Qian, Xu. Knowledge Distillation from A Stronger Teacher. 2022. arXiv:2205.10536.
    """

    loss = staticmethod(losses.dist)
    relational = True
    settings = ("inter_weight", "intra_weight")

    def __init__(
        self, temperature: float | None = None, *, inter_weight: float = 1.0, intra_weight: float = 1.0, **kwargs: Any
    ):
        super().__init__(temperature, **kwargs)
        self.inter_weight = checked_number(self, "inter_weight", inter_weight, low=0.0)
        self.intra_weight = checked_number(self, "intra_weight", intra_weight, low=0.0)


@keras.saving.register_keras_serializable(package="keras_kd")
class MultiLevel(LogitsObjective):
    """Soft targets at several temperatures, and in them the likeness of examples and of classes.

    See `keras_kd.losses.multi_level` for the formula. All places of a sequence or a map are examples of one batch, but
    those that a mask leaves out. An ensemble is averaged at a temperature of 1.

    Args:
        temperatures: Values of `T > 0`, at least one. Defaults to 2, 3, 4, 5, 6.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"multi_level"`.

    Raises:
        ValueError: If a temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> MultiLevel([2, 4]).temperatures
        (2.0, 4.0)

    Reference:
        Jin, Wang, Lin. Multi-Level Logit Distillation. 2023. CVPR, 24276-24285.
    """

    loss = staticmethod(losses.multi_level)
    relational = True
    settings = ("temperatures",)

    def __init__(self, temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0), **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(temperatures, Sequence) or not temperatures:
            raise ValueError(
                "`MultiLevel`: `temperatures` must be a list of at least one number. "
                f"Received: temperatures={temperatures!r}."
            )
        self.temperatures = tuple(
            checked_number(self, "temperatures", temperature, low=0.0, open_low=True) for temperature in temperatures
        )

    def get_config(self):
        return {**super().get_config(), "temperatures": list(self.temperatures)}
