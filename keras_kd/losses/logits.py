"""Losses between the class logits of teacher and student."""

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_student, as_teacher

Tensor = KerasTensor


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
    log_p = ops.log_softmax(as_teacher(teacher) / temperature)
    log_q = ops.log_softmax(as_student(student) / temperature)
    return temperature**2 * ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)


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
    p = ops.softmax(as_teacher(teacher) / temperature)
    log_q = ops.log_softmax(as_student(student) / temperature)
    return -(temperature**2) * ops.sum(p * log_q, axis=-1)
