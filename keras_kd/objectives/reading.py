"""Reads what a user hands over as objectives."""

import itertools
from collections.abc import Sequence
from typing import Any

import keras

from keras_kd.objectives.base import Objective
from keras_kd.objectives.builtin import FromKeras
from keras_kd.objectives.logits import SoftTargets

RESERVED_NAMES = ("loss", "student_loss", "agreement", "teacher_kl")


def as_objectives(objectives: Any) -> list[Objective]:
    """Reads one objective or several; `None` is `SoftTargets()`.

    Args:
        objectives: `None`, an `Objective`, a `keras.distillation.DistillationLoss`, or a list of these.

    Returns:
        A list of at least one objective.

    Raises:
        ValueError: If one is none of these, the list is empty, or two of them finish the student.

    Example:
        >>> [objective.name for objective in as_objectives(None)]
        ['soft_targets']
    """
    if objectives is None:
        return [SoftTargets()]
    objectives = list(objectives) if isinstance(objectives, list | tuple) else [objectives]
    objectives = [FromKeras(o) if isinstance(o, keras.distillation.DistillationLoss) else o for o in objectives]
    if not objectives or not all(isinstance(objective, Objective) for objective in objectives):
        raise ValueError(
            "`Distiller`: `objectives` must be one or more `keras_kd.objectives`, or `keras.distillation` losses. "
            f"Received: {objectives!r}."
        )
    taken = [objective.name for objective in objectives if objective.name in RESERVED_NAMES]
    if taken:
        raise ValueError(
            f"`Distiller`: {taken} are metrics of the distiller itself. Give the objective another `name`."
        )
    finishing = [objective.name for objective in objectives if objective.finishes_student]
    if len(finishing) > 1:
        raise ValueError(
            f"`Distiller`: one objective at most may put an end of its own to the student. Received: {finishing}."
        )
    return objectives


def metric_keys(objectives: Sequence[Objective]) -> list[str]:
    """The objectives' keys among the metrics: their names, numbered where a name comes twice.

    Args:
        objectives: Objectives of one distiller.

    Returns:
        One key each.

    Example:
        >>> metric_keys([SoftTargets(), SoftTargets(2.0)])
        ['soft_targets', 'soft_targets_1']
    """
    keys: list[str] = []
    for objective in objectives:
        numbered = (f"{objective.name}_{number}" for number in itertools.count(1))
        keys.append(next(key for key in itertools.chain([objective.name], numbered) if key not in keys))
    return keys
