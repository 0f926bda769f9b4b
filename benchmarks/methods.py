"""Every method of the library on Fashion-MNIST: one teacher, one small student, one budget.

    python benchmarks/run.py methods --seeds 3 --data-dir DIR

The teacher learns from all training images, the student sees 1,000 of them. Each method is added to the student's own
loss, `0.5 · loss + 0.5 · weight · method` (SimKD alone, as in its paper), with its paper's weight times 0.01, 0.1 and 1
and the paper's own settings otherwise. The factor is chosen on validation data, with the first seed; the test images
decide nothing. (The budget was chosen, too, on validation data: 12 epochs of 5,000 images had left every student
undertrained.)
"""

import functools
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from methods_list import METHODS, STAGES
from records import Record, Run, made
from rendering import Page, Table, percent, spread, values

import keras_kd as kd
from keras_kd.plots import figure

FOLDER = Path("saved_models/methods")
SEEDS = 3
TEACHER = {"dataset": "fashion_mnist", "epochs": 8, "batch": 128, "rate": 2e-3}
QUICK_TEACHER = {**TEACHER, "dataset": "digits", "epochs": 1}
FULL = {"teacher": TEACHER, "examples": 1000, "epochs": 60, "batch": 64, "rate": 4e-3}
QUICK = {**FULL, "teacher": QUICK_TEACHER, "examples": 64, "epochs": 1}
FACTORS, QUICK_FACTORS = (0.01, 0.1, 1.0), (0.1, 1.0)
QUICK_METHODS = ("alone", "soft_targets", "decoupled_kd", "sim_kd")


def build_teacher() -> keras.Model:
    """Three stages of plain convolutions."""
    layers = keras.layers
    stack = [keras.Input((28, 28, 1))]
    for stage, filters in zip(STAGES, (32, 64, 128), strict=True):
        stack += [layers.Conv2D(filters, 3, padding="same", use_bias=False), layers.BatchNormalization()]
        stack += [layers.ReLU(name=stage)] + ([layers.MaxPooling2D()] if stage != STAGES[-1] else [])
    return keras.Sequential([*stack, *_head()], name="teacher")


def build_student() -> keras.Model:
    """Three stages of a quarter to a half of the width, two of them depthwise separable."""
    layers = keras.layers
    stack = [keras.Input((28, 28, 1)), layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)]
    for stage, filters, strides in zip(STAGES, (16, 32, 64), (1, 1, 2), strict=True):
        if stage != STAGES[0]:
            stack += [layers.SeparableConv2D(filters, 3, strides=strides, padding="same", use_bias=False)]
        stack += [layers.BatchNormalization(), layers.ReLU(name=stage)]
    return keras.Sequential([*stack, *_head()], name="student")


def _head() -> list[keras.Layer]:
    layers = keras.layers
    return [layers.GlobalAveragePooling2D(name="pool"), layers.Dense(10, name="head")]


@functools.cache
def load(dataset: str = "fashion_mnist") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images in [0, 1] and labels by split, in memory."""
    source = kd.data.load(dataset)
    transform = kd.data.input_transform(source, (28, 28, 1))
    splits = {}
    for name in ("train", "validation", "test"):
        batches = kd.data.pipeline(getattr(source, name), transform=transform, batch_size=1000).as_numpy_iterator()
        x, y = zip(*batches, strict=True)
        splits[name] = np.concatenate(x), np.concatenate(y)
    return splits


def train(model: keras.Model, data, epochs: int, batch: int, rate: float, **options) -> None:
    """Adam with cosine decay, cross-entropy."""
    x, y = data
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-len(x) // batch))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(decay), loss, metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=batch, verbose=0, **options)


def teacher_path(dataset: str, epochs: int, batch: int, rate: float) -> Path:
    """The file of the teacher, which is trained where it is not yet."""

    def make(path: Path) -> None:
        keras.utils.set_random_seed(0)
        teacher = build_teacher()
        train(teacher, load(dataset)["train"], epochs, batch, rate)
        teacher.save(path)

    return made(FOLDER / f"teacher_{dataset}_{epochs}.keras", make)


@functools.cache
def teacher_of(**teacher: Any) -> keras.Model:
    """The teacher."""
    return keras.saving.load_model(teacher_path(**teacher))


@functools.cache
def said(split: str, **teacher: Any) -> np.ndarray:
    """The classes that the teacher names."""
    return _classes(teacher_of(**teacher), load(teacher["dataset"])[split][0])


def _classes(model: keras.Model, x: np.ndarray) -> np.ndarray:
    return model.predict(x, batch_size=500, verbose=0).argmax(-1)


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher; of each method the best factor with the first seed, then that factor with the others."""
    settings = QUICK if quick else FULL
    yield Run("teacher", 0, settings["teacher"], functools.partial(teacher_figures, settings["teacher"]))
    for key in QUICK_METHODS if quick else METHODS:
        factors = (QUICK_FACTORS if quick else FACTORS) if METHODS[key].tuned else (1.0,)
        first = yield _run(key, 0, {**settings, "factors": factors})
        if seed:
            yield _run(key, seed, {**settings, "factors": (first["factor"],)})


def _run(key: str, seed: int, settings: dict[str, Any]) -> Run:
    method = METHODS[key]
    decided = {**settings, "weight": method.weight, "alpha": method.alpha}
    return Run(key, seed, decided, functools.partial(best_of, key, seed, settings))


def teacher_figures(teacher: dict[str, Any]) -> dict[str, Any]:
    """Its size, the student's, and its share of the test labels."""
    test = float(np.mean(said("test", **teacher) == load(teacher["dataset"])["test"][1]))
    sizes = {"parameters": teacher_of(**teacher).count_params(), "student_parameters": build_student().count_params()}
    return {**sizes, "test": test}


def best_of(key: str, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The student whose factor validation data prefer."""
    tried = [student_figures(key, factor, seed, settings) for factor in settings["factors"]]
    best = max(tried, key=lambda figures: figures["validation"])
    return {**best, "validation_by_factor": {f"{one['factor']:g}": one["validation"] for one in tried}}


def student_figures(key: str, factor: float, seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Trains one student."""
    method, teacher = METHODS[key], teacher_of(**settings["teacher"])
    splits = load(settings["teacher"]["dataset"])
    says_teacher = {split: said(split, **settings["teacher"]) for split in ("validation", "test")}
    keras.utils.set_random_seed(seed)
    weight = factor * method.weight
    distiller = kd.Distiller(build_student(), teacher, method.make(weight), alpha=method.alpha)
    data = tuple(part[: settings["examples"]] for part in splits["train"])
    budget = {name: settings[name] for name in ("epochs", "batch", "rate")}
    train(distiller, data, **budget, callbacks=method.callbacks(weight))
    figures = {"factor": factor, "weights": distiller.finished_student.count_params()}
    for split, teachers in says_teacher.items():
        x, y = splits[split]
        says = _classes(distiller, x)
        figures[split] = float(np.mean(says == y))
        figures[f"{split}_agreement"] = float(np.mean(says == teachers))
    keras.backend.clear_session()
    return figures


def page(records: Sequence[Record]) -> Page:
    """A row for each method."""
    (teacher,) = (record for record in records if record.setting == "teacher")
    about, used = teacher.figures, _first(records, "soft_targets").settings
    words = (
        f"`{teacher.settings['dataset']}`: a teacher of {about['parameters']:,} weights ({about['test']:.2%} on the "
        f"test images, trained on all training images), a student of {about['student_parameters']:,} that sees "
        f"{used['examples']:,} of them with their labels, {used['epochs']} epochs, batch {used['batch']}, Adam with "
        f"cosine decay from {used['rate']:g}. Loss: half the student's own, half the method's times its weight. The "
        f"weight is the paper's times {', '.join(f'{factor:g}' for factor in used['factors'])}, whichever did best on "
        "validation images with the first seed; nothing else of a method was tuned. (The budget was, on validation "
        "data: 12 epochs of 5,000 images had left every student undertrained.) Means and standard deviations over the "
        "seeds on the test images; gains are paired by seed."
    )
    head = ["method", "source", "looks at", "its weight", "exported weights", "test accuracy", "gain in points"]
    rows, gains = [], gains_of(records)
    for key in _keys(records):
        method, first = METHODS[key], _first(records, key).figures
        weight = "" if key == "alone" else _rounded(first["factor"] * method.weight)
        accuracy = f"{percent(values(records, key, 'test'))} %"
        gain = spread(gains[key], sign="+") if key in gains else ""
        rows.append([method.title, method.source, method.needs, weight, f"{first['weights']:,}", accuracy, gain])
    return Page("Every method on Fashion-MNIST", [words, Table(head, rows)], lambda: picture(gains))


def _rounded(weight: float) -> str:
    return f"{float(f'{weight:.2g}'):g}"


def _keys(records: Sequence[Record]) -> list[str]:
    return [key for key in METHODS if any(record.setting == key for record in records)]


def _first(records: Sequence[Record], key: str) -> Record:
    return next(record for record in records if record.setting == key)


def gains_of(records: Sequence[Record]) -> dict[str, list[float]]:
    """Every seed's gain over the same seed alone, in points."""
    alone = values(records, "alone", "test")
    return {
        key: [100 * (after - before) for after, before in zip(values(records, key, "test"), alone, strict=True)]
        for key in _keys(records)
        if key != "alone"
    }


def picture(gains: dict[str, list[float]]) -> Figure:
    """Every seed's gain, methods ordered by their mean."""
    order = sorted(gains, key=lambda key: statistics.mean(gains[key]))
    drawing = figure(8, 0.28 * len(order) + 1.2)
    axes = drawing.subplots()
    for row, key in enumerate(order):
        colour = "tab:red" if key == "soft_targets" else "tab:blue"
        axes.plot(gains[key], [row] * len(gains[key]), "o", color=colour, alpha=0.4, markersize=4)
        axes.plot(statistics.mean(gains[key]), row, "|", color=colour, markersize=14, markeredgewidth=2)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(order)), [METHODS[key].title for key in order], fontsize=8)
    axes.set_xlabel("gain in test accuracy over the student alone, in points: the seeds and their mean")
    axes.spines[["top", "right"]].set_visible(False)
    return drawing
