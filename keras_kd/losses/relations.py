"""Losses between the relations that the examples of a batch have to each other in teacher and student.

An example carries its row of the relation, so that the mean over the batch is the published loss.
"""

import math

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_features, as_vectors, identity, norm, ratio, unit

Tensor = KerasTensor

# What a similarity of zero counts as, where its logarithm is taken.
LEAST = 1e-7


def similarity_preserving(
    teacher: Tensor, student: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Mean squared difference between the similarities of each example to all others, in teacher and student.

    Row i of `‖G(t) - G(s)‖²_F / b²`, whose mean it is over the batch of b: `(1/b) Σ_j (G_ij(t) - G_ij(s))²`,
    with `G(A) = A Aᵀ`, its rows of Euclidean norm 1.

    Args:
        teacher: Features of shape `(batch, ...)`, any float dtype, made vectors. No gradient flows to them.
        student: Features of the same batch, any further shape and float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`; matters with a mask only. Defaults to
            Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Example:
        >>> teacher, student = [[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]
        >>> value = similarity_preserving(teacher, student)
        >>> round(float(value[0]), 4)   # ((1 - √½)² + (0 - √½)²) / 2 = 1 - √½
        0.2929

    Reference:
        Tung, Mori. Similarity-Preserving Knowledge Distillation. 2019. arXiv:1907.09682. torchdistill
        gives the rows the sum 1 of absolute values; the paper the Euclidean norm 1.
    """
    teacher, student = _vectors(teacher, student, data_format, mask)
    return _mean_squared_rows(unit(_products(teacher)), unit(_products(student)))


def relational_distance(
    teacher: Tensor, student: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Smooth L1 between the distances of examples in teacher and student.

    `(1/b) Σ_j h(d_ij(t) - d_ij(s))` for example i of a batch of b, with `d_ij = ‖x_i - x_j‖₂ / μ`, `μ` the mean
    distance over pairs `i ≠ j`, and `h(x) = x²/2` for `|x| < 1`, else `|x| - 1/2`.

    Args:
        teacher: Features of shape `(batch, ...)`, any float dtype, made vectors: best embeddings, since the
            memory needed grows with batch² times their width. No gradient flows to them.
        student: Features of the same batch, any further shape and float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`; matters with a mask only. Defaults to
            Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32. Without two examples that differ, all distances are zero.

    Example:
        >>> teacher, student = [[0.0], [1.0], [2.0]], [[0.0], [1.0], [1.0]]
        >>> value = relational_distance(teacher, student)   # μ is 4/3 and 2/3
        >>> round(float(value[0]), 5)   # (h(3/4 - 3/2) + h(3/2 - 3/2)) / 3
        0.09375

    Reference:
        Park, Kim, Lu, Cho. Relational Knowledge Distillation. 2019. arXiv:1904.05068. The paper sums over
        pairs; the mean over all b² of them is the authors' code, where μ leaves out pairs that coincide.
        The paper weighs it by 25.
    """
    teacher, student = _vectors(teacher, student, data_format, mask)
    return ops.mean(_smooth_l1(_distances(teacher) - _distances(student)), axis=-1)


def relational_angle(
    teacher: Tensor, student: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Smooth L1 between the angles that triplets of examples form in teacher and student.

    `(1/b²) Σ_ik h(cos_ijk(t) - cos_ijk(s))` for example j of a batch of b, with `cos_ijk = e_ij · e_kj`,
    `e_ij = (x_i - x_j) / ‖x_i - x_j‖₂`, and `h(x) = x²/2` for `|x| < 1`, else `|x| - 1/2`.

    Args:
        teacher: Features of shape `(batch, ...)`, any float dtype, made vectors: best embeddings, since the
            memory needed grows with batch² times their width. No gradient flows to them.
        student: Features of the same batch, any further shape and float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`; matters with a mask only. Defaults to
            Keras's own.

    Returns:
        One value per example, the vertex of the angles, shape `(batch,)`, float32. Between examples that
        coincide there is no direction: their cosines are zero.

    Example:
        >>> teacher, student = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.0], [1.0], [2.0]]
        >>> value = relational_angle(teacher, student)
        >>> round(float(value[0]), 4)   # 2 h(cos 90° - cos 0°) / 9
        0.1111

    Reference:
        Park, Kim, Lu, Cho. Relational Knowledge Distillation. 2019. arXiv:1904.05068. The paper sums over
        triplets; the mean over all b³ of them is the authors' code. The paper weighs it by 50.
    """
    teacher, student = _vectors(teacher, student, data_format, mask)
    return ops.mean(_smooth_l1(_cosines_at_vertex(teacher) - _cosines_at_vertex(student)), axis=(1, 2))


def probabilistic_transfer(
    teacher: Tensor, student: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Kullback-Leibler divergence between whom each example has for neighbours in teacher and student.

    `Σ_{j≠i} p_j|i log(p_j|i / q_j|i)` for example i, with `p_j|i = K_ij / Σ_{k≠i} K_ik` of the teacher,
    `q` of the student, and the kernel `K_ij = (1 + cos(x_i, x_j)) / 2`, at least 1e-7.

    Args:
        teacher: Features of shape `(batch, ...)`, any float dtype, made vectors. No gradient flows to them.
        student: Features of the same batch, any further shape and float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`; matters with a mask only. Defaults to
            Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32, in nats.

    Example:
        >>> teacher, student = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0], [1.0]]
        >>> value = probabilistic_transfer(teacher, student)   # p is 2/3 and 1/3, q is 1/2 and 1/2
        >>> round(float(value[0]), 4)   # 2/3 ln(4/3) + 1/3 ln(2/3)
        0.0566

    Reference:
        Passalis, Tefas. Learning Deep Representations with Probabilistic Knowledge Transfer. 2018.
        arXiv:1803.10837. The paper sums over the batch; the authors' code counts every example among its
        own neighbours and takes the mean over all pairs.
    """
    teacher, student = _vectors(teacher, student, data_format, mask)
    others = 1.0 - identity(student, student)
    log_p, log_q = _log_neighbours(teacher, others), _log_neighbours(student, others)
    return ops.sum(others * ops.exp(log_p) * (log_p - log_q), axis=-1)


def correlation_congruence(
    teacher: Tensor,
    student: Tensor,
    gamma: float = 0.4,
    order: int = 2,
    *,
    mask: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    r"""Mean squared difference between the correlations of examples in teacher and student.

    Row i of `‖K(t) - K(s)‖²_F / b²`, whose mean it is over the batch of b: `(1/b) Σ_j (K_ij(t) - K_ij(s))²`.
    `K_ij = exp(-2γ) Σ_{n=0}^{order} (2γ)ⁿ / n! · (x_i · x_j)ⁿ` is the Taylor expansion of the Gaussian kernel
    `exp(-γ ‖x_i - x_j‖²)` of vectors of norm 1.

    Args:
        teacher: Features of shape `(batch, ...)`, any float dtype, made vectors of norm 1. No gradient flows
            to them.
        student: Features of the same batch, any further shape and float dtype.
        gamma: `γ > 0`. Defaults to 0.4.
        order: Highest power of the expansion, `>= 1`. Defaults to 2.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`; matters with a mask only. Defaults to
            Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Example:
        >>> teacher, student = [[1.0, 0.0], [0.0, 1.0]], [[1.0], [1.0]]
        >>> value = correlation_congruence(teacher, student)
        >>> round(float(value[0]), 4)   # (exp(-0.8) · (0.8 + 0.8² / 2))² / 2
        0.1266

    Reference:
        Peng, Jin, Liu, Zhou, Wu, Liu, Zhang, Wu. Correlation Congruence for Knowledge Distillation. 2019.
        arXiv:1904.01802. RepDistiller's loss of that name is another formula, of neighbours in the batch.
    """
    teacher, student = _vectors(teacher, student, data_format, mask)
    return _mean_squared_rows(*(_gaussian_by_taylor(_products(unit(x)), gamma, order) for x in (teacher, student)))


def _vectors(teacher, student, data_format, mask):
    teacher, student = as_features(teacher, student, data_format, mask)
    return as_vectors(teacher), as_vectors(student)


def _products(vectors):
    return ops.matmul(vectors, ops.swapaxes(vectors, -1, -2))


def _mean_squared_rows(teacher, student):
    return ops.mean(ops.square(teacher - student), axis=-1)


def _smooth_l1(values):
    size = ops.abs(values)
    within = ops.minimum(size, 1.0)
    return within * (size - within / 2)


def _differences(vectors):
    """`x_i - x_j` at (j, i): exact where examples lie close, unlike distances from inner products."""
    return vectors[None] - vectors[:, None]


def _distances(vectors):
    distances = norm(_differences(vectors))
    others = ops.sum(1.0 - identity(vectors, vectors))
    return ratio(distances, ratio(ops.sum(distances), others))


def _cosines_at_vertex(vectors):
    return _products(unit(_differences(vectors)))


def _log_neighbours(vectors, others):
    kernel = ops.maximum((1.0 + _products(unit(vectors))) / 2, LEAST)
    # Alone in its batch an example has no neighbours, and a sum of zero.
    return ops.log(kernel) - ops.log(ops.maximum(ops.sum(others * kernel, axis=-1, keepdims=True), LEAST))


def _gaussian_by_taylor(cosines, gamma, order):
    term = total = ops.ones_like(cosines)
    for n in range(1, order + 1):
        term = term * cosines * (2 * gamma / n)
        total = total + term
    return math.exp(-2 * gamma) * total
