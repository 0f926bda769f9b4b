"""Losses between class logits that treat the labelled class, the target, apart from the rest."""

from keras import KerasTensor, ops

from keras_kd.losses.logits import EXCLUDED, cross_entropy, divergence, soft_target_cross_entropy
from keras_kd.losses.tensors import as_student, as_teacher, ratio, targets_of

Tensor = KerasTensor


def decoupled(
    teacher: Tensor,
    student: Tensor,
    labels: Tensor,
    temperature: float | Tensor = 4.0,
    target_weight: float | Tensor = 1.0,
    non_target_weight: float | Tensor = 8.0,
) -> Tensor:
    r"""Soft targets in two parts: how sure the target is, and how the rest compares among itself.

    `T² · (α KL([p_t, 1 - p_t] || [q_t, 1 - q_t]) + β KL(p̂ || q̂))`, with `p = softmax(teacher / T)`,
    `q = softmax(student / T)`, `t` the label, and `p̂`, `q̂` the softmax at `T` over all classes but `t`.
    Computed from log-probabilities, without an epsilon. Of two classes the second part is zero.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        labels: Integers of shape `(...)` or `(..., 1)`, or scores of shape `(..., classes)`, which count by their
            greatest. Where a label names none of the classes there is no first part, and the rest is all classes.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 4.
        target_weight: `α >= 0`, a number or a scalar tensor. Defaults to 1.
        non_target_weight: `β >= 0`, a number or a scalar tensor. Defaults to 8.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`.

    Example:
        >>> import numpy as np
        >>> teacher, student = np.log([[0.5, 0.25, 0.25]]), np.log([[0.5, 0.125, 0.375]])
        >>> value = decoupled(teacher, student, [0], temperature=1.0)
        >>> round(float(value[0]), 4)   # 8 (0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75))
        1.1507

    Reference:
        Zhao, Cui, Song, Qiu, Liang. Decoupled Knowledge Distillation. 2022. arXiv:2203.08679.
        The authors' code subtracts 1000 from the target's logit where this leaves the class out.
    """
    teacher, student = as_teacher(teacher) / temperature, as_student(student) / temperature
    targets = targets_of(labels, student)
    target = divergence(log_binary(teacher, targets), log_binary(student, targets))
    non_target = divergence(log_rest(teacher, targets), log_rest(student, targets))
    return temperature**2 * (target_weight * target + non_target_weight * non_target)


def normalized(
    teacher: Tensor,
    student: Tensor,
    labels: Tensor,
    gamma: float | Tensor = 1.5,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    r"""The target's own cross-entropy as sure as the teacher is, and that of the rest, normalised to add up to one.

    `-p_t log q_t - γ T² Σ_{k≠t} p̂_k log q̂_k`, with `p = softmax(teacher)`, `q = softmax(student)`, `t` the label,
    and `p̂`, `q̂` the softmax at `T` over all classes but `t`.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        labels: Integers of shape `(...)` or `(..., 1)`, or scores of shape `(..., classes)`, which count by their
            greatest. Where a label names none of the classes there is no first part, and the rest is all classes.
        gamma: `γ >= 0`, a number or a scalar tensor. Defaults to 1.5.
        temperature: `T > 0` of the second part, a number or a scalar tensor. Defaults to 1.

    Returns:
        One value per example, shape `(...)`, float32, in nats. At its least it is not zero, and where the student
        equals the teacher it is not at its least: the target may always be surer.

    Example:
        >>> import numpy as np
        >>> teacher, student = np.log([[0.5, 0.25, 0.25]]), np.log([[0.25, 0.375, 0.375]])
        >>> value = normalized(teacher, student, [0])
        >>> round(float(value[0]), 4)   # 0.5 ln 4 + 1.5 ln 2
        1.7329

    Reference:
        Yang, Zeng, Li, Zhang, Yuan, Li. From Knowledge Distillation to Self-Knowledge Distillation: A Unified
        Approach with Normalized Loss and Customized Soft Labels. 2023. arXiv:2303.13005.
    """
    teacher, student = as_teacher(teacher), as_student(student)
    targets = targets_of(labels, student)
    target = -ops.exp(log_target(teacher, targets)) * log_target(student, targets)
    rest = cross_entropy(log_rest(teacher / temperature, targets), log_rest(student / temperature, targets))
    return target + gamma * temperature**2 * rest


def weighted_soft_labels(teacher: Tensor, student: Tensor, labels: Tensor, temperature: float | Tensor = 2.0) -> Tensor:
    r"""Soft targets that count where the student is worse at the label than the teacher.

    `-w · T² · Σ_k p_k log q_k`, with `p = softmax(teacher / T)`, `q = softmax(student / T)` and the weight
    `w = 1 - exp(-CE_student / CE_teacher)`, through which no gradient flows. `CE` is the cross-entropy under the
    label at a temperature of 1. `w` is 1 where that of the teacher alone is zero, and 0 where both are.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        labels: Integers of shape `(...)` or `(..., 1)`, or scores of shape `(..., classes)`, which count by their
            greatest. Where a label names none of the classes, the value is zero.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 2.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`. Not zero where the student equals the
        teacher: there `w` is `1 - 1 / e`.

    Example:
        >>> import numpy as np
        >>> value = weighted_soft_labels(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]]), [0], temperature=1.0)
        >>> round(float(value[0]), 4)   # (1 - exp(-ln 4 / ln 2)) (0.5 ln 4 + 0.5 ln(4 / 3))
        0.7237

    Reference:
        Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang. Rethinking Soft Labels for Knowledge Distillation: A
        Bias-Variance Tradeoff Perspective. 2021. arXiv:2102.00650. The authors' code adds 1e-7 to `CE_teacher`.
    """
    targets = targets_of(labels, as_student(student))
    taught, learnt = (-log_target(as_student(logits), targets) for logits in (teacher, student))
    weight = ops.where(taught > 0, -ops.expm1(-ratio(learnt, taught)), ops.cast(learnt > 0, "float32"))
    return ops.stop_gradient(weight) * soft_target_cross_entropy(teacher, student, temperature)


def log_target(logits, targets):
    """Log-probability of the target, `(...)`; 0 without one."""
    return log_binary(logits, targets)[..., 0]


def log_binary(logits, targets):
    """Log-probabilities of the target and of all else, `(..., 2)`. The odds keep what `1 - p` would round away."""
    is_target = targets > 0
    # Without a target as good as certain.
    target = ops.where(ops.any(is_target, axis=-1), ops.sum(targets * logits, axis=-1), -EXCLUDED)
    odds = target - ops.logsumexp(ops.where(is_target, EXCLUDED, logits), axis=-1)
    return -ops.stack([ops.softplus(-odds), ops.softplus(odds)], axis=-1)


def log_rest(logits, targets):
    """Log-probabilities of the classes among all but the target, `(..., classes)`; 0 at the target."""
    is_target = targets > 0
    return ops.where(is_target, 0.0, ops.log_softmax(ops.where(is_target, EXCLUDED, logits)))
