"""Hundreds of short trainings of one small model: compiled once, begun anew for each."""

import math
from collections.abc import Callable, Sequence

import keras
import numpy as np

import keras_kd as kd
from keras_kd.modalities.transfer import Transfer, transfer_report


def begin_anew(learner: keras.Model, models: Sequence[keras.Model], seed: int, initial: Callable) -> None:
    """Gives models of dense layers new weights, `initial(shape, fan_in)`, and forgets what the optimizer knows."""
    keras.utils.set_random_seed(seed)
    for model in models:
        for variable in model.variables:
            if len(variable.shape) == 2:
                fan_in = variable.shape[0]
            variable.assign(initial(variable.shape, fan_in))
    for variable in learner.optimizer.variables:
        if variable.path.split("/")[-1] != "learning_rate":
            variable.assign(keras.ops.zeros_like(variable))


def accuracy(model: keras.Model, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the labels that a model meets."""
    return float(np.mean(np.asarray(model(x, training=False)).argmax(-1) == y))


def gain(taught: Sequence[float], alone: Sequence[float], name: str) -> Transfer:
    """The gain over the student alone, run by run; of one run the interval is without ends."""
    if len(alone) == 1:
        gained = taught[0] - alone[0]
        return Transfer(name, tuple(taught), (gained,), gained, -math.inf, math.inf, "no evidence")
    report = transfer_report(
        lambda teacher, run: (alone if teacher is None else taught)[run], [name], range(len(alone))
    )
    return report.transfers[0]


def shown(found: Transfer) -> str:
    """A gain with its interval, in percentage points."""
    return f"{100 * found.gain:+.2f} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"


def distiller_of(
    student: keras.Model, teacher: kd.Teacher, objective, optimizer, seen: str, **compiling
) -> kd.Distiller:
    """Of a student that sees one key of the batch."""
    distiller = kd.Distiller(student, teacher, objective, student_inputs=[seen])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(optimizer, loss, **compiling)
    return distiller
