"""`keras-kd distill`: a teacher, or a cache of one, and a data set make a student file for the phone."""

import argparse
import re
import sys
from pathlib import Path

import keras
import tensorflow as tf

from keras_kd import plots
from keras_kd.cli.lessons import Lessons, lessons_of, optimizer_for
from keras_kd.cli.models import load_model
from keras_kd.cli.runs import (
    CHECKPOINT,
    RECORD,
    add_run_options,
    begin,
    check_folder,
    check_numbers,
    epochs_done,
    write_record,
)
from keras_kd.distiller import Distiller
from keras_kd.export import export_student


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "distill",
        help="distil a .keras teacher, or a cache, into a .keras student and export it",
        description="Distils a teacher into a student on a data set, and exports the student as .keras, SavedModel "
        "and TFLite with a report. Adam, learning rate 1e-3 with cosine decay; loss from logits.",
    )
    taught = parser.add_mutually_exclusive_group(required=True)
    taught.add_argument("--teacher", metavar="T.keras", help="the trained teacher")
    taught.add_argument("--cache", metavar="DIR", help="what `keras-kd cache` kept of one, with its data set")
    parser.add_argument("--student", required=True, metavar="S.keras", help="the student, which must give logits")
    parser.add_argument("--dataset", metavar="NAME", help="a TFDS set, or a folder of images by class")
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="softens the teacher (default 4, or the cache's)"
    )
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    out = Path(options.out)
    check_numbers(options)
    check_folder(out, options)
    student = load_model(options.student, "student")
    keras.utils.set_random_seed(options.seed)
    lessons = lessons_of(options, student)
    distiller = _distiller(lessons, student, options)
    settings = _settings(options, lessons)
    begin(out, settings, options.resume)
    done = epochs_done(out) if options.resume else 0
    try:
        distiller.fit(
            # One endless stream, so that a resumed run goes on with the batch and the view at which it stopped.
            lessons.train.repeat().skip(done * lessons.steps),
            steps_per_epoch=lessons.steps,
            shuffle=False,  # the pipeline does; Keras 3.15 warns if it is left to think that it should
            epochs=options.epochs,
            validation_data=lessons.validation,
            callbacks=[
                keras.callbacks.BackupAndRestore(out / CHECKPOINT, double_checkpoint=True, delete_checkpoint=False),
                keras.callbacks.CSVLogger(out / "history.csv", append=options.resume),
            ],
        )
    except KeyboardInterrupt:
        student.save(out / "student.keras")
        print(
            f"\nkeras-kd distill: interrupted. The student so far is {out / 'student.keras'}; the same command with "
            "--resume goes on after the last whole epoch.",
            file=sys.stderr,
        )
        return 130
    except tf.errors.InvalidArgumentError as error:
        raise _complaint(error) from error
    return _finish(out, student, lessons, settings)


def _settings(options: argparse.Namespace, lessons: Lessons) -> dict:
    names = ("student", "epochs", "alpha", "batch_size", "seed")
    own = {name: getattr(options, name) for name in names}
    return {**lessons.settings, **own, "temperature": lessons.temperature}


def _distiller(lessons: Lessons, student: keras.Model, options: argparse.Namespace) -> Distiller:
    distiller = Distiller(
        student,
        lessons.teacher,
        alpha=options.alpha,
        temperature=lessons.temperature,
        student_inputs=lessons.student_inputs,
    )
    losses = keras.losses
    loss = losses.CategoricalCrossentropy if lessons.soft_labels else losses.SparseCategoricalCrossentropy
    optimizer = optimizer_for(options.epochs * lessons.steps)
    distiller.compile(optimizer, loss(from_logits=True), metrics=list(lessons.metrics))
    return distiller


def _complaint(error: tf.errors.InvalidArgumentError) -> Exception:
    """What a cache says of examples that are not its own, out of the pages that TensorFlow puts around it."""
    told = re.search(r"`open_cache`: [^\]]+", str(error))
    return ValueError(told[0]) if told else error


def _finish(out: Path, student: keras.Model, lessons: Lessons, settings: dict) -> int:
    student.save(out / "student.keras")
    report = export_student(student, out, evaluation_data=lessons.test)
    line, figures = lessons.report()
    history = plots.read_history(out / "history.csv")
    plots.learning_curves({"student": history}).savefig(out / "curves.png", dpi=120)
    print(report)
    print(line)
    write_record(out, {**settings, **figures})
    print(
        f"Written to {out}: student.keras, saved_model/, student.tflite, report.json, {RECORD}, history.csv, curves.png"
    )
    return 0
