"""One hop of a chain: a model learns from larger ones, is kept on disk, and is measured."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_kd.assistants.keeping import KeepBest
from keras_kd.assistants.lessons import Lessons
from keras_kd.assistants.per_hop import anew
from keras_kd.assistants.records import HopFolder, HopRecord
from keras_kd.distiller import Distiller
from keras_kd.objectives import Objective, SoftTargets, metric_keys
from keras_kd.teacher_metrics import TEACHER_METRICS


@dataclass(frozen=True)
class Hop:
    """A model, and how it is to be trained.

    Attributes:
        index: Its place in the chain.
        student: The model to train.
        teachers: Who teaches it; nobody teaches an untrained teacher.
        objectives: What is compared.
        alpha: Weight of the student's own loss.
        temperature: Of the objectives that have none of their own.
        compiling: Arguments of `compile`.
        largest: The chain's teacher, whom it is held against.
    """

    index: int
    student: keras.Model
    teachers: Sequence[Any]
    objectives: Sequence[Objective]
    alpha: float
    temperature: float
    compiling: Mapping[str, Any]
    largest: Any = None

    def train(self, lessons: Lessons, folder: HopFolder) -> HopRecord:
        """Trains the student, from where an interrupted run has left it, and gives it its best weights."""
        if not self.teachers:
            self._build(lessons)  # a distiller does it itself
        with self.student.distribute_strategy.scope():
            learner = self._learner(lessons.cached)
            metrics = self.compiling["metrics"] if self.teachers else self._own_metrics()
            learner.compile(**keras.tree.map_structure(anew, {**self.compiling, "metrics": metrics}))
        keep = KeepBest(folder, self.student, lessons.monitor)
        lessons.fit(learner, keep.initial_epoch, [keep])
        best = keep.restore_best()
        record = measured(self.student, keep.history(), best, self.evaluate(lessons), keep.seconds())
        folder.save(self.student, folder.weights)
        folder.finish(record)
        return record

    def restore(self, lessons: Lessons, folder: HopFolder) -> None:
        """Gives the student the weights of a hop that came to its end."""
        self._build(lessons)
        folder.load(self.student, folder.weights)

    def _build(self, lessons: Lessons) -> None:
        if not self.student.built and (x := lessons.probe()) is not None:
            with self.student.distribute_strategy.scope():
                self.student(x, training=False)

    def _learner(self, cached: bool) -> keras.Model:
        if not self.teachers:
            return self.student
        teacher = self.teachers[0] if len(self.teachers) == 1 else list(self.teachers)
        return Distiller(
            self.student,
            None if cached else teacher,
            list(self.objectives),
            alpha=self.alpha,
            temperature=self.temperature,
        )

    def _own_metrics(self) -> Any:
        """Those of `compile` that need no teacher."""
        metrics, of_teacher = self.compiling["metrics"], [*TEACHER_METRICS, *metric_keys(self.objectives)]
        if not isinstance(metrics, list | tuple):
            return metrics
        return [metric for metric in metrics if not (isinstance(metric, str) and metric in of_teacher)]

    def evaluate(self, lessons: Lessons) -> dict[str, float]:
        """What the student reaches on the validation data, the compiled metrics and agreement with the largest."""
        metrics = keras.tree.map_structure(anew, self._own_metrics() or [])
        if isinstance(metrics, list) and self.largest is not None:
            metrics = [*metrics, "agreement"]
        outputs = next((objective.outputs for objective in self.objectives if objective.compares_logits), None)
        with self.student.distribute_strategy.scope():
            judge = Distiller(self.student, self.largest, SoftTargets(outputs=outputs), alpha=0.0)
            judge.compile(
                **{**self.compiling, "optimizer": "sgd", "loss": None, "loss_weights": None, "metrics": metrics}
            )
        return lessons.evaluate(judge)


def measured(
    model: keras.Model,
    history: Mapping[str, Any] | None = None,
    best_epoch: int | None = None,
    results: Mapping[str, float] | None = None,
    seconds: float = 0.0,
) -> HopRecord:
    """A record, with what can be told of the model itself."""
    sizes = [math.prod(weight.shape) * np.dtype(weight.dtype).itemsize for weight in model.weights]
    return HopRecord(
        model.name, model.count_params(), sum(sizes), dict(history or {}), best_epoch, dict(results or {}), seconds
    )
