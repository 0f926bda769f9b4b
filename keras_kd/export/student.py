"""From a finished student to the files that leave the house: validated, converted, proven, then put in place."""

import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_kd.export.arguments import (
    calibration_of,
    check_learnt_ranges,
    check_settings,
    choices,
    class_counts,
    objectives_of,
    parameters_of,
    refuse_quantized,
    student_of,
)
from keras_kd.export.examples import batched
from keras_kd.export.fusing import fuse
from keras_kd.export.measuring import Measurements, measure, teacher_of
from keras_kd.export.metadata import (
    LABELS,
    attach,
    checked_labels,
    checked_metadata,
    common_block,
    described,
    label_lines,
)
from keras_kd.export.placing import full_disk_told, put_in_place, staging_in
from keras_kd.export.report import ExportedFile, ExportReport
from keras_kd.export.runtime import LiteRTModel
from keras_kd.export.serving import float32_compute, input_specs
from keras_kd.export.teaching import teaching_of
from keras_kd.export.tflite import QUANTIZATIONS, Conversion, convert
from keras_kd.export.timing import cores
from keras_kd.export.tolerances import checked_tolerances
from keras_kd.litert import LiteRTFile
from keras_kd.quantization import is_fake_quantized

FORMATS = ("saved_model", "tflite")
REPORT, EVALUATION = "report.json", "evaluation.json"


def export_student(
    student: keras.Model,
    directory: str | PathLike,
    *,
    formats: str | Sequence[str] = FORMATS,
    quantize: str | Sequence[str] = ("float32",),
    representative_data: Any = None,
    evaluation_data: Any = None,
    teacher: Any = None,
    tolerances: Mapping[str, float] | None = None,
    labels: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    preprocess: Callable[[Any], Any] | None = None,
    softmax: bool = False,
    quantized_io: bool = False,
    allow_flex: bool = False,
) -> ExportReport:
    """Write a finished student as SavedModel and TFLite files, and prove that the files equal it.

    Writes `saved_model/`, `student.tflite` (float32), `student_float16.tflite`, `student_dynamic.tflite`,
    `student_int8.tflite`, `student_int16x8.tflite`, `labels.txt` where there are labels, `report.json`, and, of a
    student with one output of class scores, `evaluation.json` (calibration, accuracy by class, and where student and
    teacher differ most). Everything is made and checked in a temporary folder inside `directory` and moved into place
    at the end, `report.json` last, so an export that fails or is killed leaves no file that is not whole.

    TFLite files use built-in operators only, take any batch (unless the student converts only with the batch that its
    `keras.Input`s fix) and have one signature, with the names of the Keras inputs and outputs. They compute in float32,
    also for a student under a mixed policy, which is then compared in float32. Each says what it is in a zip archive
    behind the model, which `kd.export.read_metadata` and any reader of zip archives open: `metadata.json`, with the
    student, its teacher and objectives, the form, inputs and outputs, versions, accuracy and whatever `metadata` adds,
    and `labels.txt`.

    With `evaluation_data`, LiteRT runs every file over all of it. The export fails if an output is NaN or infinite
    where Keras's is finite, or if an output of the float32 file is further from Keras's than a thousandth of that
    output's range over the evaluation data plus a ten-thousandth of its largest magnitude, or if a quantized file falls
    short of `tolerances`. Latencies and memory are measured in a process of its own for each file. The teacher is asked
    about the same examples, and its own float32 file, where it has one, is measured beside them and not kept.

    Args:
        student: a built model, or an object whose `student` is one (a `Distiller`). A subclassed model records no
            input types: its files take float32.
        directory: folder to write to, made if missing. Files of the same names are replaced.
        formats: "saved_model", "tflite" or both. Defaults to both.
        quantize: forms of the TFLite file: "float32", "float16" (weights), "dynamic" (int8 weights; the converter
            leaves those under 1,024 elements in float), "int8" (integers inside, weights per channel), "int16x8" (the
            same with activations of 16 bits, for which TFLite has fewer operators). Defaults to "float32".
        representative_data: inputs that calibrate "int8" and "int16x8": arrays as `student.predict` takes them,
            `(x, y)`, or a `tf.data.Dataset` of these, batched or not, endless or not. The first 300 examples are used.
            A student of `quantization.fake_quantize` has learnt its ranges, and needs none.
        evaluation_data: `x`, `(x, y)` or `(x, y, sample_weight)` of arrays, or a `tf.data.Dataset` of these, batched or
            not. Labels may be sparse or one-hot; sample weights are not used. The data of a `Distiller` may be those
            that it was trained on, with the teacher's inputs beside the student's. Defaults to `None`: files are run
            once by LiteRT, not measured.
        teacher: who the files are compared with beside Keras: a model, `Teacher`, list of models, or whatever else
            `Distiller` takes. Defaults to `None`: that of a `Distiller`, if it has one.
        tolerances: the least share of examples on which a file must name the class that Keras names, by form, as in
            `{"int8": 0.99}`. Where no output has classes, one minus that is the greatest difference from Keras, as a
            share of the output's range. 0 only measures. Defaults to 0.95 for "float16", 0.8 for the other quantized
            forms.
        labels: names of the classes, in order. Defaults to `None`.
        metadata: more entries for `metadata.json`, such as the data and the licence; they replace those of the same
            name. Defaults to `None`.
        batch_size: the batch that the TFLite files are fixed to, in examples; LiteRT.js 2.5 wants one. Defaults to
            `None`: any.
        preprocess: a Keras layer, a model or a function of `keras.ops` from raw inputs to what the student takes, which
            becomes a part of every file. The data given here are raw then, also for a teacher that takes what the
            student takes (one that picks or prepares its inputs gets them raw). A built model brings its own inputs
            (`keras.Input((224, 224, 3), dtype="uint8")`); the others take inputs of the student's shapes and types.
            Defaults to `None`.
        softmax: whether outputs of two or more classes become probabilities. Defaults to `False`.
        quantized_io: whether "int8" and "int16x8" files take and give integers where the others have real numbers;
            their scales and zero points are in the metadata. Defaults to `False`: float32 in and out.
        allow_flex: whether a student that needs them may have TensorFlow's own operators, in forms of floating point.
            LiteRT does not run such a file without its Flex delegate, which is not in Python: it is not measured, and
            the report says so. Defaults to `False`.

    Returns:
        The `ExportReport`. Latencies are this host's, with one thread and with one for each core.

    Raises:
        ValueError: if an argument is not as above, the student cannot be converted with the operators allowed, or
            another process writes to `directory`.
        OSError: if `directory` cannot be written to, or the disk is full. What was there is kept.
        RuntimeError: if a file does not equal the student, as defined above, or cannot be timed.

    Example:

    >>> import keras, numpy as np, tempfile
    >>> student = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = export_student(student, folder, formats="tflite", evaluation_data=np.eye(3))
    >>> report.parameters, report.files[0].path.name, report.files[0].agreement
    (8, 'student.tflite', 1.0)
    """
    owner, student = student, student_of(student)
    teaching = teaching_of(owner, teacher, preprocess)
    formats = choices("formats", formats, FORMATS)
    quantize = choices("quantize", quantize, QUANTIZATIONS)
    given = checked_metadata(metadata)
    check_settings(batch_size, quantized_io, quantize)
    least = checked_tolerances(tolerances)
    if "tflite" in formats:
        refuse_quantized(student)
        check_learnt_ranges(student, quantize)
    fused = fuse(student, preprocess, softmax)
    specs = keras.tree.flatten(input_specs(fused))
    parameters, student = parameters_of(student), fused
    labels = labels if labels is None else checked_labels(labels, class_counts(student))
    evaluation_data = batched(evaluation_data, specs, "evaluation_data", whole=True, student_part=teaching.student_part)
    calibration = []
    if "tflite" in formats:
        if representative_data is not None:
            representative_data = teaching.student_data(representative_data)
        representative_data = batched(representative_data, specs, "representative_data", whole=False)
        needing = [] if is_fake_quantized(student) else quantize
        calibration = calibration_of(representative_data, specs, needing)

    directory = Path(directory)
    with staging_in(directory, "`export_student`") as staging:
        found, files = Measurements(teacher=teacher_of(teaching)), []
        if "saved_model" in formats:
            files.append(_write_saved_model(student, staging / "saved_model"))
        if "tflite" in formats:
            with float32_compute(student):
                conversion = convert(
                    student,
                    quantize,
                    calibration,
                    batch_size=batch_size,
                    quantized_io=quantized_io,
                    allow_flex=allow_flex,
                )
                written = {form: _write_tflite(staging, form, conversion) for form in conversion.files}
                if evaluation_data is not None:
                    found = measure(
                        student,
                        conversion.serving,
                        {form: file for form, file in written.items() if not file.flex},
                        evaluation_data,
                        teaching=teaching,
                        tolerances=least,
                        labels=labels,
                        folder=staging,
                    )
                    written |= found.files
        block = common_block(
            student, parameters, found.teacher and found.teacher.name, objectives_of(owner), found.accuracy
        ) | {"preprocess": preprocess is not None, "softmax": softmax}
        if "tflite" in formats:
            files += [_finish(file, conversion.files[form], block, given, labels) for form, file in written.items()]
        names = [file.path.name for file in files]
        if labels is not None:
            (staging / LABELS).write_text(label_lines(labels), encoding="utf-8")
            names.append(LABELS)
        files = tuple(replace(file, path=directory / file.path.name) for file in files)
        report = ExportReport(
            student.name,
            parameters,
            found.accuracy,
            files,
            {**block, **given},
            found.teacher_agreement,
            found.teacher,
            cores(),
        )
        _write_json(staging / REPORT, report.to_dict())
        if found.evaluation is not None:
            _write_json(staging / EVALUATION, found.evaluation)
            names.append(EVALUATION)
        put_in_place(staging, directory, [*names, REPORT])  # which says what the others are
        if found.evaluation is None:
            # That of an older student would speak of this one.
            (directory / EVALUATION).unlink(missing_ok=True)
    return report


def _write_saved_model(student: keras.Model, path: Path) -> ExportedFile:
    with full_disk_told(path):
        student.export(path, verbose=False, input_signature=[input_specs(student)])
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return ExportedFile(path, "saved_model", None, size)


def _write_tflite(folder: Path, form: str, conversion: Conversion) -> ExportedFile:
    path = folder / ("student.tflite" if form == "float32" else f"student_{form}.tflite")
    content = conversion.files[form]
    path.write_bytes(content)
    batch_size = LiteRTModel(path).batch_size
    return ExportedFile(path, "tflite", form, len(content), batch_size=batch_size, flex=form in conversion.flex)


def _finish(
    file: ExportedFile, content: bytes, block: dict[str, Any], given: dict[str, Any], labels: Sequence[str] | None
) -> ExportedFile:
    """Write what is said of a file, its accuracy too, behind the model that was measured."""
    litert = LiteRTFile(file.path, "`export_student`: `student`")
    of_file = {
        "quantize": file.quantize,
        "flex": file.flex,
        "accuracy": file.accuracy,
        "inputs": [described(name, details) for name, details in litert.input_details.items()],
        "outputs": [described(name, details) for name, details in litert.output_details.items()],
    }
    content = attach(content, {**block, **of_file, **given}, labels)
    file.path.write_bytes(content)
    packed = gzip.compress(content, compresslevel=9, mtime=0)
    checksum = hashlib.sha256(content).hexdigest()
    return replace(file, size_bytes=len(content), gzip_bytes=len(packed), sha256=checksum)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
