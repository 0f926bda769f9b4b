"""Losses of inputs that a generator made up: what their gradients reach through the teacher is the generator.

Only `logits_mae` trains a student. The others keep the gradient to the teacher's side, which every other loss cuts off.
"""

import math

from keras import KerasTensor, ops

from keras_kd.losses.logits import hard_labels
from keras_kd.losses.tensors import as_student, as_teacher, mean_of_example

Tensor = KerasTensor


def logits_mae(teacher: Tensor, student: Tensor) -> Tensor:
    r"""Mean absolute error between the logits themselves.

    `mean_k |teacher_k - student_k|` over the classes. Its gradient stays the same size however near the two are.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them.
        student: Logits of the same shape, any float dtype.

    Returns:
        One value per example, shape `(...)`, float32.

    Example:
        >>> logits_mae([[1.0, 2.0]], [[1.0, 5.0]]).numpy().tolist()
        [1.5]

    Reference:
        Fang, Song, Shen, Wang, Chen, Song. Data-Free Adversarial Distillation. 2019. arXiv:1912.11006.
    """
    return disagreement(as_teacher(teacher), student)


def disagreement(teacher: Tensor, student: Tensor) -> Tensor:
    r"""The same mean absolute error for a generator that is to raise it: gradients flow to both.

    `mean_k |teacher_k - student_k|` over the classes.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype.
        student: Logits of the same shape, any float dtype.

    Returns:
        One value per example, shape `(...)`, float32. Negated, it is the generator's loss.

    Example:
        >>> disagreement([[1.0, 2.0]], [[1.0, 5.0]]).numpy().tolist()
        [1.5]

    Reference:
        Fang, Song, Shen, Wang, Chen, Song. Data-Free Adversarial Distillation. 2019. arXiv:1912.11006. Where training
        is unstable the paper takes `-log(1 + error)` for the generator; the authors' code for MNIST and CIFAR has that
        commented out, and `-error` in its place.
    """
    return ops.mean(ops.abs(as_student(teacher) - as_student(student)), axis=-1)


def one_hot(teacher: Tensor) -> Tensor:
    r"""How far the teacher is from being certain of the class it names.

    `-log p_c`, with `p = softmax(teacher)` and `c` its greatest.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype.

    Returns:
        One value per example, shape `(...)`, float32, in nats; from 0 to `ln classes`.

    Example:
        >>> import numpy as np
        >>> round(float(one_hot(np.log([[0.25, 0.75]]))[0]), 4)   # -ln 0.75
        0.2877

    Reference:
        Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu, Tian. Data-Free Learning of Student Networks. 2019. arXiv:1904.01186.
    """
    return hard_labels(teacher, teacher)


def activation(features: Tensor) -> Tensor:
    r"""How little a batch excites the teacher: what it was trained on excites it much.

    `-mean_j |f_j|` over all values of the feature.

    Args:
        features: The teacher's, of shape `(batch, ...)`, any float dtype.

    Returns:
        One value per example, shape `(batch,)`, float32, `<= 0`.

    Example:
        >>> activation([[1.0, -3.0]]).numpy().tolist()
        [-2.0]

    Reference:
        Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu, Tian. Data-Free Learning of Student Networks. 2019. arXiv:1904.01186.
        The paper writes the L1 norm, a sum; the authors' code, for which their weight of 0.1 is meant, takes the mean.
    """
    return -mean_of_example(ops.abs(as_student(features)))


def information_entropy(teacher: Tensor) -> Tensor:
    r"""How unevenly a batch is spread over the classes.

    `Σ_k p_ik log10 m_k` for example `i`, with `p = softmax(teacher)` and `m` the mean of `p` over the batch. Its mean
    over the batch is `Σ_k m_k log10 m_k`, the negative entropy of `m`.

    Args:
        teacher: Logits of shape `(batch, classes)`, any float dtype; dimensions between count as examples.

    Returns:
        One value per example, shape `(batch, ...)`, float32. Their mean is 0 where all examples are certainly of one
        class, `-log10 classes` where the classes come alike often.

    Example:
        >>> certain = [[50.0, 0.0], [0.0, 50.0]]
        >>> round(float(information_entropy(certain)[0]), 4)   # log10 0.5
        -0.301

    Reference:
        Chen, Wang, Xu, Yang, Liu, Shi, Xu, Xu, Tian. Data-Free Learning of Student Networks. 2019. arXiv:1904.01186.
        The paper divides by the number of classes; the authors' code, for which their weight of 5 is meant, does not,
        and takes the logarithm to base 10.
    """
    log_p = ops.log_softmax(as_student(teacher))
    examples = tuple(range(len(log_p.shape) - 1))
    count = ops.cast(math.prod(ops.shape(log_p)[axis] for axis in examples), "float32")
    log_mean = ops.logsumexp(log_p, axis=examples) - ops.log(count)
    return ops.sum(ops.exp(log_p) * log_mean, axis=-1) / math.log(10)
