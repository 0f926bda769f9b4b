"""Reads what is given once for all hops, or as a list with one for each."""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_kd.objectives import DenseGuidance, Objective, as_objectives
from keras_kd.scalars import as_float

OWNER = "TeacherAssistantChain"


def per_hop(name: str, value: Any, hops: int, is_one: Callable[[Any], bool] = lambda value: False) -> list[Any]:
    """One value for each hop.

    Args:
        name: What is given, for the text of errors.
        value: The value of all hops, or a list of one for each.
        hops: How many hops there are.
        is_one: Says of a list that it is one value, and that of all hops. Defaults to never.

    Raises:
        ValueError: If the list has not one for each.

    Example:
        >>> per_hop("epochs", 5, 2), per_hop("epochs", [5, 10], 2)
        ([5, 5], [5, 10])
    """
    if not isinstance(value, list) or is_one(value):
        return [value] * hops
    if len(value) != hops:
        raise ValueError(
            f"`{OWNER}`: `{name}` must be given once, or as a list with one for each of the {hops} hops. Received "
            f"{len(value)}: {value!r}."
        )
    return list(value)


def is_flat(value: Sequence[Any]) -> bool:
    """Whether a list is one of plain members, as `metrics` and `callbacks` are, and not a list of lists."""
    return not any(isinstance(member, list | tuple) for member in value)


def holds_arrays(value: Sequence[Any]) -> bool:
    """Whether a list is the inputs of one model."""
    return all(hasattr(member, "shape") for member in value)


def objectives_per_hop(objectives: Any, hops: int, dense: bool | str) -> list[list[Objective]]:
    """Objectives for each hop, each hop's own: an objective may train a projector.

    Raises:
        ValueError: If the list has not one for each hop, or an objective does not suit a chain.
    """
    given = per_hop("objectives", objectives, hops, is_flat)
    own = [[anew(objective) for objective in as_objectives(one)] for one in given]
    for hop, of_hop in enumerate(own):
        for objective in of_hop:
            _check(objective, of_several=bool(dense) and hop > 0)
    return [[_densely(objective) for objective in of_hop] for of_hop in own] if dense is True else own


def _check(objective: Objective, of_several: bool) -> None:
    owner = f"`{OWNER}`: `{type(objective).__name__}`"
    if objective.finishes_student:
        raise ValueError(
            f"{owner} ends the student in layers of its teacher, but each model of a chain teaches as it is. Use "
            "`Distiller` for that hop, or another objective, such as `Hint`."
        )
    if of_several and objective.teacher_taps:
        raise ValueError(
            f"{owner} compares features, and features of several teachers have no mean. Received: teacher taps "
            f"{list(objective.teacher_taps)}. Leave dense=False, or compare logits alone."
        )


def _densely(objective: Objective) -> Objective:
    if isinstance(objective, DenseGuidance):
        return objective
    weight, objective.weight = as_float(objective.weight), 1.0
    return DenseGuidance(objective, weight=weight, name=objective.name)


def anew(thing: Any) -> Any:
    """A copy of an objective, optimizer or metric with no state; anything else as it is."""
    if isinstance(thing, Objective | keras.optimizers.Optimizer | keras.metrics.Metric):
        return type(thing).from_config(thing.get_config())
    return thing
