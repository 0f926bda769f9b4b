"""What the discriminator judges: the logits of teacher and student, or a feature of each."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.losses.tensors import as_student, as_teacher, channels_last
from keras_kd.objectives.base import Objective
from keras_kd.objectives.tapped import FeatureObjective
from keras_kd.projectors import Shape, projected
from keras_kd.signals import pair_outputs


@keras.saving.register_keras_serializable(package="keras_kd")
class JudgedLogits(Objective):
    """The logits of models with one output; an objective without a value of its own.

    Logits as they are, but where the teacher gives log-probabilities: there the student's are made such too, lest the
    discriminator tell the two by their sums.
    """

    compares_logits = True
    log_probabilities = False
    shape: Shape | None = None

    def __init__(self, name: str = "adversarial_loss", **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.built = True

    def prepare(self, teacher, student):
        if len(student.outputs) != 1:
            raise ValueError(
                "`AdversarialDistiller`: `on='logits'` is for a student of one output. Received: a student that gives "
                f"{list(student.outputs)}. Name the layers of teacher and student that give the one to judge, as in "
                "`on=('mask', 'mask')`."
            )
        ((name, (taught, learnt)),) = pair_outputs(teacher, student).items()
        if tuple(taught.shape[1:]) != tuple(learnt.shape[1:]):
            raise ValueError(
                "`AdversarialDistiller`: the logits of teacher and student must have one shape. Received for the "
                f"student's output '{name}': teacher {tuple(taught.shape)}, student {tuple(learnt.shape)}. Give models "
                "of the same classes, or name layers in `on`."
            )
        self.shape = tuple(learnt.shape)

    def of_teacher(self, teacher: Any, student: Any) -> Any:
        """What the teacher gave for the student's output, float32, without a gradient."""
        ((logits, _),) = pair_outputs(teacher, student).values()
        return self._as_judged(as_teacher(logits))

    def of_student(self, student: Any) -> Any:
        """What the student gave, float32."""
        (logits,) = student.outputs.values()
        return self._as_judged(as_student(logits))

    def _as_judged(self, logits: Any) -> Any:
        return ops.log_softmax(logits) if self.log_probabilities else logits


@keras.saving.register_keras_serializable(package="keras_kd")
class JudgedFeatures(FeatureObjective):
    """A feature of either model, the student's brought to the shape of the teacher's by a projector that trains with
    it; an objective without a value of its own.

    Args:
        teacher_tap: Where to listen in the teacher.
        student_tap: Where to listen in the student.
        **kwargs: As for `FeatureObjective`.
    """

    log_probabilities = False
    shape: Shape | None = None

    def __init__(self, teacher_tap: str, student_tap: str, *, name: str = "adversarial_loss", **kwargs: Any):
        super().__init__(teacher_tap, student_tap, name=name, **kwargs)

    def prepare(self, teacher, student):
        super().prepare(teacher, student)
        (feature,), _ = self.features(teacher, student)
        self.shape = tuple(feature.shape)

    def of_teacher(self, teacher: Any, student: Any) -> Any:
        """What the teacher's layer gave, channels last, float32, without a gradient."""
        return channels_last(as_teacher(teacher.taps[self.teacher_tap]))

    def of_student(self, student: Any) -> Any:
        """What the student's layer gave, channels last, projected, float32."""
        feature = channels_last(as_student(student.taps[self.student_tap]))
        return feature if self.projector is None else projected(self.projector, feature, training=True)


def as_judged(on: Any) -> JudgedLogits | JudgedFeatures:
    """Reads `on`: `"logits"`, a tap of both models, or a pair of taps.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(on, JudgedLogits | JudgedFeatures):
        return on
    if on == "logits":
        return JudgedLogits()
    taps = (on, on) if isinstance(on, str) else on
    if not (isinstance(taps, Sequence) and len(taps) == 2 and all(isinstance(tap, str) for tap in taps)):
        raise ValueError(
            "`AdversarialDistiller`: `on` must be 'logits', a tap of both models, or a pair of taps, the teacher's "
            f"first. Received: on={on!r}."
        )
    return JudgedFeatures(*taps)


def penultimate(model: Any) -> str | None:
    """The tap of what goes into the last layer with weights of a Sequential or Functional model with one output.

    Args:
        model: A Keras model.

    Returns:
        The tap; `None` where the model does not tell.

    Example:
        >>> body, head = keras.layers.Dense(8, name="body"), keras.layers.Dense(3, name="head")
        >>> penultimate(keras.Sequential([keras.Input((4,)), body, head, keras.layers.Activation("linear")]))
        'head:input'
    """
    outputs = getattr(model, "outputs", None) if getattr(model, "built", False) else None
    if not outputs or len(outputs) != 1:
        return None
    layer, index = outputs[0]._keras_history[:2]
    while isinstance(layer, keras.Layer) and not layer.weights:
        inputs = layer._inbound_nodes[index].input_tensors
        if len(inputs) != 1:
            return None
        layer, index = inputs[0]._keras_history[:2]
    if not isinstance(layer, keras.Layer):
        return None
    if not isinstance(layer, keras.Model):
        return f"{layer.name}:input"
    inner = penultimate(layer)
    return inner and f"{layer.name}/{inner}"
