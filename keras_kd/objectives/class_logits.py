"""What objectives between class logits have in common: their outputs, their temperature, labels and masks."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from keras_kd.objectives.base import Objective
from keras_kd.scalars import MovableScalar, as_float
from keras_kd.signals import pair_outputs
from keras_kd.weighing import kept, mask_of, with_mask_of


class LogitsObjective(Objective):
    """Compares class logits, output by output.

    Subclasses say which function of `keras_kd.losses` is their `loss`, and which of their attributes are `settings`:
    arguments of that function and of their own constructor. One that `needs_labels` is given those of the output;
    one that is `relational`, the mask of the student's logits.

    Args:
        outputs: Student outputs to distil, keys of a dict or names of a Functional model's outputs. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to the class name in snake case.
    """

    compares_logits = True
    loss: Callable

    def __init__(self, *, outputs: Sequence[str] | str | None = None, weight: float = 1.0, name: str | None = None):
        super().__init__(weight=weight, name=name)
        self.outputs = [outputs] if isinstance(outputs, str) else outputs and list(outputs)
        self.built = True

    def prepare(self, teacher, student):
        for name, (teacher_logits, student_logits) in pair_outputs(teacher, student, self.outputs).items():
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
        arguments = self.arguments(temperature)
        pairs = pair_outputs(teacher, student, self.outputs, self.asks_at(temperature))
        return {
            name: with_mask_of(
                student_logits,
                type(self).loss(
                    teacher_logits, student_logits, **arguments, **self._of_batch(name, student_logits, labels)
                ),
            )
            for name, (teacher_logits, student_logits) in pairs.items()
        }

    def asks_at(self, temperature):
        return self.arguments(temperature).get("temperature", 1.0)

    def arguments(self, temperature: Any) -> dict[str, Any]:
        """What the loss is given beside the batch, for the temperature of the distiller."""
        return self.current_settings()

    def _of_batch(self, name: str, student_logits: Any, labels: Mapping[str, Any] | None) -> dict[str, Any]:
        given = {}
        if self.relational:
            given["mask"] = kept(student_logits[..., 0], mask_of(student_logits))
        if self.needs_labels:
            given["labels"] = (labels or {}).get(name)
            if given["labels"] is None:
                raise ValueError(
                    f"`{type(self).__name__}`: it compares with the labels of the student's output '{name}'. Received "
                    "none. Give `y` for it, or name the outputs that have labels, as in `outputs=['digit']`."
                )
        return given

    def get_config(self):
        return {**super().get_config(), "outputs": self.outputs}


class SoftenedObjective(LogitsObjective):
    """Compares logits at a temperature: its own, or, where it has none, the distiller's.

    Args:
        temperature: `T > 0`. Defaults to the distiller's, which may move while training.
        outputs: Student outputs to distil. Defaults to all.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to the class name in snake case.
    """

    temperature = MovableScalar(low=0.0, open_low=True)

    def __init__(self, temperature: float | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if temperature is not None:
            self.temperature = temperature

    def arguments(self, temperature):
        return {**super().arguments(temperature), "temperature": self.temperature if self._has_its_own else temperature}

    @property
    def _has_its_own(self) -> bool:
        return hasattr(self, "temperature")

    def get_config(self):
        return {**super().get_config(), "temperature": as_float(self.temperature) if self._has_its_own else None}
