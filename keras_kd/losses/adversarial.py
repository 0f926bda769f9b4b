"""The games that a discriminator plays: of its scores, what the student and what the discriminator minimises.

Scores are logits, never probabilities: `D(t)` of what the teacher gave, `D(s)` of what the student gave. Above zero a
score says "teacher". Unlike the other losses these are functions of scores, and a gradient flows to both, for a
discriminator learns from both.
"""

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_student, as_vectors, norm, targets_of

Tensor = KerasTensor


def gan_student(student_scores: Tensor) -> Tensor:
    r"""The student wants to be taken for the teacher.

    `-log σ(D(s))`, non-saturating: its gradient is greatest where the discriminator is sure of itself, where that of
    `log(1 - σ(D(s)))` vanishes. Computed as `softplus(-D(s))`, so no probability is ever rounded to zero.

    Args:
        student_scores: `D(s)`, any shape and float dtype.

    Returns:
        One value per score, float32, in nats.

    Example:
        >>> gan_student([0.0, -100.0]).numpy().round(4)   # ln 2, 100
        array([  0.6931, 100.    ], dtype=float32)

    Reference:
        Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. Generative Adversarial Networks.
        2014. arXiv:1406.2661.
    """
    return ops.softplus(-as_student(student_scores))


def gan_discriminator(teacher_scores: Tensor, student_scores: Tensor, label_smoothing: float = 0.0) -> Tensor:
    r"""The discriminator wants to tell the student from the teacher.

    `-(1 - ε) log σ(D(t)) - ε log(1 - σ(D(t))) - log(1 - σ(D(s)))`, two binary cross-entropies.

    Args:
        teacher_scores: `D(t)`, any shape and float dtype.
        student_scores: `D(s)`, of the same shape.
        label_smoothing: `ε`, one-sided: what comes from the teacher has the label `1 - ε`, in [0, 0.5]. Defaults to 0.

    Returns:
        One value per pair of scores, float32, in nats.

    Example:
        >>> gan_discriminator([0.0], [0.0]).numpy().round(4)   # 2 ln 2
        array([1.3863], dtype=float32)

    Reference:
        Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville, Bengio. Generative Adversarial Networks.
        2014. arXiv:1406.2661. Salimans, Goodfellow, Zaremba, Cheung, Radford, Chen. Improved Techniques for Training
        GANs. 2016. arXiv:1606.03498 (label smoothing).
    """
    teacher, student = as_student(teacher_scores), as_student(student_scores)
    of_teacher = (1.0 - label_smoothing) * ops.softplus(-teacher) + label_smoothing * ops.softplus(teacher)
    return of_teacher + ops.softplus(student)


def ac_student(student_scores: Tensor, student_classes: Tensor, labels: Tensor) -> Tensor:
    r"""The student wants to be taken for the teacher, and its class to be recognised.

    `½ (-log σ(D(s)) - log softmax(C(s))_y)`.

    Args:
        student_scores: `D(s)`, shape `(...)`, any float dtype.
        student_classes: `C(s)`, the discriminator's class logits, `(..., classes)`.
        labels: `y`, integers `(...)` or `(..., 1)`, or one-hot or soft labels `(..., classes)`, which count by their
            greatest.

    Returns:
        One value per score, float32, in nats.

    Example:
        >>> ac_student([0.0], [[0.0, 0.0]], [1]).numpy().round(4)   # (ln 2 + ln 2) / 2
        array([0.6931], dtype=float32)

    Reference:
        Xu, Hsu, Huang. Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with
        Conditional Adversarial Networks. 2017. arXiv:1709.00513. The paper gives the discriminator two logits for the
        source; a sigmoid of one is a softmax of two. The student's half for the source is non-saturating here.
    """
    return 0.5 * (gan_student(student_scores) + _class_entropy(student_classes, labels))


def ac_discriminator(
    teacher_scores: Tensor,
    student_scores: Tensor,
    teacher_classes: Tensor,
    student_classes: Tensor,
    labels: Tensor,
    label_smoothing: float = 0.0,
) -> Tensor:
    r"""The discriminator wants to name the source, and the class of whatever comes from either.

    `½ (gan_discriminator - log softmax(C(t))_y - log softmax(C(s))_y)`.

    Args:
        teacher_scores: `D(t)`, shape `(...)`, any float dtype.
        student_scores: `D(s)`, of the same shape.
        teacher_classes: `C(t)`, the discriminator's class logits, `(..., classes)`.
        student_classes: `C(s)`, of the same shape.
        labels: `y`, as in `ac_student`.
        label_smoothing: Of the source alone, as in `gan_discriminator`. Defaults to 0.

    Returns:
        One value per pair of scores, float32, in nats.

    Example:
        >>> ac_discriminator([0.0], [0.0], [[0.0, 0.0]], [[0.0, 0.0]], [1]).numpy().round(4)   # 4 ln 2 / 2
        array([1.3863], dtype=float32)

    Reference:
        Xu, Hsu, Huang. Training Shallow and Thin Networks for Acceleration via Knowledge Distillation with
        Conditional Adversarial Networks. 2017. arXiv:1709.00513.
    """
    source = gan_discriminator(teacher_scores, student_scores, label_smoothing)
    return 0.5 * (source + _class_entropy(teacher_classes, labels) + _class_entropy(student_classes, labels))


def critic_student(student_scores: Tensor) -> Tensor:
    r"""The student wants a high score: of a critic, or of a discriminator with the hinge loss.

    `-D(s)`.

    Args:
        student_scores: `D(s)`, any shape and float dtype.

    Returns:
        One value per score, float32.

    Example:
        >>> critic_student([2.0]).numpy()
        array([-2.], dtype=float32)

    Reference:
        Liu, Chen, Liu, Qin, Luo, Wang. Structured Knowledge Distillation for Semantic Segmentation. 2019.
        arXiv:1903.04197.
    """
    return -as_student(student_scores)


def hinge_discriminator(teacher_scores: Tensor, student_scores: Tensor) -> Tensor:
    r"""The discriminator wants the teacher above 1 and the student below -1, and no more than that.

    `max(0, 1 - D(t)) + max(0, 1 + D(s))`.

    Args:
        teacher_scores: `D(t)`, any shape and float dtype.
        student_scores: `D(s)`, of the same shape.

    Returns:
        One value per pair of scores, float32.

    Example:
        >>> hinge_discriminator([0.5, 3.0], [0.5, -3.0]).numpy()
        array([2., 0.], dtype=float32)

    Reference:
        Lim, Ye. Geometric GAN. 2017. arXiv:1705.02894. As an alternative in the code of Liu, Chen, Liu, Qin, Luo,
        Wang. Structured Knowledge Distillation for Semantic Segmentation. 2019. arXiv:1903.04197.
    """
    return ops.relu(1.0 - as_student(teacher_scores)) + ops.relu(1.0 + as_student(student_scores))


def wasserstein_discriminator(teacher_scores: Tensor, student_scores: Tensor) -> Tensor:
    r"""The critic wants the teacher's scores far above the student's.

    `D(s) - D(t)`, to be minimised beside `gradient_penalty`, without which it has no bound.

    Args:
        teacher_scores: `D(t)`, any shape and float dtype.
        student_scores: `D(s)`, of the same shape.

    Returns:
        One value per pair of scores, float32.

    Example:
        >>> wasserstein_discriminator([3.0], [1.0]).numpy()
        array([-2.], dtype=float32)

    Reference:
        Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. Improved Training of Wasserstein GANs. 2017.
        arXiv:1704.00028.
    """
    return as_student(student_scores) - as_student(teacher_scores)


def gradient_penalty(gradients: Tensor) -> Tensor:
    r"""How far the critic's slope is from one.

    `(‖∇D(x̂)‖₂ - 1)²`, the norm over all values of an example. Where the slope is zero, so is the penalty's gradient.

    Args:
        gradients: `∇D(x̂)`, the gradient of each example's score with respect to what was shown, `(batch, ...)`, any
            float dtype.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Example:
        >>> gradient_penalty([[3.0, 4.0], [0.0, 1.0]]).numpy()   # (5 - 1)², 0
        array([16.,  0.], dtype=float32)

    Reference:
        Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville. Improved Training of Wasserstein GANs. 2017.
        arXiv:1704.00028.
    """
    return ops.square(norm(as_vectors(as_student(gradients))) - 1.0)


def named_right(teacher_scores: Tensor, student_scores: Tensor) -> Tensor:
    r"""How often a discriminator names the source right, of the two that it sees.

    `½ [D(t) > 0] + ½ [D(s) < 0]`, a score of zero counting half.

    Args:
        teacher_scores: `D(t)`, any shape and float dtype.
        student_scores: `D(s)`, of the same shape.

    Returns:
        One value per pair of scores, in [0, 1], float32.

    Example:
        >>> named_right([5.0, 5.0, 0.0], [-5.0, 5.0, 0.0]).numpy()
        array([1. , 0.5, 0.5], dtype=float32)
    """
    return 0.5 + 0.25 * (ops.sign(as_student(teacher_scores)) - ops.sign(as_student(student_scores)))


def ranked_right(teacher_scores: Tensor, student_scores: Tensor) -> Tensor:
    r"""How often a critic, whose scores have no zero, puts the teacher above the student.

    `[D(t) > D(s)]`, equal scores counting half.

    Args:
        teacher_scores: `D(t)`, any shape and float dtype.
        student_scores: `D(s)`, of the same shape.

    Returns:
        One value per pair of scores, in [0, 1], float32.

    Example:
        >>> ranked_right([5.0, 5.0, 5.0], [-5.0, 7.0, 5.0]).numpy()
        array([1. , 0. , 0.5], dtype=float32)
    """
    return 0.5 + 0.5 * ops.sign(as_student(teacher_scores) - as_student(student_scores))


def _class_entropy(classes, labels):
    """`-log softmax(classes)_y`."""
    logits = as_student(classes)
    return -ops.sum(targets_of(labels, logits) * ops.log_softmax(logits), axis=-1)
