"""The losses of `keras.distillation` as objectives."""

from typing import Any

import keras
from keras import ops

from keras_kd.objectives.base import Objective, snake_case
from keras_kd.weighing import weighted_mean


@keras.saving.register_keras_serializable(package="keras_kd")
class FromKeras(Objective):
    """Any `keras.distillation.DistillationLoss`, on the taps of the one forward pass.

    Such a loss gives one number per batch, so sample weights and masks scale it as a whole. Its temperature is its
    own. A loss without layer names sees the outputs, as logits.

    Args:
        loss: A `keras.distillation.DistillationLoss`.
        weight: Factor in the total loss. Defaults to 1.
        name: Key among the metrics. Defaults to the loss's class name in snake case.

    Raises:
        ValueError: If `loss` is no `DistillationLoss`; when training begins, if it refuses the outputs.

    Example:
        >>> FromKeras(keras.distillation.FeatureDistillation("mse", "block3", "block2")).student_taps
        ('block2',)
    """

    def __init__(self, loss: "keras.distillation.DistillationLoss", weight: float = 1.0, name: str | None = None):
        if not isinstance(loss, keras.distillation.DistillationLoss):
            raise ValueError(
                f"`FromKeras`: `loss` must be a `keras.distillation.DistillationLoss`. Received: {loss!r}."
            )
        super().__init__(weight=weight, name=name or snake_case(type(loss)))
        self.loss = loss
        self.built = True
        taps = (getattr(loss, "teacher_layer_name", None), getattr(loss, "student_layer_name", None))
        self.teacher_taps, self.student_taps = (tuple(filter(None, [tap])) for tap in taps)

    @property
    def compares_logits(self) -> bool:
        """Whether the loss looks at the outputs."""
        return not (self.teacher_taps and self.student_taps)

    def prepare(self, teacher, student):
        try:
            self.loss.validate_outputs(_seen(teacher, self.teacher_taps), _seen(student, self.student_taps))
        except ValueError as error:
            raise ValueError(
                f"`FromKeras`: for `{type(self.loss).__name__}` teacher outputs, student outputs and its `loss` "
                f"must have one structure. Received: teacher {list(teacher.outputs)}, student {list(student.outputs)}."
            ) from error

    def values(self, teacher, student, *, temperature, labels=None, training=False):
        seen = _seen(student, self.student_taps)
        value = self.loss.compute_loss(_seen(teacher, self.teacher_taps), seen)
        if all(isinstance(one, keras.losses.Loss) for one in keras.tree.flatten(getattr(self.loss, "loss", None))):
            value = value / weighted_mean(ops.ones((1,)))  # a Loss object has divided by the replicas already
        return {None: ops.broadcast_to(ops.cast(value, "float32"), ops.shape(keras.tree.flatten(seen)[0])[:1])}

    def get_config(self):
        return {**super().get_config(), "loss": keras.saving.serialize_keras_object(self.loss)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": keras.saving.deserialize_keras_object(config["loss"])})


def _seen(signals: Any, taps: tuple[str, ...]) -> Any:
    if taps:
        return ops.cast(signals.taps[taps[0]], "float32")
    outputs = {name: ops.cast(value, "float32") for name, value in signals.outputs.items()}
    if signals.keyed:
        return outputs
    return list(outputs.values()) if len(outputs) > 1 else next(iter(outputs.values()))
