"""The contestants of `speed.py` whose teacher runs in the step: soft targets alone, and with a hint."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers
from speed_models import (
    ALPHA,
    TEMPERATURE,
    by_hand,
    compiled,
    copy_of,
    fitting,
    hinted_by_hand,
    images,
    inference,
    looping,
)
from speed_race import BUILTIN, BY_HAND, OURS, STUDENT_ALONE, TEACHER, UNWATCHED, Contestants

import keras_kd as kd

TAP = "block1"


def live_runs(student: keras.Model, teacher: keras.Model, steps: int) -> Contestants:
    """An epoch of soft targets by us, by hand and by Keras, and of what they consist of."""
    data = images(steps, student.input_shape[1:])
    learners = [copy_of(student) for _ in range(4)]
    soft = keras.distillation.LogitsDistillation(TEMPERATURE, keras.losses.KLDivergence())
    builtin = keras.distillation.Distiller(copy_of(teacher), learners[2], soft, student_loss_weight=ALPHA)
    runs = {
        OURS: fitting(compiled(kd.Distiller(learners[0], teacher)), data),
        BY_HAND: looping(by_hand(learners[1], teacher), data),
        BUILTIN: fitting(compiled(builtin), data),
        STUDENT_ALONE: fitting(compiled(learners[3]), data),
        TEACHER: looping(inference(teacher), data),
    }
    _check_same(runs, learners[:2])
    return runs


def hinted_runs(student: keras.Model, teacher: keras.Model, steps: int) -> Contestants:
    """An epoch of soft targets and a hint, by us and by hand."""
    data = images(steps, student.input_shape[1:])
    channels = teacher.get_layer(TAP).output.shape[-1]
    projectors = [layers.Conv2D(channels, 1, kernel_initializer=_same_start(channels)) for _ in range(2)]
    for projector in projectors:
        projector.build(student.get_layer(TAP).output.shape)
    learners = [copy_of(student) for _ in range(2)]
    objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint(TAP, TAP, projector=projectors[0])]
    runs = {
        OURS: fitting(compiled(kd.Distiller(learners[0], teacher, objectives)), data),
        BY_HAND: looping(hinted_by_hand(learners[1], teacher, TAP, projectors[1]), data),
    }
    _check_same(runs, learners)
    return runs


class Unwatched(kd.Distiller):
    """Takes every step, finite or not."""

    make_train_function = keras.Model.make_train_function

    def _take_step(self, learn, *step):
        return learn()


def watched_runs(student: keras.Model, teacher: keras.Model, steps: int) -> Contestants:
    """An epoch of soft targets, with an eye to NaN and infinity and without."""
    data = images(steps, student.input_shape[1:])
    learners = {OURS: kd.Distiller, UNWATCHED: Unwatched}
    return {name: fitting(compiled(of(copy_of(student), teacher)), data) for name, of in learners.items()}


def _same_start(channels: int) -> keras.initializers.Initializer:
    """The same start for a projector wherever it is made."""
    return keras.initializers.RandomNormal(stddev=channels**-0.5, seed=0)


def _check_same(runs: Contestants, learners: Sequence[keras.Model]) -> None:
    """Trains ours and the hand-written for an epoch, and holds the students to the same weights: a race of equals."""
    for name in (OURS, BY_HAND):
        runs[name]()
    for ours, theirs in zip(*(learner.get_weights() for learner in learners), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)
