"""What a student of `keras-kd distill` learns from: a teacher that speaks, or what a cache holds of one."""

import argparse
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_kd import data
from keras_kd.cache import open_cache, store
from keras_kd.cli.augmentations import augmentation_of
from keras_kd.cli.cache import teacher_form
from keras_kd.cli.models import load_model, teacher_of
from keras_kd.cli.runs import RECORD, read_record
from keras_kd.cli.sources import accuracy, checked_shape, scale_for, steady_name
from keras_kd.export import ExportReport
from keras_kd.probabilities import refuse_student_scores, scores_by_graph
from keras_kd.replay import keys_of
from keras_kd.teachers import Teacher

TEMPERATURE = 4.0
GREATEST_INPUT = 2**26  # numbers of an example that a record may ask for


@dataclass(frozen=True)
class Lessons:
    """Data to train, choose and report on, and what they say of their teacher.

    Attributes:
        train: Batches, shuffled anew in each pass.
        validation: Batches.
        test: Batches, those of the teacher's inputs too where it speaks.
        class_names: Name of each class, in the order of the labels.
        steps: Batches of a pass over `train`.
        settings: What is on record of the run.
        temperature: Of the soft targets.
        teacher: Who speaks; `None` where the batches carry it.
        student_inputs: Keys of the student's part of a batch; `None` for all.
        metrics: What can be measured while training.
        soft_labels: Whether labels are scores of the classes.
        report: Gives of the student's report a line about the teacher that it has not, and figures for the record.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset
    class_names: tuple[str, ...]
    steps: int
    settings: Mapping[str, Any]
    temperature: float
    report: Callable[[ExportReport], tuple[str, Mapping[str, Any]]]
    teacher: Teacher | None = None
    student_inputs: list[str] | None = None
    metrics: tuple[str, ...] = ("accuracy", "agreement")
    soft_labels: bool = False


def lessons_of(options: argparse.Namespace, student: keras.Model) -> Lessons:
    """Opens what the options name.

    Raises:
        ValueError: If it does not exist, or does not fit the student.
    """
    return _cached(options, student) if options.cache else _live(options, student)


def _live(options: argparse.Namespace, student: keras.Model) -> Lessons:
    if options.dataset is None:
        raise ValueError("--teacher needs --dataset, the examples to ask it about.")
    model = load_model(options.teacher, "teacher")
    source = data.load(options.dataset)
    teacher_shape = checked_shape(model, "teacher", source)
    student_shape = checked_shape(student, "student", source)
    scale = scale_for(model, teacher_shape, source)
    for_student = data.input_transform(source, student_shape, scale=scale)
    for_teacher = data.input_transform(source, teacher_shape, scale=scale)

    def for_both(x):
        return {"student": for_student(x), "teacher": for_teacher(x)}

    size = options.batch_size
    return Lessons(
        train=data.pipeline(source.train, training=True, transform=for_both, batch_size=size, seed=options.seed),
        validation=data.pipeline(source.validation, transform=for_both, batch_size=size),
        test=data.pipeline(source.test, transform=for_both, batch_size=size),
        class_names=source.class_names,
        steps=-(-len(source.train) // size),
        settings={"teacher": options.teacher, "dataset": options.dataset},
        temperature=TEMPERATURE if options.temperature is None else options.temperature,
        teacher=teacher_of(model, inputs=["teacher"]),
        student_inputs=["student"],
        report=lambda report: ("", _of_teacher(report)),
    )


def _cached(options: argparse.Namespace, student: keras.Model) -> Lessons:
    folder = Path(options.cache)
    made = _record_of(folder)
    if options.dataset is not None and steady_name(options.dataset) != made["dataset"]:
        raise ValueError(
            f"the cache {folder} is that of the data set {made['dataset']}. Received: --dataset {options.dataset}. "
            "Leave it out, or cache that one."
        )
    source = data.load(made["dataset"])
    shape = checked_shape(student, "student", source)
    refuse_scores(student)
    augment = augmentation_of(made["augment"]) if made["augment"] is not None else None
    seen = in_memory(teacher_form(source, made["input_shape"], made["scale"]))
    cached = open_cache(folder, seen, augment=augment)
    keys = keys_of(cached.element_spec[0].signals)
    for_student = data.input_transform(source, shape, scale=made["scale"])
    validation = source.validation
    if soft_labels := augment is not None and augment.mixes:
        validation = validation.map(lambda x, y: (x, tf.one_hot(y, source.num_classes)))
    size = options.batch_size
    return Lessons(
        train=_batches(cached, refit(source, seen, shape), size, options.seed),
        validation=data.pipeline(validation, transform=for_student, batch_size=size),
        test=data.pipeline(source.test, transform=for_student, batch_size=size),
        class_names=source.class_names,
        steps=-(-len(source.train) // size),
        settings={
            "cache": options.cache,
            "cache_sha256": store.sha256(folder / store.MANIFEST),
            "dataset": made["dataset"],
        },
        temperature=_temperature(options, keys),
        metrics=("accuracy",) if any(key.kind == "sampled" for key in keys) else ("accuracy", "agreement"),
        soft_labels=soft_labels,
        report=lambda _: (f"Taught by the cache {folder} of the teacher {made['teacher']}.", {}),
    )


def _of_teacher(report: ExportReport) -> dict[str, Any]:
    return {"teacher_parameters": report.teacher.parameters, "teacher_accuracy": report.teacher.accuracy}


def told_of(teacher: keras.Model, test: tf.data.Dataset) -> tuple[str, dict[str, Any]]:
    """A line about a teacher, and figures for the record."""
    right = accuracy(teacher, test)
    figures = {"teacher_parameters": teacher.count_params(), "teacher_accuracy": right}
    return f"{teacher.name} (teacher): {teacher.count_params():,} parameters, accuracy {right:.4f}", figures


def optimizer_for(steps: int) -> keras.optimizers.Optimizer:
    """Adam, whose learning rate falls from 1e-3 to 0 in so many steps."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps))


def in_memory(examples: tf.data.Dataset) -> tf.data.Dataset:
    """Read once as a whole: a cache only looks at their beginning, and TensorFlow warns of what is held in part."""
    held = examples.cache()
    held.reduce(tf.constant(0), lambda count, _: count)
    return held


def refuse_scores(student: keras.Model) -> None:
    """Without a teacher to compare with, `Distiller` would refuse it in `fit` only, when the folder is there.

    Raises:
        ValueError: If it ends in probabilities.
    """
    scores = scores_by_graph(student)
    for found in scores.outputs.values() if scores else ():
        refuse_student_scores(student.name, found)


def _record_of(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise ValueError(f"there is no cache {folder}. Make one with `keras-kd cache`.")
    record = read_record(folder)
    if record is None or not _tells_how_it_was_read(record):
        raise ValueError(
            f"{folder} has no {RECORD} of `keras-kd cache`, which says how its data set was read. Run the same "
            "`keras-kd cache` again, or open it in Python with `keras_kd.open_cache`."
        )
    return record


def _tells_how_it_was_read(record: Mapping[str, Any]) -> bool:
    """The record comes with the cache, from a stranger maybe."""
    kinds = {"teacher": str, "dataset": str, "input_shape": list, "scale": float | int | None, "augment": str | None}
    if not all(name in record and isinstance(record[name], kind) for name, kind in kinds.items()):
        return False
    sizes = [size for size in record["input_shape"] if size is not None]
    if not all(isinstance(size, int) and size > 0 for size in sizes) or math.prod(sizes) > GREATEST_INPUT:
        return False
    # TFDS runs code from elsewhere for a set of its community, `someone:mnist`; of `mnist:3.0.1`, that is a version.
    someones = re.match(r"[\w-]+:[^\d*]", record["dataset"])
    return (record["scale"] is None or math.isfinite(record["scale"])) and not someones


def _batches(cached: tf.data.Dataset, refit: Callable, size: int, seed: int) -> tf.data.Dataset:
    """Not by `data.pipeline`, which would keep the first view in memory and show no other."""
    shuffled = cached.shuffle(cached.cardinality(), seed=seed, reshuffle_each_iteration=True)
    return (
        shuffled.map(lambda x, y: (x._replace(x=refit(x.x)), y), tf.data.AUTOTUNE)
        .batch(size)
        .prefetch(tf.data.AUTOTUNE)
    )


def refit(source: data.Source, seen: tf.data.Dataset, shape: tuple[int | None, ...]) -> Callable:
    """From what the teacher takes to what the student takes."""
    given = tuple(seen.element_spec[0].shape)
    if tf.TensorShape(given).is_compatible_with(shape):
        return tf.identity
    # Sources have images of three axes and audio of one, whatever the model wants.
    form = {"image": (*given, 1)[:3], "audio": given[:1]}.get(source.kind, given)
    fit = data.input_transform(replace(source, train=seen, input_shape=form), shape)
    return lambda x: fit(tf.reshape(x, form))


def _temperature(options: argparse.Namespace, keys: list) -> float:
    """That of the cache, where what it holds was said at one."""
    fixed = next((key.temperature for key in keys if key.temperature is not None), None)
    if fixed is None:
        return TEMPERATURE if options.temperature is None else options.temperature
    if options.temperature not in (None, fixed):
        raise ValueError(
            f"--temperature must be {fixed:g}, at which the cache {options.cache} was made. Received: "
            f"{options.temperature:g}. Leave it out, or make another cache."
        )
    return fixed
