"""What a teacher says that does not say all classes, beside the student's logits for the same outcomes."""

from dataclasses import dataclass
from typing import Any

from keras import KerasTensor, ops

from keras_kd.losses.logits import EXCLUDED
from keras_kd.losses.tensors import as_student, as_teacher

Tensor = KerasTensor


@dataclass(frozen=True, eq=False)
class TopClasses:
    r"""The teacher's greatest classes, and all the others together as one more outcome.

    The student's classes are put together the same way, `k` of them and `q_rest = Σ_others q`, so every loss between
    logits softened at `T` compares distributions of the same `k + 1` outcomes. Putting classes together never raises a
    Kullback-Leibler divergence: it is a lower bound of that of all classes. Unlike renormalised top classes, it sees
    what the student gives to the rest.

    Args:
        classes: Ids, integers of shape `(..., k)`, the greatest first, no class twice.
        logits: `T log p` of these and of the rest, which is last, `(..., k + 1)`, any float dtype.
        num_classes: How many classes there are, more than `k`.
        temperature: `T > 0` of the logits, a number or a scalar tensor.

    Example:
        >>> import numpy as np
        >>> said = TopClasses(np.array([[2]]), np.log([[0.75, 0.25]]), num_classes=3, temperature=1.0)
        >>> teacher, student = said.paired_with(np.log([[0.25, 0.25, 0.5]]))
        >>> [round(float(q), 4) for q in ops.exp(student)[0]]   # of class 2, and 0.25 + 0.25
        [0.5, 0.5]
    """

    classes: Tensor
    logits: Tensor
    num_classes: int
    temperature: float | Tensor

    def paired_with(self, student_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the same outcomes.

        Args:
            student_logits: Shape `(..., num_classes)`, any float dtype.

        Returns:
            Teacher and student, `(..., k + 1)`, float32. No gradient flows to the teacher.

        Raises:
            ValueError: If the student has another number of classes.
        """
        _check_classes(self, student_logits)
        softened = as_student(student_logits) / self.temperature
        named = ops.take_along_axis(softened, _as_ids(self.classes), axis=-1)
        others = ops.where(_counts(self.classes, softened) > 0, EXCLUDED, softened)
        outcomes = ops.concatenate([named, ops.logsumexp(others, axis=-1, keepdims=True)], axis=-1)
        return as_teacher(self.logits), self.temperature * ops.log_softmax(outcomes)

    @property
    def top(self) -> Tensor:
        """The greatest class, `(...)`."""
        return self.classes[..., 0]


@dataclass(frozen=True, eq=False)
class SampledClasses:
    r"""Classes drawn from the teacher's `p = softmax(z / T)`, independently and with replacement.

    Their shares `p̂ = counts / k` stand for `p`, and are it in the mean. The gradient of the cross-entropy, and so that
    of `KL(p̂ || q)`, is linear in `p̂`, and so unbiased. The value of `KL(p̂ || q)` is not, nor are other divergences.

    Args:
        classes: Ids, integers of shape `(..., k)`.
        num_classes: How many classes there are.
        temperature: `T > 0`, a number or a scalar tensor.

    Example:
        >>> import numpy as np
        >>> said = SampledClasses(np.array([[1, 1, 0, 1]]), num_classes=3, temperature=1.0)
        >>> teacher, student = said.paired_with(np.zeros((1, 3)))
        >>> ops.softmax(teacher).numpy()   # 1, 3 and 0 of 4 draws
        array([[0.25, 0.75, 0.  ]], dtype=float32)

    Reference:
        Anshumann, Zaidi, Kedia, Ahn, Kwon, Lee, Lee, Lee. Sparse Logit Sampling: Accelerating Knowledge Distillation
        in LLMs. 2025. arXiv:2503.16870.
    """

    classes: Tensor
    num_classes: int
    temperature: float | Tensor

    def paired_with(self, student_logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of all classes.

        Args:
            student_logits: Shape `(..., num_classes)`, any float dtype.

        Returns:
            Teacher and student, `(..., num_classes)`, float32: `T log p̂`, -1e30 where nothing was drawn, and the
            student's own logits. No gradient flows to the teacher.

        Raises:
            ValueError: If the student has another number of classes.
        """
        _check_classes(self, student_logits)
        student = as_student(student_logits)
        counts = _counts(self.classes, student)
        drawn = counts > 0
        shares = ops.where(drawn, counts, 1.0) / self.classes.shape[-1]
        return ops.where(drawn, self.temperature * ops.log(shares), EXCLUDED), student


def _check_classes(said: Any, student_logits: Tensor) -> None:
    if student_logits.shape[-1] != said.num_classes:
        raise ValueError(
            f"`{type(said).__name__}`: the student must give logits of the teacher's {said.num_classes} classes. "
            f"Received: student logits of shape {tuple(student_logits.shape)}. Give the student as many outputs, or "
            "cache a teacher of the same classes."
        )


def _as_ids(classes):
    return ops.cast(ops.convert_to_tensor(classes), "int32")


def _counts(classes, logits):
    """How often each class is named, float32 of the shape of the logits `(..., classes)`."""
    classes = _as_ids(classes)
    # Not `arange`, which needs to know how many there are.
    places = [ops.cumsum(ops.ones_like(classes), axis=axis) - 1 for axis in range(len(classes.shape) - 1)]
    indices = ops.reshape(ops.stack([*places, classes], axis=-1), (-1, len(classes.shape)))
    return ops.scatter(indices, ops.ones_like(indices[:, 0], dtype="float32"), ops.shape(logits))
