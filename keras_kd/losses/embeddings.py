"""Losses between embeddings: of teacher and student in one space, or of two modalities in a space of each model's."""

from keras import KerasTensor, ops

from keras_kd.losses.logits import EXCLUDED, divergence
from keras_kd.losses.tensors import as_student, as_teacher, fill_masked, identity, unit

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


def batch_affinity(
    teacher_pair: tuple[Tensor, Tensor],
    student_pair: tuple[Tensor, Tensor],
    teacher_temperature: float | Tensor = 0.01,
    student_temperature: float | Tensor = 0.01,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Kullback-Leibler divergence between whom each example is matched with in the other modality, both ways.

    `(KL(S(U, V; τ)_i || S(u, v; ρ)_i) + KL(S(V, U; τ)_i || S(v, u; ρ)_i)) / 2` for example i, with
    `S(A, B; τ) = softmax(A Bᵀ / τ)` by rows, the teacher's embeddings `U` and `V` of two modalities, as image and
    text, the student's `u` and `v`, all of Euclidean norm 1, and the temperatures `τ` and `ρ`.

    Args:
        teacher_pair: Two embeddings of shape `(batch, width)`, any float dtype. No gradient flows to them. Twice the
            same is the affinity of the examples among themselves, where each is most like itself: at a low
            temperature that says little of the others.
        student_pair: Two embeddings of the same batch, of one width of their own, any float dtype.
        teacher_temperature: `τ > 0`, a number or a scalar tensor. Defaults to 0.01.
        student_temperature: `ρ > 0`, a number or a scalar tensor. Defaults to 0.01.
        mask: Which examples are part of the batch, bool of shape `(batch,)`, as those of which both modalities are
            there. Defaults to all.

    Returns:
        One value per example, shape `(batch,)`, float32, in nats; 0 where masked. What a weight of zero leaves out of
        the mean is still there for others to be matched with; what a mask leaves out is not.

    Example:
        >>> matched, unlike = [[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]
        >>> value = batch_affinity((matched, matched), (matched, unlike), 1.0, 1.0)
        >>> round(float(value[0]), 4)   # (e - 1) / (e + 1): KL((e, 1) / (e + 1) || (1, e) / (e + 1))
        0.4621

    Reference:
        Vasu, Pouransari, Faghri, Vemulapalli, Tuzel. MobileCLIP: Fast Image-Text Models through Multi-Modal
        Reinforced Training. 2024. arXiv:2311.17049. Each model has a temperature of its own there, the teachers'
        those of their training and the student's learnt with it; 0.01 is where CLIP's training ends. The affinity
        mimicking of Wu et al. TinyCLIP. 2023. arXiv:2309.12314, is the cross-entropy, summed over the two ways: twice
        this plus the teacher's entropy.
    """
    taught, learnt = ([unit(read(one)) for one in pair] for read, pair in _readers(teacher_pair, student_pair))
    ways = zip(_matches(*taught, teacher_temperature, mask), _matches(*learnt, student_temperature, mask), strict=True)
    value = sum(divergence(log_p, log_q) for log_p, log_q in ways) / 2
    return value if mask is None else fill_masked(value[:, None], mask)[:, 0]


def _readers(teacher_pair, student_pair):
    return (as_teacher, teacher_pair), (as_student, student_pair)


def _matches(first, second, temperature, mask):
    """Logarithms of whom each example is matched with, from either side."""
    alike = ops.matmul(first, ops.transpose(second)) / temperature
    for side in (alike, ops.transpose(alike)):
        if mask is not None:
            side = ops.where(ops.cast(ops.convert_to_tensor(mask), "bool"), side, EXCLUDED)
        yield ops.log_softmax(side)
