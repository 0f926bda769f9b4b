"""How far TFLite files are from the Keras student, over a whole evaluation set."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.export.examples import batches, named_inputs
from keras_kd.export.runtime import LiteRTModel
from keras_kd.export.serving import Serving


@dataclass
class Tally:
    """Counts of one file beside Keras, added up batch by batch.

    Attributes:
        examples: number of examples seen.
        agreeing: examples where every output with two classes or more names the class that Keras names, at every
            position; `None` if there is no such output.
        correct: labels met, or `None` once a batch brings none to compare with.
        labels: number of labels.
        differences: largest absolute difference from Keras, by output name.
        ranges: smallest and largest finite output of Keras, by output name.
    """

    examples: int = 0
    agreeing: int | None = None
    correct: int | None = 0
    labels: int = 0
    differences: dict[str, float] = field(default_factory=dict)
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def agreement(self) -> float | None:
        return None if self.agreeing is None else self.agreeing / self.examples

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

    def add(self, reference: dict[str, np.ndarray], outputs: dict[str, np.ndarray], labels: Any) -> None:
        """Count one batch.

        Args:
            reference: Keras's outputs by name, shape `(batch, ...)`.
            outputs: the file's outputs by name, of the same shapes.
            labels: sparse or one-hot labels, or anything else, which is not compared.
        """
        agreeing = None
        for name, expected in reference.items():
            self._add_difference(name, expected.astype(np.float64), outputs[name].astype(np.float64))
            if expected.ndim > 1 and expected.shape[-1] > 1:
                same = expected.argmax(-1) == outputs[name].argmax(-1)
                same = same.reshape(len(same), -1).all(-1)
                agreeing = same if agreeing is None else agreeing & same
        self.examples += len(next(iter(reference.values())))
        if agreeing is not None:
            self.agreeing = (self.agreeing or 0) + int(agreeing.sum())
        output = next(iter(outputs.values()))
        classes = _classes(labels, output.shape) if len(outputs) == 1 else None
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


def compare(
    student: keras.Model, serving: Serving, models: dict[str, LiteRTModel], data: Any
) -> tuple[Tally, dict[str, Tally]]:
    """Run the student and every file over all of the data.

    Args:
        student: the Keras model, which computes in float32.
        serving: names and structure of its inputs and outputs.
        models: the files by form.
        data: as `batches` takes it.

    Returns:
        The student's own tally (beside itself), and one per file.

    Raises:
        ValueError: if the data holds no example, or not the student's inputs.
    """
    predict = tf.function(lambda x: student(x, training=False), autograph=False, reduce_retracing=True)
    keras_tally, tallies = Tally(), {form: Tally() for form in models}
    specs = keras.tree.flatten(serving.inputs)
    with _exact_float32():
        for x, y in batches(data):
            named = named_inputs(x, specs)
            flat = keras.tree.flatten(predict(keras.tree.pack_sequence_as(serving.inputs, list(named.values()))))
            reference = dict(zip(serving.output_names, map(np.asarray, flat), strict=True))
            keras_tally.add(reference, reference, y)
            for form, model in models.items():
                tallies[form].add(reference, model.run(named), y)
    if not keras_tally.examples:
        raise ValueError("`export_student`: `evaluation_data` must hold at least one example. Received: none.")
    return keras_tally, tallies


def _classes(labels: Any, shape: tuple[int, ...]) -> np.ndarray | None:
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
