"""The proof of an export: every file over all of the evaluation data, beside the Keras student and its teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras

from keras_kd.export.evaluation import Evaluation
from keras_kd.export.parity import Answers, Tally, answers
from keras_kd.export.report import ExportedFile, TeacherFigures
from keras_kd.export.runtime import LiteRTModel
from keras_kd.export.serving import Serving
from keras_kd.export.teacher_file import TeacherFile
from keras_kd.export.teaching import Asking, Teaching
from keras_kd.export.timing import host_figures
from keras_kd.export.tolerances import require_parity
from keras_kd.probabilities import scores_by_graph


@dataclass(frozen=True)
class Measurements:
    """What an export found out.

    Attributes:
        accuracy: of the Keras student; `None` without labels.
        teacher_agreement: share of examples where the Keras student names the class that the teacher names.
        files: the files by form, with their figures.
        teacher: what was found out about the teacher; `None` without one.
        evaluation: what `evaluation.json` holds; `None` where there is none.
    """

    accuracy: float | None = None
    teacher_agreement: float | None = None
    files: Mapping[str, ExportedFile] = field(default_factory=dict)
    teacher: TeacherFigures | None = None
    evaluation: dict[str, Any] | None = None


def measure(
    student: keras.Model,
    serving: Serving,
    files: Mapping[str, ExportedFile],
    data: Any,
    *,
    teaching: Teaching,
    tolerances: Mapping[str, float],
    labels: Sequence[str] | None,
    folder: Path,
) -> Measurements:
    """Run and time every file, and hold it against the Keras student and its teacher.

    Args:
        student: the Keras model, which computes in float32.
        serving: names and structure of its inputs and outputs.
        files: the files by form, none that needs Flex.
        data: as `batches` takes it.
        teaching: who taught the student, and what it sees of the inputs.
        tolerances: least agreement with Keras by form.
        labels: names of the classes; `None` without.
        folder: where the teacher's file may be for a while.

    Returns:
        The `Measurements`.

    Raises:
        ValueError: if the data do not fit student and teacher.
        RuntimeError: if a file is too far from Keras, or cannot be timed.
    """
    asking = Asking(teaching)
    teacher = _TeacherTally(teaching, asking, folder)
    evaluation = Evaluation(labels, _scores(student))
    models = {form: LiteRTModel(file.path) for form, file in files.items()}
    itself, tallies, example = Tally(), {form: Tally() for form in models}, {}
    for said in answers(student, serving, teaching, asking, data):
        example = example or said.inputs
        itself.add(said.student, said.student, said.labels, said.teacher)
        teacher.add(said)
        evaluation.add(said)
        for form, model in models.items():
            tallies[form].add(said.student, model.run(said.inputs), said.labels, said.teacher)
    for form, tally in tallies.items():
        require_parity(form, tally, tolerances)
    measured = {}
    for form, file in files.items():
        named = {name: array[[0] * (file.batch_size or 1)] for name, array in example.items()}
        measured[form] = replace(file, **tallies[form].figures(), **host_figures(file.path, named))
    return Measurements(itself.accuracy, itself.teacher_agreement, measured, teacher.figures(), evaluation.to_dict())


class _TeacherTally:
    """What is found out about the teacher, batch by batch."""

    def __init__(self, teaching: Teaching, asking: Asking, folder: Path):
        self._teaching = teaching
        self._asking = asking
        self._folder = folder
        self._tally = Tally()
        self._file: TeacherFile | None = None
        self._without: str | None = None

    def add(self, said: Answers) -> None:
        if not said.teacher:
            return
        self._tally.add(said.teacher, said.teacher, said.labels)
        if self._without is not None:
            return
        try:
            if self._file is None:
                self._file = TeacherFile(self._teaching.teacher, said.x, self._folder)
            self._file.add(said)
        except (ValueError, RuntimeError) as error:
            self._file, self._without = None, " ".join(str(error).split())[:120]

    def figures(self) -> TeacherFigures | None:
        if self._teaching.teacher is None:
            return None
        return replace(
            teacher_of(self._teaching),
            accuracy=self._tally.accuracy,
            file=self._file and self._file.figures(),
            without_file=self._without or self._asking.refusal,
        )


def teacher_of(teaching: Teaching) -> TeacherFigures | None:
    """Return what is known of the teacher before it is asked; `None` without one."""
    if teaching.teacher is None:
        return None
    models = [member.model for member in teaching.teacher.members]
    known = all(model.built and not getattr(model, "opaque", False) for model in models)
    return TeacherFigures(teaching.teacher.name, sum(model.count_params() for model in models) if known else None)


def _scores(student: keras.Model) -> str:
    """What the student's one output is, as its graph says it."""
    found = scores_by_graph(student)
    return next(iter(found.outputs.values())) if found and len(found.outputs) == 1 else "unknown"
