"""Losses between embeddings of teacher and student that lie in one space."""

from keras import KerasTensor, ops

from keras_kd.losses.tensors import as_student, as_teacher, identity, unit

Tensor = KerasTensor


def contrastive(
    teacher: Tensor,
    student: Tensor,
    temperature: float | Tensor = 0.07,
    *,
    negatives: Tensor | None = None,
    dataset_size: float | None = None,
) -> Tensor:
    r"""Noise-contrastive loss: the student tells the teacher's embedding of the same example from those of others.

    `-log h(t_i, s_i) - Σ_j log(1 - h(t_j, s_i))` for example i, over N negatives j, with the critic
    `h(t, s) = exp(t·s / τ) / (exp(t·s / τ) + N / M)` on embeddings of Euclidean norm 1. Negatives are the
    teacher's embeddings of the other examples of the batch and the rows of `negatives`.

    Args:
        teacher: Embeddings of shape `(batch, width)`, any float dtype. No gradient flows to them.
        student: Embeddings of the same shape, any float dtype.
        temperature: `τ > 0`, a number or a scalar tensor. Defaults to 0.07.
        negatives: Further embeddings of the teacher, `(count, width)`, as from a memory bank. Defaults to `None`.
        dataset_size: `M`, the number of examples that negatives are drawn from. Defaults to N + 1, the
            embeddings that the student chooses among.

    Returns:
        One value per example, shape `(batch,)`, float32, in nats.

    Example:
        >>> teacher, student = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]
        >>> value = contrastive(teacher, student, temperature=1.0)   # N / M = 1/2
        >>> round(float(value[0]), 4)   # ln((e + 1/2) / e) + ln((1 + 1/2) / (1/2))
        1.2675

    Reference:
        Tian, Krishnan, Isola. Contrastive Representation Distillation. 2020. arXiv:1910.10699. The paper draws
        negatives from the whole data set; here they come from the batch and the bank handed in. The
        authors' code adds the mirrored loss, with the teacher for anchor and a bank of the student's embeddings.
    """
    anchors, positives = unit(as_student(student)), unit(as_teacher(teacher))
    candidates = positives if negatives is None else ops.concatenate([positives, unit(as_teacher(negatives))])
    count = ops.cast(ops.shape(candidates)[0] - 1, "float32")
    # log(N / M); without negatives it is -infinity, and the loss 0.
    log_noise = ops.log(count / (count + 1.0 if dataset_size is None else dataset_size))
    log_odds = ops.matmul(anchors, ops.transpose(candidates)) / temperature - log_noise
    is_positive = identity(anchors, candidates) > 0
    return ops.sum(ops.softplus(ops.where(is_positive, -log_odds, log_odds)), axis=-1)
