"""What every objective is: a weighted comparison of teacher and student."""

import re
from collections.abc import Mapping
from typing import Any

import keras

from keras_kd.objectives.inside_keras import InsideKeras
from keras_kd.scalars import MovableScalar, as_float
from keras_kd.signals import EnsembleSignals, Signals


class Objective(InsideKeras, keras.layers.Layer):
    """A loss bound to what it compares.

    A layer, so that what it trains (a projector) is saved and optimised with the distiller. Subclasses set the
    taps they listen at, write `values`, name in `settings` their own arguments that are plain attributes, and say in
    `paper_weight` which weight their paper gives them beside a student loss of weight 1: with `alpha=0.5`,
    `weight=Hint.paper_weight` is the paper's loss. One that is `relational` compares the examples of a batch with each
    other; it hears those of all replicas.

    Args:
        weight: Factor of the objective in the total loss, `>= 0`: a variable, so that it can be assigned while
            training. Defaults to 1.
        name: The objective's key among the metrics. Defaults to the class name in snake case.

    Raises:
        ValueError: If `weight` is negative or no number.
    """

    weight = MovableScalar(low=0.0)
    paper_weight = 1.0
    settings: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    student_taps: tuple[str, ...] = ()
    compares_logits = False
    needs_labels = False
    finishes_student = False
    relational = False
    hears: tuple[str, ...] = ("dense",)
    outputs: list[str] | None = None

    def __init__(self, weight: float = 1.0, name: str | None = None):
        super().__init__(name=name or snake_case(type(self)), dtype="float32", autocast=False)
        self.weight = weight

    def prepare(self, teacher: Signals | EnsembleSignals, student: Signals) -> None:
        """Checks that the two fit and creates the weights of the objective, from the shapes alone.

        Raises:
            ValueError: If they do not fit.
        """

    def asks_at(self, temperature: Any) -> Any:
        """The temperature at which it wants to know the teacher's logits, for that of the distiller."""
        return 1.0

    def finished(self, student: keras.Model, teacher: keras.Model) -> keras.Model:
        """What is evaluated and exported in the student's place, by a method that `finishes_student` with an end of
        its own."""
        return student

    def values(
        self,
        teacher: Signals | EnsembleSignals,
        student: Signals,
        *,
        temperature: Any,
        labels: Mapping[str, Any] | None = None,
        training: bool = False,
    ) -> dict[str | None, Any]:
        """Compares a batch.

        Args:
            teacher: Signals of the teacher.
            student: Signals of the student.
            temperature: The distiller's temperature, for objectives that were given none.
            labels: Labels by the student's output, where there are any.
            training: Whether the batch trains the student.

        Returns:
            Values of shape `(batch, ...)` by the student's output that they belong to, or by `None`.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments to make the objective anew."""
        return {"name": self.name, "weight": as_float(self.weight), **self.current_settings()}

    def current_settings(self) -> dict[str, Any]:
        """The arguments of the method's own."""
        return {setting: getattr(self, setting) for setting in self.settings}


def snake_case(cls: type) -> str:
    """`SoftTargets` -> `soft_targets`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()
