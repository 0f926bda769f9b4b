"""`keras-kd distill`: a teacher, or a cache of one, and a data set make a student file for the phone."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_kd import plots, preparation
from keras_kd.cli.lessons import Lessons, lessons_of, optimizer_for
from keras_kd.cli.models import load_model
from keras_kd.cli.runs import (
    CHECKPOINT,
    RECORD,
    add_run_options,
    begin,
    callbacks_of,
    run_folder,
    save_model,
    save_picture,
    write_record,
)
from keras_kd.distiller import Distiller
from keras_kd.export import export_student

ASKED = ("student", "epochs", "alpha", "batch_size", "seed", "mode")


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "distill",
        help="distil a .keras teacher, or a cache, into a .keras student and export it",
        description="Distils a teacher into a student on a data set, and exports the student as .keras, SavedModel "
        "and TFLite with a report. Adam, learning rate 1e-3 with cosine decay; loss from logits.",
    )
    add_options(parser)
    parser.set_defaults(run=run, mode=None)  # of the modes of `keras-kd adversarial`, whose runs it must not resume


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds what `distil` reads."""
    taught = parser.add_mutually_exclusive_group(required=True)
    taught.add_argument("--teacher", metavar="T.keras", help="the trained teacher")
    taught.add_argument("--cache", metavar="DIR", help="what `keras-kd cache` kept of one, with its data set")
    parser.add_argument("--student", required=True, metavar="S.keras", help="the student, which must give logits")
    parser.add_argument("--dataset", metavar="NAME", help="a TFDS set, or a folder of images by class")
    parser.add_argument(
        "--temperature", type=float, metavar="T", help="softens the teacher (default 4, or the cache's)"
    )
    add_run_options(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    return distil(options, Distiller)


def distil(
    options: argparse.Namespace,
    make: Callable[..., Distiller],
    asked: Sequence[str] = (),
    **compile_with: Any,
) -> int:
    """Distils and exports as `keras-kd distill` does.

    Args:
        options: Those of `add_options`, the subcommand's name and its mode.
        make: What makes the distiller of the arguments that `Distiller` takes.
        asked: Names of more options that are on record. Defaults to none.
        **compile_with: More arguments of the distiller's `compile`.

    Returns:
        The exit code.

    Raises:
        ValueError: If what the options name does not fit together; the folder is then as it was.
    """
    with run_folder(options) as out:
        return _run(out, options, make, asked, **compile_with)


def _run(
    out: Path, options: argparse.Namespace, make: Callable[..., Distiller], asked: Sequence[str], **compile_with: Any
) -> int:
    student = load_model(options.student, "student")
    keras.utils.set_random_seed(options.seed)
    lessons = lessons_of(options, student)
    distiller = _distiller(lessons, student, options, make)
    _compile(distiller, lessons, options, **compile_with)
    preparation.prepare(distiller, lessons.train, None)  # `fit` does, but what it refuses should leave no folder behind
    settings = _settings(options, lessons, asked)
    begin(out, settings, options.resume)
    callbacks, done = callbacks_of(out / CHECKPOINT, out / "history.csv")
    try:
        distiller.fit(
            # One endless stream, so that a resumed run goes on with the batch and the view at which it stopped.
            lessons.train.repeat().skip(done * lessons.steps),
            steps_per_epoch=lessons.steps,
            shuffle=False,  # the pipeline does; Keras 3.15 warns if it is left to think that it should
            epochs=options.epochs,
            validation_data=lessons.validation,
            callbacks=callbacks,
        )
    except KeyboardInterrupt:
        save_model(student, out / "student.keras")
        print(
            f"\nkeras-kd {options.command}: interrupted. The student so far is {out / 'student.keras'}; the same "
            "command with --resume goes on after the last whole epoch.",
            file=sys.stderr,
        )
        return 130
    except tf.errors.InvalidArgumentError as error:
        raise _complaint(error) from error
    return _finish(out, distiller, lessons, settings)


def _settings(options: argparse.Namespace, lessons: Lessons, asked: Sequence[str]) -> dict[str, Any]:
    own = {name: getattr(options, name) for name in (*ASKED, *asked)}
    return {**lessons.settings, **own, "temperature": lessons.temperature}


def _distiller(
    lessons: Lessons, student: keras.Model, options: argparse.Namespace, make: Callable[..., Distiller]
) -> Distiller:
    return make(
        student,
        lessons.teacher,
        alpha=options.alpha,
        temperature=lessons.temperature,
        student_inputs=lessons.student_inputs,
    )


def _compile(distiller: Distiller, lessons: Lessons, options: argparse.Namespace, **more: Any) -> None:
    losses = keras.losses
    loss = losses.CategoricalCrossentropy if lessons.soft_labels else losses.SparseCategoricalCrossentropy
    optimizer = optimizer_for(options.epochs * lessons.steps)
    distiller.compile(optimizer, loss=loss(from_logits=True), metrics=list(lessons.metrics), **more)


def _complaint(error: tf.errors.InvalidArgumentError) -> Exception:
    """What a cache says of examples that are not its own, out of the pages that TensorFlow puts around it."""
    told = re.search(r"`open_cache`: [^\]]+", str(error))
    return ValueError(told[0]) if told else error


def _finish(out: Path, distiller: Distiller, lessons: Lessons, settings: dict) -> int:
    save_model(distiller.student, out / "student.keras")
    report = export_student(distiller, out, evaluation_data=lessons.test, labels=lessons.class_names)
    line, figures = lessons.report(report)
    history = plots.read_history(out / "history.csv")
    save_picture(plots.learning_curves({"student": history}), out / "curves.png")
    print(report)
    if line:
        print(line)
    write_record(out, {**settings, **figures})
    print(
        f"Written to {out}: student.keras, saved_model/, student.tflite, labels.txt, report.json, evaluation.json, "
        f"{RECORD}, history.csv, curves.png"
    )
    return 0
