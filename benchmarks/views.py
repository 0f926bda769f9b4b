"""How many augmented views of a cached teacher are enough? Fashion-MNIST, against the teacher live in every step.

    python benchmarks/run.py views --seeds 3 --data-dir DIR

Teacher and student of `benchmarks/fashion_mnist.py`. The student sees 1,000 images, flipped and shifted, for 100
epochs: their labels alone, or the teacher alone (alpha = 0), live on a new view in each epoch or from caches of 1, 4,
16 and 50 views, which come again when they are used up. Then 16 views in other codecs. Nothing is tuned. (A first
set-up, with the smaller student of `benchmarks/methods.py` and labels beside the teacher, was stopped after five runs:
all lay between 78.9 and 79.6 %.)
"""

import functools
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fashion_mnist
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from methods import load
from records import Record, Run, made
from rendering import Page, Table, error_bars, percent, values

import keras_kd as kd

FOLDER = Path("saved_models/views")
SEEDS = 3
AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))
FULL = {
    "teacher": fashion_mnist.TEACHER,
    "examples": 1000,
    "epochs": 100,
    "batch": 64,
    "rate": 2e-3,
    "augment": str(AUGMENT),
}
QUICK = {**FULL, "teacher": fashion_mnist.QUICK_TEACHER, "examples": 64, "epochs": 2}


@dataclass(frozen=True)
class Setting:
    """Who teaches, and how what they say is kept: arguments of `cache_teacher`, or none."""

    title: str
    cache: dict[str, Any] | None = None
    live: bool = False


SETTINGS = {
    "alone": Setting("labels alone"),
    "live": Setting("teacher live", live=True),
    **{f"views_{n}": Setting(f"{n} view{'s' * (n > 1)}, float16", {"views": n}) for n in (1, 4, 16, 50)},
    "int8": Setting("16 views, int8", {"views": 16, "dtype": "int8"}),
    "top_3": Setting("16 views, top 3 and the rest", {"views": 16, "top_k": 3}),
    "sampled_4": Setting("16 views, 4 classes drawn", {"views": 16, "samples": 4}),
}
QUICK_SETTINGS = ("alone", "live", "views_1", "views_4", "sampled_4")
OTHER_CODECS = {"int8": ("s", 1.08), "top_3": ("^", 0.93), "sampled_4": ("v", 1.0)}


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher, then every setting."""
    settings = QUICK if quick else FULL
    yield Run("teacher", 0, settings["teacher"], functools.partial(teacher_figures, settings["teacher"]))
    for key in QUICK_SETTINGS if quick else SETTINGS:
        own = {**settings, "cache": SETTINGS[key].cache, "live": SETTINGS[key].live}
        yield Run(key, seed, own, functools.partial(student_figures, key, seed, settings))


def teacher_figures(teacher: dict[str, Any]) -> dict[str, float]:
    """Its share of the test labels."""
    return {"accuracy": float(np.mean(said_of_test(**teacher) == load(teacher["dataset"])["test"][1]))}


@functools.cache
def teacher_of(**teacher: Any) -> keras.Model:
    """The teacher of `benchmarks/fashion_mnist.py`."""
    return keras.saving.load_model(fashion_mnist.teacher_path(**teacher))


@functools.cache
def said_of_test(**teacher: Any) -> np.ndarray:
    """The classes that the teacher names."""
    x, _ = load(teacher["dataset"])["test"]
    return teacher_of(**teacher).predict(x, batch_size=500, verbose=0).argmax(-1)


def cache_of(key: str, source: tf.data.Dataset, settings: dict[str, Any]) -> Path:
    """What the teacher said in as many views as a setting asks for."""

    def write(folder: Path) -> None:
        teacher = teacher_of(**settings["teacher"])
        kd.cache_teacher(teacher, source, folder, augment=AUGMENT, **SETTINGS[key].cache)

    return made(FOLDER / f"{settings['teacher']['dataset']}_{settings['examples']}_{key}", write)


def batches(source: tf.data.Dataset, cache: Path | None, settings: dict[str, Any], seed: int) -> tf.data.Dataset:
    """Of a cache, or augmented anew in each epoch."""
    if cache is None:
        return kd.data.pipeline(source, batch_size=settings["batch"], training=True, augment=AUGMENT, seed=seed)
    cached = kd.open_cache(cache, source, augment=AUGMENT)
    return cached.shuffle(settings["examples"], seed=seed).batch(settings["batch"]).prefetch(tf.data.AUTOTUNE)


def student_figures(key: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains one student."""
    setting, splits = SETTINGS[key], load(settings["teacher"]["dataset"])
    teacher, said = teacher_of(**settings["teacher"]), said_of_test(**settings["teacher"])
    source = tf.data.Dataset.from_tensor_slices(tuple(part[: settings["examples"]] for part in splits["train"]))
    cache = None if setting.cache is None else cache_of(key, source, settings)
    keras.utils.set_random_seed(seed)
    data = batches(source, cache, settings, seed)
    student = fashion_mnist.build_student()
    learner = student if key == "alone" else kd.Distiller(student, teacher if setting.live else None, alpha=0.0)
    decay = keras.optimizers.schedules.CosineDecay(settings["rate"], settings["epochs"] * len(data))
    learner.compile(keras.optimizers.Adam(decay), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    learner.fit(data, epochs=settings["epochs"], verbose=0, shuffle=False)
    x, y = splits["test"]
    says = student.predict(x, batch_size=500, verbose=0).argmax(-1)
    keras.backend.clear_session()
    return {
        "accuracy": float(np.mean(says == y)),
        "agreement": float(np.mean(says == said)),
        "bytes_per_image": cache and json.loads((cache / "manifest.json").read_text())["bytes_per_example"],
    }


def page(records: Sequence[Record]) -> Page:
    """One row a setting."""
    used = next(record.settings for record in records if record.setting == "alone")
    (teacher,) = values(records, "teacher", "accuracy")
    words = (
        f"`{used['teacher']['dataset']}`, {used['examples']:,} training images, {used['epochs']} epochs, "
        f"`{used['augment']}`. Teacher ({100 * teacher:.2f} %) and student of `benchmarks/fashion_mnist.py`, "
        "`alpha=0`. Mean and standard deviation over the seeds."
    )
    rows = []
    for key in _keys(records):
        size = values(records, key, "bytes_per_image")[0]
        shares = [f"{percent(values(records, key, figure))} %" for figure in ("accuracy", "agreement")]
        rows.append([SETTINGS[key].title, "" if size is None else f"{size:,}", *shares])
    head = ["teacher's signals", "bytes an image", "test accuracy", "says what the teacher says"]
    return Page("How many views are enough?", [words, Table(head, rows)], lambda: picture(records))


def _keys(records: Sequence[Record]) -> list[str]:
    return [key for key in SETTINGS if any(record.setting == key for record in records)]


def picture(records: Sequence[Record]) -> plt.Figure:
    """Accuracy against views, between labels alone and the live teacher."""
    drawn, axis = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    accuracies = {key: [100 * share for share in values(records, key, "accuracy")] for key in _keys(records)}
    for key, colour in (("live", "tab:green"), ("alone", "tab:gray")):
        mean = statistics.mean(accuracies[key])
        deviation = statistics.stdev(accuracies[key]) if len(accuracies[key]) > 1 else 0.0
        axis.axhline(mean, color=colour, label=SETTINGS[key].title)
        axis.axhspan(mean - deviation, mean + deviation, color=colour, alpha=0.15, lw=0)
    views = {key: SETTINGS[key].cache["views"] for key in accuracies if SETTINGS[key].cache}
    halves = {views[key]: accuracies[key] for key in views if key not in OTHER_CODECS}
    error_bars(axis, halves, "cached, float16")
    for key, (marker, beside) in OTHER_CODECS.items():
        if key in views:
            error_bars(axis, {views[key] * beside: accuracies[key]}, SETTINGS[key].title, fmt=marker)
    axis.set(xscale="log", xticks=[1, 4, 16, 50], xlabel="cached views of an image", ylabel="test accuracy, %")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
