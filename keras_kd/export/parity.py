"""What student and teacher say of a whole evaluation set, and how far a TFLite file is from them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.export.examples import batches, named_inputs
from keras_kd.export.serving import Serving
from keras_kd.export.teaching import Asking, Teaching
from keras_kd.signals import Signals


@dataclass
class Tally:
    """Counts of one file beside Keras, added up batch by batch.

    Attributes:
        examples: number of examples seen.
        agreeing: examples where every output with two classes or more names the class that Keras names, at every
            position; `None` if there is no such output.
        correct: labels met, or `None` once a batch brings none to compare with.
        labels: number of labels.
        taught: number of examples that a teacher spoke of.
        as_taught: those of them where every output that the two share names the class that the teacher names, at every
            position; `None` if there is no such output.
        differences: largest absolute difference from Keras, by output name.
        ranges: smallest and largest finite output of Keras, by output name.
    """

    examples: int = 0
    agreeing: int | None = None
    correct: int | None = 0
    labels: int = 0
    taught: int = 0
    as_taught: int | None = None
    differences: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def agreement(self) -> float | None:
        return None if self.agreeing is None else self.agreeing / self.examples

    @property
    def teacher_agreement(self) -> float | None:
        return None if self.as_taught is None else self.as_taught / self.taught

    @property
    def accuracy(self) -> float | None:
        return self.correct / self.labels if self.correct is not None and self.labels else None

    def tolerance(self, name: str) -> float:
        """Return the difference that float32 rounding may make in an output.

        A thousandth of the output's range over the evaluation set, plus a ten-thousandth of its largest magnitude:
        float32 rounding stays 10 to 1000 times below, other weights or a dropped layer move outputs by tenths of the
        range.

        Args:
            name: output name.

        Returns:
            Largest acceptable absolute difference.
        """
        low, high = self.ranges[name]
        return 1e-3 * (high - low) + 1e-4 * max(abs(low), abs(high))

    def figures(self) -> dict[str, Any]:
        """Return the counts as the fields of an `ExportedFile`."""
        return {
            "examples": self.examples,
            "agreement": self.agreement,
            "max_abs_difference": max(self.differences.values()),
            "accuracy": self.accuracy,
            "teacher_agreement": self.teacher_agreement,
        }

    def add(
        self,
        reference: dict[str, np.ndarray],
        outputs: dict[str, np.ndarray],
        labels: Any,
        teacher: dict[str, np.ndarray] | None = None,
    ) -> None:
        """Count one batch.

        Args:
            reference: Keras's outputs by name, shape `(batch, ...)`.
            outputs: the file's outputs by name, of the same shapes.
            labels: sparse or one-hot labels, or anything else, which is not compared.
            teacher: what the teacher said of some of the outputs. Defaults to nothing.
        """
        for name, expected in reference.items():
            self._add_difference(name, expected.astype(np.float64), outputs[name].astype(np.float64))
        count = len(next(iter(reference.values())))
        self.examples += count
        if (agreeing := _agreeing(reference, outputs)) is not None:
            self.agreeing = (self.agreeing or 0) + agreeing
        if teacher and (agreeing := _agreeing(teacher, outputs)) is not None:
            self.as_taught = (self.as_taught or 0) + agreeing
            self.taught += count
        output = next(iter(outputs.values()))
        classes = class_labels(labels, output.shape) if len(outputs) == 1 else None
        if classes is None or self.correct is None:
            self.correct = None
        else:
            self.correct += int((output.argmax(-1) == classes).sum())
            self.labels += classes.size

    def _add_difference(self, name: str, expected: np.ndarray, output: np.ndarray) -> None:
        equal = (expected == output) | (np.isnan(expected) & np.isnan(output))
        with np.errstate(invalid="ignore"):
            difference = np.where(equal, 0.0, np.abs(expected - output))
        # NaN or infinity on one side only.
        difference = np.nan_to_num(difference, nan=np.inf, posinf=np.inf)
        self.differences[name] = max(self.differences.get(name, 0.0), float(difference.max(initial=0.0)))
        finite = expected[np.isfinite(expected)]
        low, high = self.ranges.get(name, (np.inf, -np.inf))
        self.ranges[name] = (float(finite.min(initial=low)), float(finite.max(initial=high)))


@dataclass(frozen=True)
class Answers:
    """What was said of one batch.

    Attributes:
        x: the inputs, the teacher's among them, as the teacher takes them.
        labels: as they came; `None` without.
        inputs: the student's part of the inputs, by name.
        student: Keras's outputs by name.
        teacher: the teacher's logits, for those of the student's outputs that it shares.
        teacher_outputs: the teacher's outputs as they are, in a row; none of several teachers.
    """

    x: Any
    labels: Any
    inputs: dict[str, np.ndarray]
    student: dict[str, np.ndarray]
    teacher: dict[str, np.ndarray]
    teacher_outputs: list[np.ndarray]


def answers(student: keras.Model, serving: Serving, teaching: Teaching, asking: Asking, data: Any) -> Iterator[Answers]:
    """Ask student and teacher about all of the data.

    Args:
        student: the Keras model, which computes in float32.
        serving: names and structure of its inputs and outputs.
        teaching: who taught it, and what it sees of the inputs.
        asking: asks the teacher.
        data: as `batches` takes it.

    Yields:
        What both said, batch by batch.

    Raises:
        ValueError: if the data holds no example, or not the inputs.
    """
    predict = tf.function(lambda x: student(x, training=False), autograph=False, reduce_retracing=True)
    specs = keras.tree.flatten(serving.inputs)
    names, keyed = serving.output_names, isinstance(serving.outputs, dict)
    empty = True
    with _exact_float32():
        for x, y in batches(data):
            empty = False
            named = named_inputs(teaching.student_part(x), specs)
            flat = keras.tree.flatten(predict(keras.tree.pack_sequence_as(serving.inputs, list(named.values()))))
            said = dict(zip(names, map(np.asarray, flat), strict=True))
            taught = x if teaching.teacher is None else teaching.teacher_part(x)
            yield Answers(taught, y, named, said, *asking(taught, Signals(serving.outputs, said, keyed)))
    if empty:
        raise ValueError("`export_student`: `evaluation_data` must hold at least one example. Received: none.")


def _agreeing(reference: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> int | None:
    """Examples where both name the same class in every output of two classes or more; `None` without such output."""
    agreeing = None
    for name, expected in reference.items():
        if expected.ndim > 1 and expected.shape[-1] > 1:
            same = expected.argmax(-1) == outputs[name].argmax(-1)
            same = same.reshape(len(same), -1).all(-1)
            agreeing = same if agreeing is None else agreeing & same
    return None if agreeing is None else int(agreeing.sum())


def class_labels(labels: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return labels as class numbers of shape `shape[:-1]`, or `None` if they are neither sparse nor one-hot."""
    if not isinstance(labels, np.ndarray) or len(shape) < 2 or shape[-1] < 2:
        return None
    if labels.shape == shape and np.isin(labels, (0, 1)).all() and (labels.sum(-1) == 1).all():
        return labels.argmax(-1)
    if labels.shape in (shape[:-1], (*shape[:-1], 1)):
        return labels.reshape(shape[:-1])
    return None


@contextmanager
def _exact_float32() -> Iterator[None]:
    # On GPUs TensorFlow rounds float32 products to TensorFloat-32, ten bits; LiteRT does not.
    enabled = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(enabled)
