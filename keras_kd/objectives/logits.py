"""Objectives between the class logits of teacher and student."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_kd import losses
from keras_kd.objectives.base import Objective
from keras_kd.scalars import MovableScalar, as_float
from keras_kd.signals import pair_outputs
from keras_kd.weighing import with_mask_of


class _SoftenedLogits(Objective):
    """Compares softened classes, output by output."""

    temperature = MovableScalar(low=0.0, open_low=True)
    compares_logits = True
    loss: Callable

    def __init__(
        self,
        temperature: float | None = None,
        *,
        outputs: Sequence[str] | None = None,
        weight: float = 1.0,
        name: str | None = None,
    ):
        super().__init__(weight=weight, name=name)
        if temperature is not None:
            self.temperature = temperature
        self.outputs = [outputs] if isinstance(outputs, str) else outputs and list(outputs)
        self.built = True

    def prepare(self, teacher, student):
        for name, (teacher_logits, student_logits) in self._pairs(teacher, student, 1.0).items():
            teacher_classes, student_classes = teacher_logits.shape[-1:], student_logits.shape[-1:]
            if tuple(teacher_classes) != tuple(student_classes):
                raise ValueError(
                    f"`{type(self).__name__}`: teacher and student must name the same classes. Received for the "
                    f"student's output '{name}': teacher logits of shape {tuple(teacher_logits.shape)}, student "
                    f"logits of shape {tuple(student_logits.shape)}."
                )
            if len(student_logits.shape) < 2 or tuple(student_classes) == (1,):
                raise ValueError(
                    f"`{type(self).__name__}`: the student's output '{name}' has shape {tuple(student_logits.shape)}; "
                    "one score alone has no softmax to soften. Give both models two logits for two classes, or name "
                    "the outputs that are classes, as in `outputs=['digit']`."
                )

    def values(self, teacher, student, *, temperature, labels=None, training=False):
        temperature = getattr(self, "temperature", temperature)
        return {
            name: with_mask_of(student_logits, type(self).loss(teacher_logits, student_logits, temperature))
            for name, (teacher_logits, student_logits) in self._pairs(teacher, student, temperature).items()
        }

    def _pairs(self, teacher, student, temperature: Any) -> dict[str, tuple[Any, Any]]:
        return pair_outputs(teacher, student, self.outputs, temperature)

    def get_config(self):
        temperature = as_float(self.temperature) if hasattr(self, "temperature") else None
        return {**super().get_config(), "temperature": temperature, "outputs": self.outputs}


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftTargets(_SoftenedLogits):
    """Soft targets: the teacher's softened classes, `T² · KL(softmax(t / T) || softmax(s / T))`.

    See `keras_kd.losses.soft_target_kl` for the formula. With several outputs, the values follow `loss_weights`,
    or add up.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training.
        outputs: Student outputs to distil, keys of a dict or names of a Functional model's outputs. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"soft_targets"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> SoftTargets(2.0).get_config()
        {'name': 'soft_targets', 'weight': 1.0, 'temperature': 2.0, 'outputs': None}

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """

    loss = staticmethod(losses.soft_target_kl)


@keras.saving.register_keras_serializable(package="keras_kd")
class SoftCrossEntropy(_SoftenedLogits):
    """Soft targets in the paper's own form, the cross-entropy under the teacher's softened classes.

    Its gradients are those of `SoftTargets`; its value stays above zero by `T²` times the teacher's entropy.
    See `keras_kd.losses.soft_target_cross_entropy` for the formula.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to `"soft_cross_entropy"`.

    Raises:
        ValueError: If the temperature or the weight is out of range; when training begins, if the classes differ.

    Example:
        >>> SoftCrossEntropy(weight=0.5).name
        'soft_cross_entropy'

    Reference:
        Hinton, Vinyals, Dean. Distilling the Knowledge in a Neural Network. 2015. arXiv:1503.02531.
    """

    loss = staticmethod(losses.soft_target_cross_entropy)
