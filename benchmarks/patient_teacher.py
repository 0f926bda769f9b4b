"""Should teacher and student see the same view, and how long? Beyer and others 2022 (arXiv:2106.05237), in small.

    python benchmarks/run.py patient_teacher --seeds 3 --data-dir DIR

Teacher and student of `benchmarks/methods.py`. The student sees 2,500 images of Fashion-MNIST, flipped and shifted, and
learns from the teacher alone (alpha = 0, T = 4). The teacher sees the image as it was (the paper's fixed teacher), a
view of its own (independent noise), the student's view (consistent), or the student's view of mixed images (function
matching). Each with a short and a long schedule. Nothing is tuned.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from methods import QUICK_TEACHER, TEACHER, build_student, load, said, teacher_of
from records import Record, Run
from rendering import Page, Table, error_bars, percent, values

import keras_kd as kd
from keras_kd.plots import figure

SEEDS = 3
SCHEDULES = (20, 60)
AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))
FULL = {"teacher": TEACHER, "examples": 2500, "batch": 64, "rate": 4e-3, "augment": str(AUGMENT)}
QUICK = {**FULL, "teacher": QUICK_TEACHER, "examples": 128}
VIEWS = {
    "clean": "the image as it was",
    "independent": "a view of its own",
    "same": "the student's view",
    "mixed": "the student's view, images mixed",
}


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher, then each of its views with each schedule."""
    settings = QUICK if quick else FULL
    yield Run("teacher", 0, settings["teacher"], functools.partial(teacher_figures, settings["teacher"]))
    for epochs in (1, 2) if quick else SCHEDULES:
        for view in VIEWS:
            own = {**settings, "epochs": epochs, "view": view}
            yield Run(f"{view}, {epochs}", seed, own, functools.partial(student_figures, seed, own))


def teacher_figures(teacher: dict[str, Any]) -> dict[str, float]:
    """Its share of the test labels."""
    return {"accuracy": float(np.mean(said("test", **teacher) == load(teacher["dataset"])["test"][1]))}


def student_figures(seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """One student: how often it is right, and says what the teacher says."""
    splits = load(settings["teacher"]["dataset"])
    x, _ = splits["train"]
    images = tf.data.Dataset.from_tensor_slices(x[: settings["examples"]])
    data = PAIRS[settings["view"]](images, seed).batch(settings["batch"]).prefetch(tf.data.AUTOTUNE)
    keras.utils.set_random_seed(seed)
    student = build_student()
    teacher = kd.Teacher(teacher_of(**settings["teacher"]), inputs=["teacher"])
    distiller = kd.Distiller(student, teacher, alpha=0.0, student_inputs=["student"])
    distiller.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(settings["rate"], settings["epochs"] * len(list(data)))
        )
    )
    distiller.fit(data, epochs=settings["epochs"], verbose=0, shuffle=False)
    x, y = splits["test"]
    says = student.predict(x, batch_size=500, verbose=0).argmax(-1)
    keras.backend.clear_session()
    agreement = float(np.mean(says == said("test", **settings["teacher"])))
    return {"accuracy": float(np.mean(says == y)), "agreement": agreement}


def shuffled(images: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """In a new order in each epoch."""
    return images.cache().shuffle(len(images), seed=seed)


def viewed(see: Callable, seed: int, *images: tf.data.Dataset) -> tf.data.Dataset:
    """What student and teacher see: `see` of an image, or of two, and of two seeds that each epoch draws anew."""
    seeds = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).batch(4, drop_remainder=True)
    seeds = seeds.map(lambda drawn: (drawn[:2], drawn[2:]))

    def pair(*elements):
        student, teacher = see(*elements)
        return {"student": student, "teacher": teacher}

    return tf.data.Dataset.zip((*images, seeds)).map(lambda *elements: pair(*elements), tf.data.AUTOTUNE)


def clean(images: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """The teacher sees the image as it was."""
    return viewed(lambda x, seeds: (AUGMENT(x, seeds[0]), x), seed, shuffled(images, seed))


def independent(images: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Each sees a view of its own."""
    return viewed(lambda x, seeds: (AUGMENT(x, seeds[0]), AUGMENT(x, seeds[1])), seed, shuffled(images, seed))


def same(images: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Both see one view."""
    return viewed(lambda x, seeds: 2 * (AUGMENT(x, seeds[0]),), seed, shuffled(images, seed))


def mixed(images: tf.data.Dataset, seed: int) -> tf.data.Dataset:
    """Both see one view of two images, mixed in a share that is drawn evenly."""
    mix = kd.data.mixup(1.0)

    def see(x, other, seeds):
        return 2 * (mix(AUGMENT(x, seeds[0]), seeds[0], AUGMENT(other, seeds[1])),)

    return viewed(see, seed, shuffled(images, seed), shuffled(images, seed + 1))


PAIRS = {"clean": clean, "independent": independent, "same": same, "mixed": mixed}


def page(records: Sequence[Record]) -> Page:
    """Accuracy and agreement by view and schedule."""
    (teacher,) = (record for record in records if record.setting == "teacher")
    used = next(record.settings for record in records if record.setting.startswith("same"))
    schedules = sorted({record.settings["epochs"] for record in records if record.setting.startswith("same")})
    words = (
        f"`{used['teacher']['dataset']}`: {used['examples']:,} training images without labels, batch {used['batch']}, "
        f"`{used['augment']}`, Adam with cosine decay from {used['rate']:g}, alpha = 0, T = 4. The teacher is right on "
        f"{teacher.figures['accuracy']:.2%} of the test images. Mean and standard deviation over the seeds, in percent "
        "of the test images: right, and in brackets saying what the teacher says."
    )
    rows = [
        [
            title,
            *(
                f"{percent(values(records, f'{view}, {epochs}', 'accuracy'))} "
                f"({percent(values(records, f'{view}, {epochs}', 'agreement'))})"
                for epochs in schedules
            ),
        ]
        for view, title in VIEWS.items()
    ]
    head = ["the teacher sees", *(f"{epochs} epochs" for epochs in schedules)]
    drawn = functools.partial(picture, records, schedules)
    return Page("Patient and consistent: which view for the teacher?", [words, Table(head, rows)], drawn)


def picture(records: Sequence[Record], schedules: Sequence[int]) -> Figure:
    """Accuracy against the length of training."""
    drawn = figure(7, 4.2)
    axis = drawn.subplots()
    for index, (view, title) in enumerate(VIEWS.items()):
        beside = 0.94 + 0.04 * index
        found = {epochs: values(records, f"{view}, {epochs}", "accuracy") for epochs in schedules}
        error_bars(axis, {beside * epochs: [100 * one for one in shares] for epochs, shares in found.items()}, title)
    axis.set(xscale="log", xticks=list(schedules), xlabel="epochs", ylabel="test accuracy, %")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(frameon=False, title="the teacher sees")
    return drawn
