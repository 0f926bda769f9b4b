"""Who taught the student that is exported, and which part of the evaluation data each of the two sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.export.examples import unpacked
from keras_kd.inputs import InputSelection
from keras_kd.signals import Signals, match_outputs
from keras_kd.teachers import Ensemble, Teacher, as_teacher


@dataclass(frozen=True)
class Teaching:
    """A teacher, and how its student was taught.

    Attributes:
        teacher: who teaches; `None` where there is nobody to ask.
        given: whether it was handed to the export, which then must be able to ask it, and not the distiller's own.
        student_part: picks what the student sees of the inputs.
        teacher_part: makes of the inputs what the teacher picks its own from.
        outputs: the student's outputs that were taught; `None` for all that the two share.
    """

    teacher: Teacher | Ensemble | None = None
    given: bool = False
    student_part: Callable[[Any], Any] = lambda x: x
    teacher_part: Callable[[Any], Any] = lambda x: x
    outputs: Sequence[str] | None = None

    def student_data(self, data: Any) -> Any:
        """Return the student's part of a data set, in any form that `batches` takes; of arrays without the labels."""
        if isinstance(data, tf.data.Dataset):
            return data.map(lambda x, *rest: (self.student_part(x), *rest))
        return self.student_part(unpacked(data)[0])


def teaching_of(student: Any, teacher: Any = None, preprocess: Callable[[Any], Any] | None = None) -> Teaching:
    """Read who taught a student.

    Args:
        student: a model, or a `Distiller`.
        teacher: what `as_teacher` takes. Defaults to `None`: the distiller's, if it has one.
        preprocess: what is fused in front of the student. A teacher of the same inputs, which neither picks its own nor
            prepares them, is asked about what it gives. Defaults to `None`.

    Returns:
        The `Teaching`.

    Raises:
        ValueError: if `teacher` is nothing that can teach.

    Example:

    >>> build = lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    >>> teaching_of(build()).teacher is None, teaching_of(build(), [build(), build()]).teacher.weights
    (True, [0.5, 0.5])
    """
    given = teacher is not None
    try:
        source = as_teacher(teacher if given else getattr(student, "teacher", None))
    except ValueError as error:
        raise ValueError(str(error).replace("`Distiller`", "`export_student`", 1)) from error
    named = (objective.outputs for objective in getattr(student, "objectives", ()) if hasattr(objective, "outputs"))
    selection = getattr(student, "_select", None)
    picks = isinstance(selection, InputSelection) and selection.keys is not None
    teacher_part = Teaching.teacher_part
    if preprocess is not None and source is not None and not picks and all(map(_takes_all, source.members)):
        teacher_part = _of_arrays(preprocess)
    if not isinstance(selection, InputSelection):
        return Teaching(source, given, teacher_part=teacher_part)

    def student_part(x: Any) -> Any:
        available = x if isinstance(x, dict) else range(len(x)) if isinstance(x, list | tuple) else ()
        alone = selection.keys is not None and not set(selection.keys) <= set(available)
        return x if alone else selection(x, student.student)

    return Teaching(source, given, student_part, teacher_part, next(filter(None, named), None))


def _takes_all(teacher: Teacher) -> bool:
    return teacher.preprocess is None and teacher._select.keys is None


def _of_arrays(preprocess: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: keras.tree.map_structure(keras.ops.convert_to_numpy, preprocess(x))


class Asking:
    """Asks a teacher about one batch after another, beside what the student said of it.

    Args:
        teaching: whom to ask.

    Attributes:
        refusal: why the teacher cannot be asked, in one line; `None` as long as it can.
    """

    def __init__(self, teaching: Teaching):
        self._teaching = teaching
        self._keyed = False
        self.refusal: str | None = None

        @tf.function(autograph=False, reduce_retracing=True)
        def ask(x):
            said = teaching.teacher.signals(x)
            self._keyed = said.keyed
            return dict(said.logits(1.0)), keras.tree.flatten(getattr(said, "structure", None))

        self._ask = ask

    def __call__(self, x: Any, student: Signals) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
        """Return the teacher's logits by the student's names, and its outputs as they are, in a row.

        Args:
            x: the inputs of a batch, the teacher's among them.
            student: what the student said of it.

        Raises:
            ValueError: if the teacher cannot be asked, and was given to be.
        """
        if self._teaching.teacher is None or self.refusal is not None:
            return {}, []
        try:
            self._teaching.teacher.build(x)
            logits, raw = self._ask(x)
            shared = self._shared(logits, student)
        except Exception as error:  # models, `preprocess` and functions of the user raise all kinds of errors
            self.refusal = _one_line(error)
            if self._teaching.given:
                raise ValueError(
                    "`export_student`: `teacher` must take the inputs of `evaluation_data`, and have an output that "
                    f"the student has. Received: {self._teaching.teacher.name!r}: {self.refusal}"
                ) from error
            return {}, []
        for name, array in shared.items():
            if not np.isfinite(array).all():
                raise ValueError(
                    f"`export_student`: the teacher must give numbers. Received: {self._teaching.teacher.name!r} gave "
                    f"NaN or infinity in {name!r}."
                )
        return shared, [np.asarray(tensor) for tensor in raw]

    def _shared(self, logits: dict[str, Any], student: Signals) -> dict[str, np.ndarray]:
        names = self._teaching.outputs
        if self._keyed and names is None:
            names = [name for name in student.outputs if name in logits] or None
        pairs = match_outputs(logits, self._keyed, student, names)
        shared = {name: np.asarray(said) for name, (said, learnt) in pairs.items() if said.shape == learnt.shape}
        if not shared:
            raise ValueError(
                f"the teacher's outputs {_shapes(logits)} are none of the student's, {_shapes(student.outputs)}."
            )
        return shared


def _shapes(outputs: dict[str, Any]) -> str:
    return ", ".join(f"{name} {tuple(value.shape)}" for name, value in outputs.items())


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
