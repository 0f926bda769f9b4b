"""Losses between feature maps: how the channels of teacher and student lie over the places."""

from keras import KerasTensor, ops

from keras_kd.losses.pooling import pooled
from keras_kd.losses.tensors import (
    as_features,
    as_places,
    axes_of_example,
    fill_masked,
    magnitude,
    mean_of_example,
    number_of_places,
    sum_of_example,
    unit,
)

Tensor = KerasTensor

# Beside it every logit vanishes, and unlike infinity it may be subtracted from itself.
LEAST = -1e30


def attention_transfer(
    teacher: Tensor, student: Tensor, p: float = 2, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Mean squared difference between the attention maps of teacher and student.

    `mean_i (Q_i(t) / ‖Q(t)‖₂ - Q_i(s) / ‖Q(s)‖₂)²` over the places i, with `Q_i(A) = Σ_c |A_ic|^p`.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features of the same places, any number of channels and float dtype.
        p: `p >= 1`; the greater, the more the strongest channels count. Defaults to 2.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Example:
        >>> teacher, student = [[[3.0], [4.0]]], [[[0.0], [1.0]]]   # two places, one channel
        >>> value = attention_transfer(teacher, student, p=1)
        >>> round(float(value[0]), 4)   # ((0.6 - 0)² + (0.8 - 1)²) / 2
        0.2

    Reference:
        Zagoruyko, Komodakis. Paying More Attention to Attention. 2017. arXiv:1612.03928. The paper writes
        `β/2` times the norm, with β = 1000 / (places · batch); the authors' code takes the mean of squares
        times 1000, hence the mean here.
    """
    teacher, student = as_features(teacher, student, data_format, mask)
    difference = _attention(teacher, p) - _attention(student, p)
    return sum_of_example(ops.square(difference)) / number_of_places(student, mask)


def _attention(features, p):
    energy = ops.sum(magnitude(features, p), axis=-1, keepdims=True)
    return unit(energy, axes_of_example(energy))


def channel_wise(
    teacher: Tensor,
    student: Tensor,
    temperature: float | Tensor = 1.0,
    *,
    mask: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    r"""Kullback-Leibler divergence between where the channels of teacher and student are strong.

    `T² / C · Σ_c Σ_i φ_ic(t) log(φ_ic(t) / φ_ic(s))`, with `φ` the softmax over the places i of
    `features / T`, of each of the C channels. Computed from `log_softmax`.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features of the same shape, any float dtype.
        temperature: `T > 0`, a number or a scalar tensor. Defaults to 1.
        mask: Booleans of shape `(batch, ...)`; places where it is false get no probability. Defaults to
            `None`: all have a say.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32, in nats times `T²`.

    Example:
        >>> import numpy as np
        >>> teacher, student = np.log([[[0.5], [0.5]]]), np.log([[[0.25], [0.75]]])   # two places, one channel
        >>> value = channel_wise(teacher, student)
        >>> round(float(value[0]), 4)   # 0.5 ln(0.5 / 0.25) + 0.5 ln(0.5 / 0.75)
        0.1438

    Reference:
        Shu, Liu, Gao, Yan, Shen. Channel-wise Knowledge Distillation for Dense Prediction. 2021.
        arXiv:2011.13256. The paper trains logit maps with T = 4 and intermediate features with T = 1.
    """
    teacher, student = as_features(teacher, student, data_format, mask)
    log_p, log_q = (_log_softmax_of_places(features / temperature, mask) for features in (teacher, student))
    return temperature**2 * ops.mean(ops.sum(ops.exp(log_p) * (log_p - log_q), axis=1), axis=-1)


def _log_softmax_of_places(features, mask):
    return ops.log_softmax(as_places(fill_masked(features, mask, LEAST)), axis=1)


def flow_of_solution(
    teacher_pair: tuple[Tensor, Tensor],
    student_pair: tuple[Tensor, Tensor],
    *,
    mask: Tensor | None = None,
    data_format: str | None = None,
) -> Tensor:
    r"""Squared distance between how features turn into later features in teacher and student.

    `‖G(t) - G(s)‖²_F`, with `G(F₁, F₂) = F₁ᵀ F₂ / places`, of shape `(channels₁, channels₂)`, for a pair
    of features before and after some layers. Where the grids within a pair differ, the larger is
    max-pooled to the smaller.

    Args:
        teacher_pair: Two features of shapes `(batch, ..., channels₁)` and `(batch, ..., channels₂)`, any float
            dtype. No gradient flows to them.
        student_pair: Two features with the teacher's channels, on any grid, any float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say; only where all four features
            have the same places, as sequences do. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32.

    Raises:
        ValueError: If the grids within a pair differ, and there is a mask or a size is not known.

    Example:
        >>> teacher = [[1.0, 2.0]], [[3.0]]   # vectors: one place
        >>> student = [[1.0, 1.0]], [[2.0]]
        >>> flow_of_solution(teacher, student).numpy()   # (3 - 2)² + (6 - 2)²
        array([17.], dtype=float32)

    Reference:
        Yim, Joo, Bae, Kim. A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and
        Transfer Learning. CVPR 2017. RepDistiller averages where the paper max-pools, takes the mean over
        the matrix, and trains with it alone before the labels come in.
    """
    firsts, seconds = (
        as_features(teacher, student, data_format) for teacher, student in zip(teacher_pair, student_pair, strict=True)
    )
    teacher, student = (_flow(*pair, mask) for pair in zip(firsts, seconds, strict=True))
    return sum_of_example(ops.square(teacher - student))


def _flow(first, second, mask):
    first, second = (fill_masked(feature, mask) for feature in _on_one_grid(first, second, mask))
    return _products(first, second) / number_of_places(first, mask)[:, None, None]


def _on_one_grid(first, second, mask):
    grids = tuple(first.shape[1:-1]), tuple(second.shape[1:-1])
    if grids[0] == grids[1]:
        return first, second
    if mask is not None or None in grids[0] + grids[1]:
        raise ValueError(
            "`flow_of_solution`: the features of a pair must have the same places, or grids of known sizes and no "
            f"mask, to be pooled to one. Received: shapes {tuple(first.shape)} and {tuple(second.shape)}, "
            f"mask={'None' if mask is None else 'given'}. Pick features of one grid, or fix the input's size and "
            "leave the mask out."
        )
    smaller = [min(sizes) for sizes in zip(*grids, strict=True)]
    return pooled(first, smaller, ops.max), pooled(second, smaller, ops.max)


def neuron_selectivity(
    teacher: Tensor, student: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Squared maximum mean discrepancy between the channels' maps of teacher and student.

    `mean k(t_c, t_c') + mean k(s_c, s_c') - 2 mean k(t_c, s_c')` over all pairs of channels, with the
    polynomial kernel `k(x, y) = (x · y)²`; each channel's map over the places has Euclidean norm 1.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features of the same places, any number of channels and float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32. A map of zeros stays zero.

    Example:
        >>> teacher, student = [[[3.0], [4.0]]], [[[0.0], [2.0]]]   # two places, one channel
        >>> value = neuron_selectivity(teacher, student)
        >>> round(float(value[0]), 4)   # 1 + 1 - 2 · 0.8²
        0.72

    Reference:
        Huang, Wang. Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. 2017.
        arXiv:1707.01219. The kernel is the one the paper keeps, with d = 2 and c = 0.
    """
    pair = as_features(teacher, student, data_format, mask)
    teacher, student = (unit(as_places(features), axis=1) for features in pair)
    return _mean_kernel(teacher, teacher) + _mean_kernel(student, student) - 2 * _mean_kernel(teacher, student)


def inter_channel_correlation(
    teacher: Tensor, student: Tensor, *, mask: Tensor | None = None, data_format: str | None = None
) -> Tensor:
    r"""Squared distance between how alike the channels are in teacher and student.

    `‖G(t) - G(s)‖²_F / channels`, with `G` the inner products of every two channels' maps over the places, each row
    divided by its Euclidean norm.

    Args:
        teacher: Features of shape `(batch, ..., channels)`, any float dtype. No gradient flows to them.
        student: Features with as many channels, on any grid, any float dtype.
        mask: Booleans of shape `(batch, ...)`, false at places without a say. Defaults to `None`: all have one.
        data_format: Of grids, `"channels_last"` or `"channels_first"`. Defaults to Keras's own.

    Returns:
        One value per example, shape `(batch,)`, float32. A channel of zeros is like none.

    Example:
        >>> teacher, student = [[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 1.0], [0.0, 0.0]]]   # two places, two channels
        >>> value = inter_channel_correlation(teacher, student)   # rows (1, 0) and (0, 1) against (1, 1) / √2
        >>> round(float(value[0]), 4)
        0.5858

    Reference:
        Liu, Huang, Ma, Li, Liu, Wang, Wu, Chang. Exploring Inter-Channel Correlation for Diversity-preserved Knowledge
        Distillation. ICCV 2021. arXiv:2202.03680. For segmentation the paper does the same on patches of the grid.
    """
    correlations = (unit(_products(f, f)) for f in as_features(teacher, student, data_format, mask))
    return ops.mean(ops.sum(ops.square(next(correlations) - next(correlations)), axis=-1), axis=-1)


def _mean_kernel(first, second):
    return mean_of_example(ops.square(_products(first, second)))


def _products(first, second):
    """Inner products over the places of every two channels, `(batch, channels₁, channels₂)`."""
    return ops.matmul(ops.transpose(as_places(first), (0, 2, 1)), as_places(second))
