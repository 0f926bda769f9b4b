"""Losses between intermediate features of teacher and student, value by value."""

from collections.abc import Sequence

from keras import KerasTensor, ops

from keras_kd.losses.pooling import pooled
from keras_kd.losses.tensors import (
    as_features,
    as_student,
    as_teacher,
    axes_of_example,
    channels_last,
    fill_masked,
    mean,
    mean_of_example,
    norm,
    sum_of_example,
    unit,
)

Tensor = KerasTensor


def hint(teacher: Tensor, student: Tensor, *, data_format: str | None = None) -> Tensor:
    r"""Mean squared error between a teacher feature and the student feature that imitates it.

    `mean_c (teacher_c - student_c)²` over the channels, at every place of the feature map.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features of the same shape, any float dtype.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per place, shape `(batch, ...)`, float32. Its mean is the mean squared error.

    Example:
        >>> hint([[1.0, 2.0]], [[1.0, 4.0]]).numpy()
        array([2.], dtype=float32)

    Reference:
        Romero, Ballas, Kahou, Chassang, Gatta, Bengio. FitNets: Hints for Thin Deep Nets. 2015.
        arXiv:1412.6550. The paper writes half the squared norm; the mean is what its followers
        train with, and does not grow with the width of the layer.
    """
    teacher, student = as_features(teacher, student, data_format)
    return mean(ops.square(teacher - student))


def activation_boundary(
    teacher: Tensor, student: Tensor, margin: float = 1.0, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Squared hinge that puts the student's neurons on the teacher's side of zero, a margin away.

    `Σ relu(margin - s)²` over the neurons that fire in the teacher, `t > 0`, and
    `Σ relu(margin + s)²` over the others: all channels at all places.

    Args:
        teacher: Features before their activation, `(batch, ..., channels)`, any float dtype. Only their
            sign counts. No gradient flows to them.
        student: Features before their activation, of the same shape, any float dtype.
        margin: `> 0`. Defaults to 1.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32. Where student and teacher are equal but within
        the margin of zero, it is not zero.

    Example:
        >>> activation_boundary([[3.0, -0.1, 0.5]], [[0.5, 1.0, 2.0]]).numpy()   # 0.5² + 2² + 0
        array([4.25], dtype=float32)

    Reference:
        Heo, Lee, Yun, Choi. Knowledge Transfer via Distillation of Activation Boundaries Formed by
        Hidden Neurons. 2019. arXiv:1811.03233. The authors and RepDistiller train with it alone before
        the labels come in, and scale it by 3 / 1000 and by a power of 2 for each layer.
    """
    teacher, student = as_features(teacher, student, data_format, mask)
    towards = ops.where(teacher > 0, student, -student)
    return sum_of_example(fill_masked(ops.square(ops.relu(margin - towards)), mask))


def overhaul(
    teacher: Tensor, student: Tensor, margin: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Partial squared distance to the teacher's features behind a ReLU that lets a little below zero pass.

    `Σ (t' - s)²` with `t' = max(t, margin_c)`, over all channels and places but those where
    `s <= t' <= 0`: a neuron that is silent in both is left alone.

    Args:
        teacher: Features before their ReLU, `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features of the same shape, any float dtype.
        margin: `margin_c <= 0`, one for each channel, `(channels,)`: the paper's is the mean of the
            teacher's negative features in that channel.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Example:
        >>> overhaul([[2.0, -3.0, -3.0]], [[1.0, -4.0, 0.5]], margin=[-0.5, -0.5, -0.5]).numpy()   # 1² + 0 + 1²
        array([2.], dtype=float32)

    Reference:
        Heo, Kim, Yun, Park, Kwak, Choi. A Comprehensive Overhaul of Feature Distillation. 2019.
        arXiv:1904.01866. The authors' code scales it by 1 / 1000 and by a power of 2 for each layer.
    """
    teacher, student = as_features(teacher, student, data_format, mask)
    target = ops.maximum(teacher, as_teacher(margin))
    both_silent = ops.logical_and(student <= target, target <= 0)
    return sum_of_example(ops.where(both_silent, 0.0, ops.square(target - student)))


def factor_transfer(
    teacher: Tensor, student: Tensor, p: float = 1, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Distance between the directions of the factors of teacher and student.

    `‖t / ‖t‖₂ - s / ‖s‖₂‖_p`, each factor taken whole: the sum of absolute values for `p = 1`,
    the Euclidean norm for `p = 2`.

    Args:
        teacher: Factors of shape `(batch, ..., channels)`, any float dtype: what the paraphraser makes of
            the teacher's features. No gradient flows to them.
        student: Factors of the same shape, any float dtype: what the translator makes of the student's.
        p: `p >= 1`. Defaults to 1.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32. A factor of zeros has no direction and stays zero.

    Example:
        >>> value = factor_transfer([[3.0, 4.0]], [[0.0, 2.0]])   # |0.6 - 0| + |0.8 - 1|
        >>> round(float(value[0]), 4)
        0.8

    Reference:
        Kim, Park, Kwak. Paraphrasing Complex Network: Network Compression via Factor Transfer. 2018.
        arXiv:1802.04977. RepDistiller sums powers of the factor over the channels first, as in attention
        transfer, and takes the mean.
    """
    teacher, student = as_features(teacher, student, data_format, mask)
    teacher, student = (unit(factor, axes_of_example(factor)) for factor in (teacher, student))
    return norm(teacher - student, axes_of_example(student), p)


def variational_information(
    teacher: Tensor,
    mean: Tensor,
    variance: Tensor,
    *,
    mask: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    r"""Negative log-likelihood of the teacher's features under a Gaussian that the student predicts.

    `Σ log σ + (t - μ)² / (2 σ²)` over all channels and places; the constant `log(2π) / 2` is left out.
    Least, it is the tightest bound on the information that the two networks share.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        mean: `μ`, of the same shape, any float dtype: the student's features behind a projector.
        variance: `σ² > 0` of shape `(channels,)`, or any that broadcasts to the features. It trains too.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32, in nats. It may be negative.

    Example:
        >>> value = variational_information([[1.0, 5.0]], [[3.0, 5.0]], variance=[4.0, 1.0])
        >>> round(float(value[0]), 4)   # ln 2 + 4 / 8 + ln 1 + 0
        1.1931

    Reference:
        Ahn, Hu, Damianou, Lawrence, Dai. Variational Information Distillation for Knowledge Transfer.
        2019. arXiv:1904.05835. RepDistiller takes the mean over channels and places; the paper the sum.
    """
    teacher, mean = as_features(teacher, mean, data_format, mask)
    variance = channels_last(as_student(variance), data_format)
    surprise = ops.log(variance) / 2 + ops.square(teacher - mean) / (2 * variance)
    return sum_of_example(fill_masked(surprise, mask))


def hierarchical_context(
    teacher: Tensor, student: Tensor, levels: Sequence[int] = (4, 2, 1), *, data_format: str | None = None
) -> Tensor:
    r"""Mean squared errors at several scales: the whole feature map, then its averages over larger and larger cells.

    `(Σ_k 2⁻ᵏ · mse(pool_k(t), pool_k(s))) / Σ_k 2⁻ᵏ`. `pool_0` is the map itself; `pool_k` averages
    it to `l × l` cells, for the k-th of the levels `l` that are smaller than the height of the map.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
            Sequences are averaged over their steps; vectors have one scale only.
        student: Features of the same shape, any float dtype.
        levels: Numbers of cells along each axis, in falling order. Defaults to `(4, 2, 1)`.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Raises:
        ValueError: If the sizes of a grid or sequence are not known.

    Example:
        >>> teacher, student = [[[3.0], [1.0]]], [[[0.0], [0.0]]]   # two steps, one channel
        >>> value = hierarchical_context(teacher, student)
        >>> round(float(value[0]), 4)   # (5 + 0.5 · 2²) / 1.5
        4.6667

    Reference:
        Chen, Liu, Zhao, Jia. Distilling Knowledge via Knowledge Review. 2021. arXiv:2104.09044. The paper
        names no weights; the halves are those of the authors' code, which adds up the stages of a network.
    """
    teacher, student = as_features(teacher, student, data_format)
    difference, sizes = teacher - student, tuple(student.shape[1:-1])
    if None in sizes:
        raise ValueError(
            "`hierarchical_context`: features must have places of known number, to be averaged in cells. "
            f"Received: student.shape={tuple(student.shape)}. Give the model an input of fixed size."
        )
    smaller = [level for level in levels if level < max(sizes[:1], default=0)]
    # The difference of averages is the average of the difference.
    scales = [difference, *(pooled(difference, (level,) * len(sizes), ops.mean) for level in smaller)]
    weights = [0.5**k for k in range(len(scales))]
    errors = [weight * mean_of_example(ops.square(scale)) for weight, scale in zip(weights, scales, strict=True)]
    return sum(errors) / sum(weights)
