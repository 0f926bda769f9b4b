"""`keras-kd distill`: a teacher file and a data set make a student file for the phone."""

import argparse
import json
import shutil
import sys
from pathlib import Path

import keras
import tensorflow as tf

from keras_kd import data, plots
from keras_kd.cli.models import load_model, single_shapes, teacher_of
from keras_kd.distiller import Distiller
from keras_kd.export import export_student

PROBE_EXAMPLES = 1000


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "distill",
        help="distil a .keras teacher into a .keras student and export it",
        description="Distils a teacher into a student on a data set, and exports the student as .keras, SavedModel "
        "and TFLite with a report. Adam, learning rate 1e-3 with cosine decay; loss from logits.",
    )
    parser.add_argument("--teacher", required=True, metavar="T.keras", help="the trained teacher")
    parser.add_argument("--student", required=True, metavar="S.keras", help="the student, which must give logits")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a TFDS set, or a folder of images by class")
    parser.add_argument("--epochs", type=int, default=10, metavar="N")
    parser.add_argument("--alpha", type=float, default=0.3, metavar="A", help="weight of the labels (default 0.3)")
    parser.add_argument("--temperature", type=float, default=4.0, metavar="T", help="softens the teacher (default 4)")
    parser.add_argument("--batch-size", type=int, default=128, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for what is made")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--overwrite", action="store_true", help="write into DIR though it exists")
    again.add_argument("--resume", action="store_true", help="go on with the interrupted run in DIR")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    out = Path(options.out)
    _check_numbers(options)
    _check_folder(out, options)
    teacher_model, student = load_model(options.teacher, "teacher"), load_model(options.student, "student")
    source = data.load(options.dataset)
    teacher_shape, _ = _checked_shapes(teacher_model, "teacher", source)
    student_shape, _ = _checked_shapes(student, "student", source)

    keras.utils.set_random_seed(options.seed)
    scale = _scale_for(teacher_model, teacher_shape, source)
    for_student = data.input_transform(source, student_shape, scale=scale)
    for_teacher = data.input_transform(source, teacher_shape, scale=scale)
    teacher = teacher_of(teacher_model, inputs=["teacher"])

    def for_both(x):
        return {"student": for_student(x), "teacher": for_teacher(x)}

    steps = -(-len(source.train) // options.batch_size)
    distiller = Distiller(
        student, teacher, alpha=options.alpha, temperature=options.temperature, student_inputs=["student"]
    )
    rate = keras.optimizers.schedules.CosineDecay(1e-3, options.epochs * steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    distiller.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy", "agreement"])

    _begin(out, options)
    done = _epochs_done(out) if options.resume else 0
    train = data.pipeline(
        source.train, training=True, transform=for_both, batch_size=options.batch_size, seed=options.seed
    )
    validation = data.pipeline(source.validation, transform=for_both, batch_size=options.batch_size)
    test = data.pipeline(source.test, transform=for_student, batch_size=options.batch_size)
    try:
        distiller.fit(
            # One endless stream, so that a resumed run goes on with the batch at which it stopped.
            train.repeat().skip(done * steps),
            steps_per_epoch=steps,
            shuffle=False,  # the pipeline does; Keras 3.15 warns if it is left to think that it should
            epochs=options.epochs,
            validation_data=validation,
            callbacks=[
                keras.callbacks.BackupAndRestore(out / "checkpoint", double_checkpoint=True, delete_checkpoint=False),
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
    return _finish(out, distiller, test, for_teacher, source, options)


def _check_numbers(options: argparse.Namespace) -> None:
    for name, value in (("--epochs", options.epochs), ("--batch-size", options.batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1. Received: {value}")


def _check_folder(out: Path, options: argparse.Namespace) -> None:
    if options.resume and not (out / "run.json").is_file():
        raise ValueError(f"there is no run to resume in {out}. Leave out --resume to start one.")
    if out.exists() and not (options.overwrite or options.resume):
        raise ValueError(f"the output folder exists: {out}. Choose another, or pass --overwrite, or --resume.")


def _settings(options: argparse.Namespace) -> dict:
    names = ("teacher", "student", "dataset", "epochs", "alpha", "temperature", "batch_size", "seed")
    return {name: getattr(options, name) for name in names}


def _begin(out: Path, options: argparse.Namespace) -> None:
    """Writes down the settings of a new run, or checks that a resumed one has the same."""
    record = out / "run.json"
    if options.resume:
        recorded = json.loads(record.read_text(encoding="utf-8"))
        differ = [
            f"{key}={recorded.get(key)!r}" for key, value in _settings(options).items() if recorded.get(key) != value
        ]
        if differ:
            raise ValueError(f"the run in {out} was begun with {', '.join(differ)}. Resume it with the same.")
        return
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps(_settings(options), indent=2), encoding="utf-8")


def _epochs_done(out: Path) -> int:
    metadata = out / "checkpoint" / "training_metadata.json"
    return json.loads(metadata.read_text(encoding="utf-8"))["epoch"] if metadata.is_file() else 0


def _checked_shapes(model: keras.Model, role: str, source: data.Source) -> tuple[tuple[int | None, ...], int]:
    shape, classes = single_shapes(model, role)
    if classes != source.num_classes:
        raise ValueError(
            f"the {role} `{model.name}` has {classes} classes, but the data set {source.name} has {source.num_classes}."
        )
    return shape, classes


def _accuracy(model: keras.Model, dataset: tf.data.Dataset) -> float:
    accuracy = keras.metrics.SparseCategoricalAccuracy()
    for x, y in dataset:
        accuracy.update_state(y, model(x, training=False))
    return float(accuracy.result())


def _scale_for(teacher: keras.Model, shape: tuple[int | None, ...], source: data.Source) -> float | None:
    """What the stored values are multiplied by: nothing, where the teacher was plainly trained on them as they are."""
    if not source.train.element_spec[0].dtype.is_integer:
        return None
    probe = source.validation.take(PROBE_EXAMPLES)
    scaled, stored = (
        _accuracy(teacher, data.pipeline(probe, transform=data.input_transform(source, shape, scale=scale)))
        for scale in (None, 1.0)
    )
    print(
        f"The teacher is right on {scaled:.1%} of validation examples scaled to [0, 1] or [-1, 1], on {stored:.1%} as "
        f"stored: {'scaled' if scaled >= stored else 'stored'} values it is, for the student too."
    )
    return None if scaled >= stored else 1.0


def _finish(out: Path, distiller: Distiller, test, for_teacher, source: data.Source, options) -> int:
    student, teacher = distiller.student, distiller.teacher.model
    student.save(out / "student.keras")
    report = export_student(student, out, evaluation_data=test)
    teacher_accuracy = _accuracy(teacher, data.pipeline(source.test, transform=for_teacher))
    history = plots.read_history(out / "history.csv")
    plots.learning_curves({"student": history}).savefig(out / "curves.png", dpi=120)
    print(report)
    print(f"{teacher.name} (teacher): {teacher.count_params():,} parameters, accuracy {teacher_accuracy:.4f}")
    summary = {**_settings(options), "teacher_parameters": teacher.count_params(), "teacher_accuracy": teacher_accuracy}
    (out / "run.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    print(
        f"Written to {out}: student.keras, saved_model/, student.tflite, report.json, run.json, history.csv, curves.png"
    )
    return 0
