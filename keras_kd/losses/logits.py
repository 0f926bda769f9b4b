"""Losses between the class logits of teacher and student."""

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_student, as_teacher, targets_of, unit

Tensor = KerasTensor

# Beside any logit minus infinity, but its difference with itself is a number.
EXCLUDED = -1e30


def soft_target_kl(teacher: Tensor, student: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    r"""Kullback-Leibler divergence of the student's softened classes from the teacher's.

    `T² · KL(p || q)`, with `p = softmax(teacher / T)` and `q = softmax(student / T)`.
    `T²` keeps the size of the gradient as `T` grows. Computed from `log_softmax`, so it
    stays exact where a clipped probability would lose its gradient.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 4.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`.

    Example:
        >>> import numpy as np
        >>> value = soft_target_kl(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]]), temperature=1.0)
        >>> round(float(value[0]), 4)   # 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75)
        0.1438

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
        The paper writes the cross-entropy, which differs by the teacher's entropy: a constant
        for the student, so the gradients are the same.
    """
    return temperature**2 * divergence(*log_softened(teacher, student, temperature))


def soft_target_cross_entropy(teacher: Tensor, student: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    r"""Cross-entropy of the student's softened classes under the teacher's.

    `-T² · Σ_k p_k log q_k`, with `p = softmax(teacher / T)` and `q = softmax(student / T)`.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 4.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`. At its least it is
        `T²` times the teacher's entropy, not zero.

    Example:
        >>> import numpy as np
        >>> value = soft_target_cross_entropy(np.zeros((1, 2)), np.zeros((1, 2)), temperature=1.0)
        >>> round(float(value[0]), 4)   # ln 2
        0.6931

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """
    log_p, log_q = log_softened(teacher, student, temperature)
    return temperature**2 * cross_entropy(log_p, log_q)


def reverse_kl(teacher: Tensor, student: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""Kullback-Leibler divergence of the teacher's classes from the student's: the student may leave some out.

    `T² · KL(q || p)`, with `p = softmax(teacher / T)` and `q = softmax(student / T)`.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 1.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`.

    Example:
        >>> import numpy as np
        >>> value = reverse_kl(np.log([[0.25, 0.75]]), np.log([[0.5, 0.5]]))
        >>> round(float(value[0]), 4)   # 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75)
        0.1438

    Reference:
        Gu, Dong, Wei, Huang. MiniLLM: Knowledge Distillation of Large Language Models. 2023. arXiv:2306.08543.
        The paper estimates the divergence between whole sentences that the student wrote, by policy gradients;
        this is the exact divergence between the classes of one place.
    """
    log_p, log_q = log_softened(teacher, student, temperature)
    return temperature**2 * divergence(log_q, log_p)


def jensen_shannon(
    teacher: Tensor, student: Tensor, temperature: float | Tensor = 1.0, beta: float | Tensor = 0.5
) -> Tensor:
    r"""Generalised Jensen-Shannon divergence between the classes of teacher and student.

    `T² · (β KL(p || m) + (1 - β) KL(q || m))`, with `m = βp + (1 - β)q`, `p = softmax(teacher / T)` and
    `q = softmax(student / T)`. Never more than `T² ln 2`.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 1.
        beta: `0 < β < 1`, the share of the teacher in `m`, a number or a scalar tensor. Defaults to 0.5.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`.

    Example:
        >>> value = jensen_shannon([[50.0, 0.0]], [[0.0, 50.0]])
        >>> round(float(value[0]), 4)   # ln 2, where the two have no class in common
        0.6931

    Reference:
        Agarwal, Vieillard, Zhou, Stanczyk, Ramos, Geist, Bachem. On-Policy Distillation of Language Models:
        Learning from Self-Generated Mistakes. 2023. arXiv:2306.13649. The paper has `T = 1`.
    """
    log_p, log_q = log_softened(teacher, student, temperature)
    beta = ops.cast(beta, "float32")
    # Not `logaddexp`, whose gradient is wrong where the two are equal.
    log_m = ops.logsumexp(ops.stack([ops.log(beta) + log_p, ops.log(1.0 - beta) + log_q]), axis=0)
    return temperature**2 * (beta * divergence(log_p, log_m) + (1.0 - beta) * divergence(log_q, log_m))


def logits_mse(teacher: Tensor, student: Tensor) -> Tensor:
    r"""Mean squared error between the logits themselves.

    `mean_k (teacher_k - student_k)²` over the classes.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.

    Returns:
        One value per example, shape `(...)`, float32.

    Example:
        >>> logits_mse([[1.0, 2.0]], [[1.0, 4.0]]).numpy()
        array([2.], dtype=float32)

    Reference:
        Ba, Caruana. Do Deep Nets Really Need to be Deep? 2014. arXiv:1312.6184. The paper writes half the squared
        norm, which is `classes / 2` times this mean.
    """
    return ops.mean(ops.square(as_teacher(teacher) - as_student(student)), axis=-1)


def standardized_soft_target_kl(teacher: Tensor, student: Tensor, temperature: float | Tensor = 2.0) -> Tensor:
    r"""Soft targets that see the order of the logits and their relative distances, not their mean and scale.

    `T² · KL(softmax(z(teacher) / T) || softmax(z(student) / T))`, with `z(x) = (x - mean(x)) / std(x)` over the
    classes of an example, `std` that of a population. Logits that are all equal become zeros.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 2.

    Returns:
        One value per example, shape `(...)`, float32, in nats times `T²`.

    Example:
        >>> value = standardized_soft_target_kl([[1.0, 3.0]], [[70.0, -30.0]])
        >>> round(float(value[0]), 4)   # z = [-1, 1] and [1, -1], p = [1, e] / (1 + e): 4 (p_2 - p_1)
        1.8485

    Reference:
        Sun, Ren, Li, Wang, Cao. Logit Standardization in Knowledge Distillation. 2024. arXiv:2403.01427.
        The authors' code divides by the standard deviation of a sample, plus 1e-7.
    """
    return soft_target_kl(standardized(teacher), standardized(student), temperature)


def hard_labels(teacher: Tensor, student: Tensor) -> Tensor:
    r"""Cross-entropy of the student's classes under the class that the teacher decides for.

    `-log q_t`, with `q = softmax(student)` and `t = argmax(teacher)`, the first of equals.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype; only their order counts.
        student: Logits of the same shape, any float dtype.

    Returns:
        One value per example, shape `(...)`, float32, in nats.

    Example:
        >>> import numpy as np
        >>> value = hard_labels([[0.0, 7.0]], np.log([[0.75, 0.25]]))
        >>> round(float(value[0]), 4)   # ln 4
        1.3863

    Reference:
        Touvron, Cord, Douze, Massa, Sablayrolles, Jégou. Training data-efficient image transformers &
        distillation through attention. 2021. arXiv:2012.12877. There the student has a head of its own for it,
        beside the head for the labels.
    """
    student = as_student(student)
    decided = targets_of(as_teacher(teacher), student)
    return -ops.sum(decided * ops.log_softmax(student), axis=-1)


def log_softened(teacher, student, temperature):
    """Logarithms of the classes of teacher and student at a temperature."""
    return ops.log_softmax(as_teacher(teacher) / temperature), ops.log_softmax(as_student(student) / temperature)


def divergence(log_p, log_q):
    """`KL(p || q)` over the last axis."""
    return ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


def cross_entropy(log_p, log_q):
    """`-Σ p log q` over the last axis."""
    return -ops.sum(ops.exp(log_p) * log_q, axis=-1)


def centred(values, axis=-1):
    """Less their mean. What is constant becomes zero exactly, which rounding the mean would not do."""
    values = values - ops.stop_gradient(ops.max(values, axis=axis, keepdims=True))
    return values - ops.mean(values, axis=axis, keepdims=True)


def standardized(logits):
    """Each row with mean 0 and standard deviation 1; a constant one as zeros."""
    logits = as_student(logits)
    return logits.shape[-1] ** 0.5 * unit(centred(logits))
