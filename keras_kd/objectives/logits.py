"""Objectives between the class logits of teacher and student."""

from typing import Any

import keras

from keras_kd import losses
from keras_kd.objectives.class_logits import LogitsObjective, SoftenedObjective
from keras_kd.scalars import checked_number


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftTargets(SoftenedObjective):
    """Soft targets: the teacher's softened classes, `T² · KL(softmax(t / T) || softmax(s / T))`.

    See `keras_kd.losses.soft_target_kl` for the formula. With several outputs, the values follow `loss_weights`,
    or add up.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training.
        outputs: Student outputs to distil, keys of a dict or names of a Functional model's outputs. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"soft_targets"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> SoftTargets(2.0).get_config()
        {'name': 'soft_targets', 'weight': 1.0, 'outputs': None, 'temperature': 2.0}

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """

    loss = staticmethod(losses.soft_target_kl)
    hears = ("dense", "top_k", "sampled")


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftCrossEntropy(SoftenedObjective):
    """Soft targets in the paper's own form, the cross-entropy under the teacher's softened classes.

    Its gradients are those of `SoftTargets`; its value stays above zero by `T²` times the teacher's entropy.
    See `keras_kd.losses.soft_target_cross_entropy` for the formula.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"soft_cross_entropy"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> SoftCrossEntropy(weight=0.5).name
        'soft_cross_entropy'

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """

    loss = staticmethod(losses.soft_target_cross_entropy)
    hears = ("dense", "top_k", "sampled")


@keras.saving.register_keras_serializable(package="keras_kd")
class ReverseKL(SoftenedObjective):
    """The student's classes are such as the teacher would name; it may leave some of the teacher's out.

    See `keras_kd.losses.reverse_kl` for the formula.

    Args:
        temperature: `T > 0`. Defaults to 1; `None` is the distiller's.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"reverse_kl"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> ReverseKL().get_config()["temperature"]
        1.0

    Reference:
        Gu, Dong, Wei, Huang. MiniLLM: Knowledge Distillation of Large Language Models. 2023. arXiv:2306.08543.
    """

    loss = staticmethod(losses.reverse_kl)
    hears = ("dense", "top_k")

    def __init__(self, temperature: float | None = 1.0, **kwargs: Any):
        super().__init__(temperature, **kwargs)


@keras.saving.register_keras_serializable(package="keras_kd")
class JensenShannon(SoftenedObjective):
    """The classes of teacher and student differ little from a mixture of both.

    See `keras_kd.losses.jensen_shannon` for the formula.

    Args:
        temperature: `T > 0`. Defaults to 1; `None` is the distiller's.
        beta: Share of the teacher in the mixture, between 0 and 1. Defaults to 0.5.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"jensen_shannon"`.

    Raises:
        ValueError: If `beta`, the temperature or the weight is out of range; when training begins, if the classes
            differ.

    Example:
        >>> JensenShannon(beta=0.25).get_config()["beta"]
        0.25

    Reference:
        Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem. On-Policy Distillation of Language Models:
        Learning from Self-Generated Mistakes. 2023. arXiv:2306.13649.
    """

    loss = staticmethod(losses.jensen_shannon)
    hears = ("dense", "top_k")
    settings = ("beta",)

    def __init__(self, temperature: float | None = 1.0, *, beta: float = 0.5, **kwargs: Any):
        super().__init__(temperature, **kwargs)
        self.beta = checked_number(self, "beta", beta, low=0.0, high=1.0, open_low=True)
        if self.beta == 1.0:
            raise ValueError(f"`JensenShannon`: `beta` must be < 1. Received: beta={beta!r}.")


@keras.saving.register_keras_serializable(package="keras_kd")
class LogitsMSE(LogitsObjective):
    """The student's logits equal the teacher's, their mean and scale too.

    See `keras_kd.losses.logits_mse` for the formula.

    Args:
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1. The paper trains with this loss alone.
        name: Key among the metrics. Defaults to `"logits_mse"`.

    Raises:
        ValueError: If the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> LogitsMSE(outputs="digit").get_config()
        {'name': 'logits_mse', 'weight': 1.0, 'outputs': ['digit']}

    Reference:
        Ba, Caruana. Do Deep Nets Really Need to be Deep? 2014. arXiv:1312.6184.
    """

    loss = staticmethod(losses.logits_mse)


@keras.saving.register_keras_serializable(package="keras_kd")
class StandardizedSoftTargets(SoftenedObjective):
    """Soft targets of logits that have mean 0 and standard deviation 1: a small student need not match the scale.

    See `keras_kd.losses.standardized_soft_target_kl` for the formula.

    Args:
        temperature: `T > 0`. Defaults to 2; `None` is the distiller's.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1. The paper's is 9 beside 0.1 of the student's loss, which
            is 90 beside the whole of it.
        name: Key among the metrics. Defaults to `"standardized_soft_targets"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> StandardizedSoftTargets().get_config()["temperature"]
        2.0

    Reference:
        Sun, Ren, Li, Wang, Cao. Logit Standardization in Knowledge Distillation. 2024. arXiv:2403.01427.
    """

    loss = staticmethod(losses.standardized_soft_target_kl)
    paper_weight = 90.0

    def __init__(self, temperature: float | None = 2.0, **kwargs: Any):
        super().__init__(temperature, **kwargs)


@keras.saving.register_keras_serializable(package="keras_kd")
class HardLabels(LogitsObjective):
    """The student names the class that the teacher decides for.

    See `keras_kd.losses.hard_labels` for the formula. As in the paper, give the student a second head and distil
    that one, `HardLabels(outputs=["distillation"])`, while `compile(loss={"class": ...})` trains the first.

    Args:
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1, the paper's.
        name: Key among the metrics. Defaults to `"hard_labels"`.

    Raises:
        ValueError: If the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> HardLabels(outputs=["distillation"]).outputs
        ['distillation']

    Reference:
        Touvron, Cord, Douze, Massa, Sablayrolles, Jégou. Training data-efficient image transformers &
        distillation through attention. 2021. arXiv:2012.12877.
    """

    loss = staticmethod(losses.hard_labels)
