"""Objectives between class logits that look at the labels too."""

from typing import Any

import keras

from keras_kd import losses
from keras_kd.objectives.class_logits import SoftenedObjective
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class DecoupledKD(SoftenedObjective):
    """Soft targets in two parts, each with a weight of its own: the labelled class, and the rest among itself.

    See `keras_kd.losses.decoupled` for the formula. The paper lets the weight of the method grow over the first 20
    epochs: `keras_kd.schedules.WarmUp("decoupled_kd", 1.0, epochs=20)`.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training. The paper's is 4.
        target_weight: Factor of the labelled class, `>= 0`. Defaults to 1.
        non_target_weight: Factor of the rest, `>= 0`. Defaults to 8.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1, the paper's.
        name: Key among the metrics. Defaults to `"decoupled_kd"`.

    Raises:
        ValueError: If a factor, the temperature or the weight is out of range; when training begins, if the classes
            differ or there are no labels.

    Example:
        >>> DecoupledKD(non_target_weight=2.0).get_config()["non_target_weight"]
        2.0

    Reference:
        Zhao, Cui, Song, Qiu, Liang. Decoupled Knowledge Distillation. 2022. arXiv:2203.08679.
    """

    loss = staticmethod(losses.decoupled)
    needs_labels = True
    settings = ("target_weight", "non_target_weight")

    def __init__(
        self,
        temperature: float | None = None,
        *,
        target_weight: float = 1.0,
        non_target_weight: float = 8.0,
        **kwargs: Any,
    ):
        super().__init__(temperature, **kwargs)
        self.target_weight = checked_number(self, "target_weight", target_weight, low=0.0)
        self.non_target_weight = checked_number(self, "non_target_weight", non_target_weight, low=0.0)


@keras.saving.register_keras_serializable(package="keras_kd")
class NormalizedKD(SoftenedObjective):
    """The labelled class as sure as the teacher is, and soft targets of the rest that add up to one.

    See `keras_kd.losses.normalized` for the formula. An ensemble is averaged at the temperature, also where the
    formula has none.

    Args:
        temperature: `T > 0`, of the rest. Defaults to 1; `None` is the distiller's.
        gamma: Factor of the rest, `>= 0`. Defaults to 1.5.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1, the paper's.
        name: Key among the metrics. Defaults to `"normalized_kd"`.

    Raises:
        ValueError: If `gamma`, the temperature or the weight is out of range; when training begins, if the classes
            differ or there are no labels.

    Example:
        >>> NormalizedKD(gamma=1.0).get_config()["gamma"]
        1.0

    Reference:
        Yang, Zeng, Li, Zhang, Yuan, Li. From Knowledge Distillation to Self-Knowledge Distillation: A Unified
        Approach with Normalized Loss and Customized Soft Labels. 2023. arXiv:2303.13005.
    """

    loss = staticmethod(losses.normalized)
    needs_labels = True
    settings = ("gamma",)

    def __init__(self, temperature: float | None = 1.0, *, gamma: float = 1.5, **kwargs: Any):
        super().__init__(temperature, **kwargs)
        self.gamma = checked_number(self, "gamma", gamma, low=0.0)


@keras.saving.register_keras_serializable(package="keras_kd")
class WeightedSoftLabels(SoftenedObjective):
    """Soft targets that count where the student is worse at the label than the teacher.

    See `keras_kd.losses.weighted_soft_labels` for the formula. An ensemble is averaged at the temperature, also
    where the formula has none.

    Args:
        temperature: `T > 0`. Defaults to 2; `None` is the distiller's.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1. That of the authors' code is 2.5 beside a student loss of
            weight 1.
        name: Key among the metrics. Defaults to `"weighted_soft_labels"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ or
            there are no labels.

    Example:
        >>> WeightedSoftLabels(weight=WeightedSoftLabels.paper_weight).get_config()["weight"]
        2.5

    Reference:
        Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang. Rethinking Soft Labels for Knowledge Distillation: A
        Bias-Variance Tradeoff Perspective. 2021. arXiv:2102.00650.
    """

    loss = staticmethod(losses.weighted_soft_labels)
    needs_labels = True
    paper_weight = 2.5

    def __init__(self, temperature: float | None = 2.0, **kwargs: Any):
        super().__init__(temperature, **kwargs)
