"""What `export_student` is given, checked before anything is written."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd.export.examples import single_examples
from keras_kd.export.serving import input_specs
from keras_kd.export.tflite import INTEGERS
from keras_kd.quantization import FakeQuantize

CALIBRATION_EXAMPLES = 300


def student_of(student: Any) -> keras.Model:
    """Return the model to export: itself, or the finished student of a distiller.

    Raises:
        ValueError: if it is neither.
    """
    inner = getattr(student, "finished_student", getattr(student, "student", None))
    student = inner if isinstance(inner, keras.Model) else student
    if not isinstance(student, keras.Model):
        raise ValueError(
            "`export_student`: `student` must be a built `keras.Model`, or an object whose `student` is one. "
            f"Received: {student!r}."
        )
    return student


def parameters_of(student: keras.Model) -> int:
    """Return the number of a student's weights, without the ranges that `fake_quantize` has it learn."""
    ranges = [layer for layer in student._flatten_layers() if isinstance(layer, FakeQuantize)]
    return student.count_params() - sum(layer.count_params() for layer in ranges)


def objectives_of(student: Any) -> list[str]:
    """Return the names of the objectives of a distiller; none of a model."""
    return list(getattr(student, "objective_names", []))


def choices(argument: str, value: str | Sequence[str], allowed: Sequence[str]) -> list[str]:
    """Return one or several choices as a list, each once.

    Raises:
        ValueError: if there is none, or one that is not allowed.
    """
    chosen = [value] if isinstance(value, str) else list(dict.fromkeys(value))
    if not chosen or not set(chosen) <= set(allowed):
        raise ValueError(
            f"`export_student`: `{argument}` must be one or more of {', '.join(map(repr, allowed))}. "
            f"Received: {argument}={value!r}."
        )
    return chosen


def check_settings(batch_size: Any, quantized_io: bool, quantize: Sequence[str]) -> None:
    """Check what concerns the TFLite files alone.

    Raises:
        ValueError: if the batch is no number of examples, or no file has integers to take and give.
    """
    whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
    if batch_size is not None and not (whole and batch_size > 0):
        raise ValueError(
            "`export_student`: `batch_size` must be a number of examples, 1 or more, or None for any. Received: "
            f"batch_size={batch_size!r}."
        )
    if quantized_io and not set(quantize) & set(INTEGERS):
        raise ValueError(
            "`export_student`: `quantize` must name 'int8' or 'int16x8' for quantized_io=True. Received: "
            f"quantize={list(quantize)!r}."
        )


def refuse_quantized(student: keras.Model) -> None:
    """Check that TFLite can read the student's weights.

    Raises:
        ValueError: if Keras has quantized them.
    """
    quantized = [layer.name for layer in student._flatten_layers() if getattr(layer, "quantization_mode", None)]
    if quantized:
        raise ValueError(
            "`export_student`: `student` must have float weights for TFLite. Export the model from before "
            f"`model.quantize(...)`, with `quantize='int8'` here. Received: quantized layers {quantized}."
        )


def check_learnt_ranges(student: keras.Model, quantize: Sequence[str]) -> None:
    """Check that a student of `fake_quantize` leaves as what it has learnt to be.

    Raises:
        ValueError: if it is to be anything but int8, or has not been trained.
    """
    rounding = [layer for layer in student._flatten_layers() if isinstance(layer, FakeQuantize)]
    others = [form for form in quantize if form != "int8"]
    if rounding and others:
        raise ValueError(
            "`export_student`: `quantize` must be 'int8' for a student of `fake_quantize`, which computes as that file "
            f"does; the other forms are those of the float student. Received: quantize={others[0]!r}."
        )
    unknown = [layer.name for layer in rounding if layer.range is None]
    if unknown:
        raise ValueError(
            "`export_student`: `student` must have learnt the ranges of its activations. Train it for an epoch, with "
            f"`Distiller`, say. Received: {student.name!r}, without a range in {', '.join(unknown[:3])}."
        )


def calibration_of(data: Any, specs: Sequence[tf.TensorSpec], quantize: Sequence[str]) -> list[dict[str, np.ndarray]]:
    """Return the examples that the forms of integers are calibrated with; none where there is no such form.

    Raises:
        ValueError: if there are none for a form that needs them, or some that are not finite.
    """
    needing = [form for form in quantize if form in INTEGERS]
    if not needing:
        return []
    examples = [] if data is None else single_examples(data, specs, CALIBRATION_EXAMPLES)
    # NaN or infinity ends the process in the calibrator (tensorflow #120295, TF 2.21).
    finite = all(np.isfinite(array).all() for example in examples for array in example.values())
    if not examples or not finite:
        raise ValueError(
            "`export_student`: `representative_data` must hold finite examples when `quantize` names "
            f"{needing[0]!r}, a few hundred training inputs, say. Received: {_described(data, finite)}."
        )
    return examples


def class_counts(student: keras.Model) -> list[int]:
    """Return the number of classes of every output that has two or more."""
    outputs = getattr(student, "outputs", None)
    if not outputs:
        symbolic = keras.tree.map_structure(
            lambda spec: keras.KerasTensor(tuple(spec.shape), spec.dtype.name), input_specs(student)
        )
        outputs = keras.tree.flatten(student.compute_output_spec(symbolic))
    return [output.shape[-1] for output in outputs if len(output.shape) > 1 and (output.shape[-1] or 0) > 1]


def _described(data: Any, finite: bool) -> str:
    if data is None:
        return "representative_data=None"
    return "no examples" if finite else "NaN or infinity among the first examples"
