"""The batch of all replicas, for objectives that compare its examples with each other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import tensorflow as tf

from keras_kd.objectives import Objective
from keras_kd.signals import EnsembleSignals, Signals
from keras_kd.weighing import mask_of, with_mask


def values_of(
    objective: Objective,
    teacher: Signals | EnsembleSignals,
    student: Signals,
    labels: Mapping[str, Any],
    **context: Any,
) -> dict[str | None, Any]:
    """What an objective says of this replica's examples; if it is relational, compared with those of all replicas.

    Each replica gathers what the others have heard. The gradient of a gathered tensor is the sum over the replicas, so
    that all of them together learn what one device does on the global batch.
    """
    if not objective.relational or tf.distribute.get_strategy().num_replicas_in_sync == 1:
        return objective.values(teacher, student, labels=labels, **context)
    others = tf.distribute.get_replica_context()
    count = tf.shape(next(iter(student.outputs.values())))[0]
    counts = others.all_gather(count[None], axis=0)
    start = tf.reduce_sum(counts[: others.replica_id_in_sync_group])
    values = objective.values(
        _gathered(teacher, objective.teacher_taps, objective.compares_logits),
        _gathered(student, objective.student_taps, objective.compares_logits),
        labels={name: None if of is None else _everywhere(of) for name, of in labels.items()},
        **context,
    )
    return {name: _rows(of_output, start, count) for name, of_output in values.items()}


def _gathered(signals: Any, taps: Sequence[str], outputs: bool) -> Any:
    """The signals of all replicas: those taps, and the outputs if they are compared."""
    if not outputs:
        return replace(signals, outputs={}, taps={tap: _whole(tap, signals.taps[tap]) for tap in taps})
    return replace(signals, taps={}).mapped(_whole)


def _whole(name: str, tensor: tf.Tensor) -> tf.Tensor:
    mask, whole = mask_of(tensor), _everywhere(tensor)
    whole.set_shape((None, *tensor.shape[1:]))
    return whole if mask is None else with_mask(tf.cast(_everywhere(tf.cast(mask, "int32")), "bool"), whole)


def _everywhere(tensor: tf.Tensor) -> tf.Tensor:
    # Several workers gather what has a device (TensorFlow 2.21), and the argument of a function has none.
    return tf.distribute.get_replica_context().all_gather(tf.identity(tensor), axis=0)


def _rows(values: tf.Tensor, start: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    mask = mask_of(values)
    rows = values[start : start + count]
    return rows if mask is None else with_mask(mask[start : start + count], rows)
