"""What lets an objective stand among the `distillation_losses` of `keras.distillation.Distiller`."""

from typing import Any

import keras

from keras_kd.signals import Signals
from keras_kd.weighing import weighted_mean

DEFAULT_TEMPERATURE = 4.0


class InsideKeras:
    """The methods of `keras.distillation.DistillationLoss`, where the form of that class allows.

    It hands over the outputs, or one layer of each model by name, for one number: no labels, no sample weights, no
    paths, no two layers, no other end of the student. It does not say whether it trains, so projectors always train.
    """

    @property
    def teacher_layer_name(self) -> str | None:
        """The layer that `keras.distillation.Distiller` extracts from the teacher; `None` for the outputs."""
        return self.teacher_taps[0] if self.teacher_taps else None

    @property
    def student_layer_name(self) -> str | None:
        """The layer that `keras.distillation.Distiller` extracts from the student; `None` for the outputs."""
        return self.student_taps[0] if self.student_taps else None

    def validate_model_compatibility(self, teacher: keras.Model, student: keras.Model) -> None:
        """Checks and builds the objective for two models, as `keras.distillation.Distiller` asks at its start.

        Raises:
            ValueError: If the objective needs what that distiller does not give, or the models do not fit.
        """
        taps = (*self.teacher_taps, *self.student_taps)
        missing = [
            what
            for what, needed in (
                ("labels", self.needs_labels),
                ("more than one layer of a model", len(taps) > 2),
                ("taps other than names of layers", any(set(tap) & set("/:[]") for tap in taps)),
                ("an end of its own for the student", self.finishes_student),
            )
            if needed
        ]
        if missing:
            raise ValueError(
                f"`{type(self).__name__}`: `keras.distillation.Distiller` cannot give {' and '.join(missing)}. Use "
                "`keras_kd.Distiller`."
            )
        self.prepare(*(_said(*pair) for pair in ((teacher, self.teacher_taps), (student, self.student_taps))))

    def validate_outputs(self, teacher_outputs: Any, student_outputs: Any) -> None:
        """Leaves it at what was checked for the models."""

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any) -> Any:
        """The weighted mean of a batch, a scalar."""
        pairs = ((teacher_outputs, self.teacher_taps), (student_outputs, self.student_taps))
        teacher, student = (Signals.of(outputs, taps=dict.fromkeys(taps, outputs)) for outputs, taps in pairs)
        values = self.values(teacher, student, temperature=DEFAULT_TEMPERATURE, training=True)
        return self.weight * sum(weighted_mean(of_output) for of_output in values.values())


def _said(model: keras.Model, taps: tuple[str, ...]) -> Signals:
    outputs = model.outputs[0] if len(model.outputs) == 1 else model.output
    return Signals.of(outputs, taps={tap: model.get_layer(tap).output for tap in taps})
