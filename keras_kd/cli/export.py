"""`keras-kd export`: a finished student makes files for the phone, held against a data set and its teacher."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_kd import data
from keras_kd.cli.models import load_model, load_teacher, teacher_of
from keras_kd.cli.runs import writing_to
from keras_kd.cli.sources import checked_shape, probe_of, scale_for
from keras_kd.export import export_student
from keras_kd.export.arguments import CALIBRATION_EXAMPLES
from keras_kd.export.serving import input_specs
from keras_kd.export.tflite import INTEGERS
from keras_kd.quantization import is_fake_quantized
from keras_kd.teachers import Teacher

WRITTEN = ("saved_model", "student*.tflite", "labels.txt", "report.json", "evaluation.json")


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "export",
        help="make SavedModel and TFLite files of a .keras student",
        description="Writes a student as SavedModel and TFLite files with a report. With a data set its files are "
        "calibrated on the training part and measured on the test part, beside the teacher if there is one.",
    )
    parser.add_argument("--student", required=True, metavar="S.keras", help="the student")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the files")
    parser.add_argument("--teacher", metavar="T", help="its teacher: a .keras or .tflite file, or a SavedModel folder")
    parser.add_argument("--dataset", metavar="NAME", help="a TFDS set, or a folder of images by class")
    parser.add_argument("--formats", default="saved_model,tflite", metavar="F,F", help="default: saved_model,tflite")
    parser.add_argument(
        "--quantize",
        default="float32",
        metavar="Q,Q",
        help="forms of the TFLite file: float32, float16, dynamic, int8, int16x8 (default: float32)",
    )
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line (default: the data set's)")
    parser.add_argument("--softmax", action="store_true", help="the files give probabilities")
    parser.add_argument("--batch-size", type=int, metavar="N", help="fix the batch of the TFLite files (default: any)")
    parser.add_argument("--quantized-io", action="store_true", help="int8 and int16x8 files take and give integers")
    parser.add_argument("--allow-flex", action="store_true", help="TensorFlow's operators, where LiteRT's do not do")
    parser.add_argument("--licence", metavar="TEXT", help="what the files say of their licence")
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names in DIR")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    out = Path(options.out)
    with writing_to(out):
        _check_folder(options, out)
        return _run(out, options)


def _run(out: Path, options: argparse.Namespace) -> int:
    quantize = _listed(options.quantize)
    labels = _read_labels(options.labels) if options.labels else None
    student = load_model(options.student, "student")
    _check_examples(options, student, quantize)
    examples = _examples_of(options, student) if options.dataset else _Examples()
    try:
        report = export_student(
            student,
            out,
            formats=_listed(options.formats),
            quantize=quantize,
            representative_data=examples.calibration,
            evaluation_data=examples.test,
            teacher=examples.teacher,
            labels=examples.class_names if labels is None else labels,
            metadata={
                name: said for name, said in (("data", examples.name), ("licence", options.licence)) if said is not None
            },
            batch_size=options.batch_size,
            softmax=options.softmax,
            quantized_io=options.quantized_io,
            allow_flex=options.allow_flex,
        )
    except RuntimeError as error:  # a file that does not equal the student
        raise ValueError(str(error)) from error
    print(report)
    if not options.dataset:
        print("Not measured: pass --dataset, and the files are held against the student on its test part.")
    beside = [name for name in ("labels.txt", "report.json", "evaluation.json") if (out / name).is_file()]
    print(f"Written to {out}: {', '.join([*(file.path.name for file in report.files), *beside])}")
    return 0


def _read_labels(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"--labels must be a text file in UTF-8, one name a line. Received: {path} ({error}). Save it as such."
        ) from error


@dataclass(frozen=True)
class _Examples:
    """What a data set has for an export: batches to calibrate with and to measure on, names, and who taught on it."""

    calibration: tf.data.Dataset | None = None
    test: tf.data.Dataset | None = None
    class_names: tuple[str, ...] | None = None
    name: str | None = None
    teacher: Teacher | None = None


def _examples_of(options: argparse.Namespace, student: keras.Model) -> _Examples:
    model = load_teacher(options.teacher) if options.teacher else None
    source = data.load(options.dataset)
    shape = checked_shape(student, "student", source)
    if model is None:
        scale, for_teacher, teacher = scale_for(student, shape, source, role="student"), None, None
    else:
        teacher_shape = checked_shape(model, "teacher", source)
        scale = scale_for(model, teacher_shape, source)
        for_teacher = data.input_transform(source, teacher_shape, scale=scale)
    for_student = data.input_transform(source, shape, scale=scale)
    name = keras.tree.flatten(input_specs(student))[0].name
    if model is not None:
        teacher = teacher_of(model, probe=probe_of(source, teacher_shape), inputs=[f"{name}_of_teacher"])

    def for_both(x: tf.Tensor) -> Any:
        return {name: for_student(x)} | ({f"{name}_of_teacher": for_teacher(x)} if for_teacher else {})

    # From all over the set, which may be in the order of the classes.
    step = max(1, len(source.train) // CALIBRATION_EXAMPLES)
    return _Examples(
        calibration=data.pipeline(source.train.shard(step, 0), transform=for_student),
        test=data.pipeline(source.test, transform=for_both),
        class_names=source.class_names,
        name=source.name,
        teacher=teacher,
    )


def _check_folder(options: argparse.Namespace, out: Path) -> None:
    found = sorted(path.name for pattern in WRITTEN for path in out.glob(pattern))
    if found and not options.overwrite:
        raise ValueError(f"{out} has {', '.join(found)}. Choose another folder, or pass --overwrite.")


def _check_examples(options: argparse.Namespace, student: keras.Model, quantize: list[str]) -> None:
    if options.dataset:
        return
    if options.teacher:
        raise ValueError("--teacher needs --dataset, the examples to ask it about.")
    integers = [form for form in quantize if form in INTEGERS]
    if integers and not is_fake_quantized(student):
        raise ValueError(f"--quantize {integers[0]} needs --dataset, whose training part it is calibrated with.")


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]
