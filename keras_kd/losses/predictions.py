"""Losses of how the class predictions of a whole batch hang together, not of each example alone."""

from collections.abc import Sequence

from keras import KerasTensor, ops

from keras_kd.losses.logits import EXCLUDED, divergence, log_softened
from keras_kd.losses.tensors import as_student, fill_masked, ratio, unit

Tensor = KerasTensor


def dist(
    teacher: Tensor,
    student: Tensor,
    inter_weight: float | Tensor = 1.0,
    intra_weight: float | Tensor = 1.0,
    temperature: float | Tensor = 4.0,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Correlation between the predictions of teacher and student, of each example and of each class.

    `T² · (β (1 - ρ(p_i, q_i)) + γ mean_k (1 - ρ(p_:k, q_:k)))`, with `p = softmax(teacher / T)`,
    `q = softmax(student / T)` and `ρ` Pearson's correlation: of an example's classes, and of a class over the
    examples of the batch. What does not vary correlates with nothing, `ρ = 0`. Exact where a class is improbable
    throughout the batch.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them. All leading dimensions
            together are the batch: every place of a segmentation map is an example.
        student: Logits of the same shape, any float dtype.
        inter_weight: `β >= 0`, of the examples, a number or a scalar tensor. Defaults to 1.
        intra_weight: `γ >= 0`, of the classes, a number or a scalar tensor. Defaults to 1.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 4.
        mask: Which examples are part of the batch, bool of shape `(...)`. Defaults to all.

    Returns:
        One value per example, shape `(...)`, float32. Each carries the whole part of the classes.

    Example:
        >>> value = dist([[9.0, 0.0], [0.0, 9.0]], [[9.0, 0.0], [9.0, 0.0]], temperature=1.0)
        >>> [round(float(one), 4) for one in value]   # examples: 0 and 2; both classes: 1, for the student's stay
        [1.0, 3.0]

    Reference:
        Huang, You, Wang, Qian, Xu. Knowledge Distillation from A Stronger Teacher. 2022. arXiv:2205.10536.
        The authors' code adds 1e-8 to the product of the norms, which silences classes that are improbable
        throughout the batch.
    """
    log_p, log_q = log_softened(*without_masked(teacher, student, mask), temperature)
    of_examples = 1.0 - correlation(log_p, log_q, axis=-1)
    of_classes = ops.mean(1.0 - correlation(*as_rows(log_p, log_q), axis=0, kept=as_column(mask)))
    return temperature**2 * (inter_weight * of_examples + intra_weight * of_classes)


def multi_level(
    teacher: Tensor,
    student: Tensor,
    temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
    *,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Soft targets, and the likeness of examples and of classes in them, at several temperatures.

    `Σ_T (T² · KL(p_i || q_i) + Σ_j (p_i·p_j - q_i·q_j)² + ‖PᵀP - QᵀQ‖² / classes)`, with `P = softmax(teacher / T)`
    and `Q = softmax(student / T)` of shape `(N, classes)` and `p_i`, `q_i` their rows: instance, batch and class
    level. The mean of the second term over the examples is `‖PPᵀ - QQᵀ‖² / N`. Takes memory for `classes²` numbers,
    never for `N²`.

    Args:
        teacher: Logits of shape `(..., classes)`, any float dtype. No gradient flows to them. All leading dimensions
            together are the batch of `N`: every place of a segmentation map is an example.
        student: Logits of the same shape, any float dtype.
        temperatures: Values of `T > 0`, whose terms add up. Defaults to 2, 3, 4, 5, 6.
        mask: Which examples are part of the batch, bool of shape `(...)`. Defaults to all.

    Returns:
        One value per example, shape `(...)`, float32. Each carries the whole class level.

    Example:
        >>> value = multi_level([[90.0, 0.0], [0.0, 90.0]], [[90.0, 0.0], [90.0, 0.0]], temperatures=[1.0])
        >>> [round(float(one), 4) for one in value]   # KL 0 and 90; batch 1 each; classes (1 + 1) / 2
        [2.0, 92.0]

    Reference:
        Jin, Wang, Lin. Multi-Level Logit Distillation. 2023. CVPR, 24276-24285. The authors' code gives the student
        a second, strongly augmented view, and keeps the examples of which the teacher is sure and right; neither is
        part of the formulas, which need no labels.
    """
    teacher, student = without_masked(teacher, student, mask)
    return sum(_levels(*log_softened(teacher, student, temperature), temperature, mask) for temperature in temperatures)


def _levels(log_p, log_q, temperature, mask):
    instance = temperature**2 * divergence(log_p, log_q)
    p, q = (fill_masked(ops.exp(rows), as_column(mask)) for rows in as_rows(log_p, log_q))
    # p_i·p_j - q_i·q_j = δ_i·p_j + q_i·δ_j with δ = p - q: no matrix of examples, no difference of large numbers.
    difference = p - q
    classes = inner(difference, p) + inner(q, difference)
    batch = (
        quadratic(difference, inner(p, p), difference)
        + 2.0 * quadratic(difference, inner(p, difference), q)
        + quadratic(q, inner(difference, difference), q)
    )
    return instance + ops.reshape(batch, ops.shape(instance)) + ops.mean(ops.sum(ops.square(classes), axis=-1))


def correlation(log_p, log_q, axis, kept=None):
    """Pearson's correlation between `p` and `q` along an axis; 0 where one of them does not vary."""
    return ops.sum(unit(deviations(log_p, axis, kept), axis) * unit(deviations(log_q, axis, kept), axis), axis=axis)


def deviations(logarithms, axis, kept=None):
    """Of the numbers with these logarithms from their mean over the kept, up to a factor that keeps them from 0."""
    greatest = ops.max(fill_masked(logarithms, kept, EXCLUDED), axis=axis, keepdims=True)
    # Less the greatest already: of numbers that are all the same, the mean is then 0 without rounding.
    values = ops.expm1(fill_masked(logarithms - ops.stop_gradient(greatest), kept))
    share = fill_masked(ops.ones_like(values), kept)
    mean = ratio(ops.sum(values, axis=axis, keepdims=True), ops.sum(share, axis=axis, keepdims=True))
    return share * (values - mean)


def without_masked(teacher, student, mask):
    """Both with zeros at the masked examples, whatever stood there: infinity too."""
    return tuple(fill_masked(as_student(logits), mask) for logits in (teacher, student))


def inner(left, right):
    """`Σ_i left_i right_iᵀ` over the rows."""
    return ops.matmul(ops.transpose(left), right)


def quadratic(left, matrix, right):
    """`left_iᵀ · matrix · right_i` for every row."""
    return ops.sum(ops.matmul(left, matrix) * right, axis=-1)


def as_rows(*tensors):
    """Each as `(examples, classes)`."""
    return [ops.reshape(tensor, (-1, tensor.shape[-1])) for tensor in tensors]


def as_column(mask):
    """`(examples,)`, where there is a mask."""
    return None if mask is None else ops.reshape(mask, (-1,))
