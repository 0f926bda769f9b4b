"""From a finished student to the files that leave the house: validated, converted, proven, then put in place."""

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_kd.export.examples import single_examples
from keras_kd.export.measuring import measure
from keras_kd.export.report import ExportedFile, ExportReport
from keras_kd.export.runtime import LiteRTModel
from keras_kd.export.serving import float32_compute, input_specs
from keras_kd.export.tflite import QUANTIZATIONS, convert

FORMATS = ("saved_model", "tflite")
CALIBRATION_EXAMPLES = 300


def export_student(
    student: keras.Model,
    directory: str | PathLike,
    *,
    formats: str | Sequence[str] = FORMATS,
    quantize: str | Sequence[str] = ("float32",),
    representative_data: Any = None,
    evaluation_data: Any = None,
) -> ExportReport:
    """Write a finished student as SavedModel and TFLite files, and prove that the files equal it.

    Writes `saved_model/`, `student.tflite` (float32), `student_float16.tflite`, `student_dynamic.tflite`,
    `student_int8.tflite` and `report.json`. Everything is made and checked in a temporary folder inside `directory` and
    moved into place at the end, so a failed export leaves no new file.

    TFLite files use built-in operators only, take any batch (unless the student converts only with the batch that its
    `keras.Input`s fix) and have one signature, with the names of the Keras inputs and outputs. They compute in float32,
    also for a student under a mixed policy, which is then compared in float32.

    With `evaluation_data`, LiteRT runs every file over all of it. The export fails if an output is NaN or infinite
    where Keras's is finite, or if an output of the float32 file is further from Keras's than a thousandth of that
    output's range over the evaluation data plus a ten-thousandth of its largest magnitude. Quantized files are
    measured, not judged.

    Args:
        student: a built model, or an object whose `student` is one (a `Distiller`). A subclassed model records no
            input types: its files take float32.
        directory: folder to write to, made if missing. Files of the same names are replaced.
        formats: "saved_model", "tflite" or both. Defaults to both.
        quantize: forms of the TFLite file: "float32", "float16" (weights), "dynamic" (int8 weights; the converter
            leaves those under 1,024 elements in float), "int8" (integers inside, float32 in and out). Defaults to
            "float32".
        representative_data: inputs that calibrate "int8": arrays as `student.predict` takes them, `(x, y)`, or a
            batched `tf.data.Dataset`. The first 300 examples are used.
        evaluation_data: `x`, `(x, y)` or `(x, y, sample_weight)` of arrays, or a batched `tf.data.Dataset` of these.
            Labels may be sparse or one-hot; sample weights are not used. Defaults to `None`: files are loaded by
            LiteRT, not measured.

    Returns:
        The `ExportReport`. Latencies are this host's, with one thread.

    Raises:
        ValueError: if an argument is not as above, or the student cannot be converted with built-in operators.
        RuntimeError: if a file does not equal the student, as defined above.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_student(student, folder, formats="tflite", evaluation_data=np.eye(3))
    >>> report.parameters, report.files[0].path.name, report.files[0].agreement
    (8, 'student.tflite', 1.0)
    """
    student = _student_model(student)
    formats = _choices("formats", formats, FORMATS)
    quantize = _choices("quantize", quantize, QUANTIZATIONS)
    specs = keras.tree.flatten(input_specs(student))
    calibration = []
    if "tflite" in formats:
        _refuse_quantized(student)
        if "int8" in quantize:
            if representative_data is not None:
                calibration = single_examples(representative_data, specs, CALIBRATION_EXAMPLES)
            # NaN or infinity ends the process in the calibrator (tensorflow #120295, TF 2.21).
            finite = all(np.isfinite(array).all() for example in calibration for array in example.values())
            if not calibration or not finite:
                raise ValueError(
                    "`export_student`: `representative_data` must hold finite examples when `quantize` names 'int8', a "
                    f"few hundred training inputs, say. Received: {_described(representative_data, finite)}."
                )

    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=directory) as staging:
        staging = Path(staging)
        keras_accuracy, files = None, []
        if "saved_model" in formats:
            files.append(_write_saved_model(student, staging / "saved_model"))
        if "tflite" in formats:
            with float32_compute(student):
                serving, contents = convert(student, quantize, calibration)
                written = {form: _write_tflite(staging, form, content) for form, content in contents.items()}
                if evaluation_data is not None:
                    keras_accuracy, written = measure(student, serving, written, evaluation_data)
            files += written.values()
        files = tuple(replace(file, path=directory / file.path.name) for file in files)
        report = ExportReport(student.name, student.count_params(), keras_accuracy, files)
        (staging / "report.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
        for name in [*(file.path.name for file in files), "report.json"]:
            _put_in_place(staging, directory, name)
    return report


def _student_model(student: Any) -> keras.Model:
    inner = getattr(student, "finished_student", getattr(student, "student", None))
    student = inner if isinstance(inner, keras.Model) else student
    if not isinstance(student, keras.Model):
        raise ValueError(
            "`export_student`: `student` must be a built `keras.Model`, or an object whose `student` is one. "
            f"Received: {student!r}."
        )
    return student


def _choices(argument: str, value: str | Sequence[str], allowed: Sequence[str]) -> list[str]:
    chosen = [value] if isinstance(value, str) else list(dict.fromkeys(value))
    if not chosen or not set(chosen) <= set(allowed):
        raise ValueError(
            f"`export_student`: `{argument}` must be one or more of {', '.join(map(repr, allowed))}. "
            f"Received: {argument}={value!r}."
        )
    return chosen


def _described(data: Any, finite: bool) -> str:
    if data is None:
        return "representative_data=None"
    return "no examples" if finite else "NaN or infinity among the first examples"


def _refuse_quantized(student: keras.Model) -> None:
    quantized = [layer.name for layer in student._flatten_layers() if getattr(layer, "quantization_mode", None)]
    if quantized:
        raise ValueError(
            "`export_student`: `student` must have float weights for TFLite. Export the model from before "
            f"`model.quantize(...)`, with `quantize='int8'` here. Received: quantized layers {quantized}."
        )


def _write_saved_model(student: keras.Model, path: Path) -> ExportedFile:
    student.export(path, verbose=False, input_signature=[input_specs(student)])
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return ExportedFile(path, "saved_model", None, size)


def _write_tflite(folder: Path, form: str, content: bytes) -> ExportedFile:
    path = folder / ("student.tflite" if form == "float32" else f"student_{form}.tflite")
    path.write_bytes(content)
    batch_size = LiteRTModel(path).batch_size
    return ExportedFile(
        path, "tflite", form, len(content), sha256=hashlib.sha256(content).hexdigest(), batch_size=batch_size
    )


def _put_in_place(staging: Path, directory: Path, name: str) -> None:
    target = directory / name
    if target.is_dir():
        # `os.replace` refuses a folder that is not empty.
        os.replace(target, staging / f"replaced_{name}")
    os.replace(staging / name, target)
