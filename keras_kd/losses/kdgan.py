"""KDGAN's game: a classifier and a teacher pass for the true labels, a discriminator tells all three apart."""

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_student

Tensor = KerasTensor


def concrete(logits: Tensor, uniform: Tensor, temperature: float | Tensor = 1.0) -> Tensor:
    r"""A sample of the concrete distribution: a class drawn from `softmax(logits)`, relaxed so that a gradient passes.

    `z = softmax((logits + g) / τ)`, with Gumbel noise `g = -log(-log u)`. As `τ -> 0` it is the one-hot vector of a
    class `k` that has the probability `softmax(logits)_k`; as `τ` grows all classes come to be equal.

    Args:
        logits: Logits of shape `(..., classes)`, any float dtype.
        uniform: `u`, of the same shape, drawn uniformly from [0, 1).
        temperature: `τ > 0`, a number or a scalar tensor. Defaults to 1.

    Returns:
        Probabilities of shape `(..., classes)`, float32.

    Example:
        >>> import numpy as np
        >>> uniform = np.exp(-np.exp([[0.0, -1.0]]))  # Gumbel noise 0 and 1
        >>> concrete(np.log([[0.5, 0.5]]), uniform, temperature=0.5).numpy().round(4)   # 1 / (1 + e²), 1 / (1 + e⁻²)
        array([[0.1192, 0.8808]], dtype=float32)

    Reference:
        Maddison, Mnih, Teh. The Concrete Distribution. 2017. arXiv:1611.00712. Jang, Gu, Poole. Categorical
        Reparameterization with Gumbel-Softmax. 2017. arXiv:1611.01144.
    """
    # log 0 is infinite: the least positive number of float32 stands in for it.
    gumbel = -ops.log(-ops.log(ops.clip(as_student(uniform), 1e-37, 1.0 - 2.0**-24)))
    return ops.softmax((as_student(logits) + gumbel) / temperature)


def found_out(scores: Tensor) -> Tensor:
    r"""What the discriminator gains by a forged label; the forger descends it.

    `log(1 - p)`, with `p = sigmoid(score)`, the probability that the label is a true one. Computed as
    `-softplus(score)`, so it stays exact where `1 - p` rounds to zero.

    Args:
        scores: The discriminator's logits for labels that a classifier or a teacher gave, any shape and float dtype.

    Returns:
        One value per score, float32, never above zero.

    Example:
        >>> found_out([0.0, 100.0]).numpy().round(4)   # ln(1 / 2), -100
        array([  -0.6931, -100.    ], dtype=float32)

    Reference:
        Wang, Zhang, Sun, Qi. KDGAN: Knowledge Distillation with Generative Adversarial Networks. NeurIPS 2018.
        The authors' code has in its place the cross-entropy between the discriminator's probability of a drawn class
        and the classifier's own logit of it.
    """
    return -ops.softplus(as_student(scores))


def three_way_discrimination(teacher: Tensor, student: Tensor, labels: Tensor, alpha: float | Tensor = 0.5) -> Tensor:
    r"""What the discriminator of three players descends: true labels on one side, those of both forgers on the other.

    `-[log p(labels) + α log(1 - p(student)) + (1 - α) log(1 - p(teacher))]`, with `p = sigmoid(score)`.

    Args:
        teacher: The discriminator's logits for the teacher's labels, any shape and float dtype.
        student: Those for the student's, of the same shape.
        labels: Those for the true ones, of the same shape.
        alpha: `α` in [0, 1], the student's share of the forgeries, a number or a scalar tensor. Defaults to 0.5.

    Returns:
        One value per score, float32.

    Example:
        >>> three_way_discrimination([0.0], [0.0], [0.0]).numpy().round(4)   # 2 ln 2: it cannot tell
        array([1.3863], dtype=float32)

    Reference:
        Wang, Zhang, Sun, Qi. KDGAN: Knowledge Distillation with Generative Adversarial Networks. NeurIPS 2018.
    """
    forged = alpha * found_out(student) + (1.0 - alpha) * found_out(teacher)
    return -found_out(-as_student(labels)) - forged
