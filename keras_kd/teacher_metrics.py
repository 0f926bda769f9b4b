"""Metrics that need the teacher, computed when their name is among the compiled metrics."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_kd.losses import soft_target_kl
from keras_kd.objectives import Objective
from keras_kd.outcomes import TopClasses
from keras_kd.signals import EnsembleSignals, Signals, match_outputs
from keras_kd.weighing import kept, mask_of


def agreement(teacher: Any, student: Any) -> Any:
    """1 where teacher and student name the same class, else 0: shape `(...)` for logits of shape `(..., classes)`."""
    named = ops.cast(teacher.top if isinstance(teacher, TopClasses) else ops.argmax(teacher, -1), "int32")
    return ops.cast(named == ops.cast(ops.argmax(student, -1), "int32"), "float32")


def teacher_kl(teacher: Any, student: Any) -> Any:
    """`KL(teacher || student)` at temperature 1, in nats: shape `(...)` for logits of shape `(..., classes)`."""
    return soft_target_kl(teacher, student, temperature=1.0)


TEACHER_METRICS = {"agreement": agreement, "teacher_kl": teacher_kl}


def update_teacher_metrics(
    means: Mapping[str, keras.metrics.Mean],
    teacher: Signals | EnsembleSignals,
    student: Signals,
    objectives: Sequence[Objective],
) -> None:
    """Updates the means by name, over the outputs that are distilled and the places that their masks keep."""
    outputs = next((objective.outputs for objective in objectives if objective.compares_logits), None)
    pairs = match_outputs(teacher.outputs, teacher.keyed, student, outputs) if means else {}
    for said, student_logits in pairs.values():
        for name, mean in means.items():
            values = TEACHER_METRICS[name](said, student_logits)
            mean.update_state(values, sample_weight=kept(values, mask_of(student_logits)))
