"""int8 by calibration, and int8 that was learnt: three kinds of students of Fashion-MNIST, distilled from one teacher.

    python benchmarks/run.py quantization --seeds 3 --data-dir DIR      # about half an hour on 2 cores

A convolutional, a depthwise-separable and a transformer student are distilled in float from 20,000 images of a teacher
that was asked once. Each then leaves as int8 in two ways: calibrated on 300 training images; and after `fake_quantize`
and four more epochs from the same teacher, at a learning rate chosen on validation images among three. For a fair share
the float student gets four more epochs at the same rates, too. Accuracy is that of the files, run by LiteRT on all
10,000 test images; agreement is how often a file names the class that its Keras model names.
"""

import functools
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import methods
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from records import Record, Run, made
from rendering import Page, Table, percent
from small_runs import gain, shown

import keras_kd as kd
from keras_kd.plots import figure

FOLDER = Path("saved_models/quantization")
SEEDS = 3
FULL = {"teacher": methods.TEACHER, "examples": 20_000, "batch": 128, "epochs": 12, "rate": 3e-3, "calibration": 300}
QUICK = {**FULL, "teacher": methods.QUICK_TEACHER, "examples": 256, "epochs": 1, "calibration": 16}
MORE_EPOCHS, QUICK_MORE_EPOCHS = 4, 1
RATES, QUICK_RATES = (1e-3, 3e-4, 1e-4), (1e-3, 1e-4)
KINDS = {
    "float": "float32",
    "calibrated": "int8, calibrated",
    "longer": "float32, {} epochs more",
    "learnt": "int8, learnt in {} epochs",
}
layers = keras.layers


def cnn() -> keras.Model:
    """Three convolutions with batch normalisation."""
    stack = [keras.Input((28, 28, 1), name="image")]
    for filters, strides in ((12, 2), (24, 2), (32, 1)):
        stack += [
            layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
        ]
    return keras.Sequential([*stack, layers.GlobalAveragePooling2D(), layers.Dense(10, name="logits")], name="cnn")


def depthwise() -> keras.Model:
    """Blocks of MobileNet."""

    def block(layer):
        return [layer, layers.BatchNormalization(), layers.ReLU(6.0)]

    stack = [keras.Input((28, 28, 1), name="image")]
    stack += block(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False))
    for filters, strides in ((32, 1), (48, 2), (48, 1), (64, 2)):
        stack += block(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False))
        stack += block(layers.Conv2D(filters, 1, use_bias=False))
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10, name="logits")]
    return keras.Sequential([*stack, *head], name="depthwise")


def transformer() -> keras.Model:
    """Two blocks of attention over 16 patches."""
    inputs = keras.Input((28, 28, 1), name="image")
    x = layers.Reshape((16, 32))(layers.Conv2D(32, 7, strides=7)(inputs))
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 16)(y, y)])
        y = layers.Dense(64, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(32)(y)])
    x = layers.Flatten()(layers.LayerNormalization()(x))  # where a patch stands is in the weights of the head
    return keras.Model(inputs, layers.Dense(10, name="logits")(x), name="transformer")


STUDENTS = {"CNN": cnn, "depthwise-separable": depthwise, "transformer": transformer}


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """Of each student the float file and the calibrated one, then more epochs in float and in int8 at every rate."""
    settings = QUICK if quick else FULL
    more_epochs, rates = (QUICK_MORE_EPOCHS, QUICK_RATES) if quick else (MORE_EPOCHS, RATES)
    for name in ("CNN",) if quick else STUDENTS:
        for kind in ("float", "calibrated"):
            yield _run(f"{name}, {kind}", seed, {**settings, "student": name, "kind": kind})
        for kind in ("longer", "learnt"):
            for rate in rates:
                more = {"student": name, "kind": kind, "more_epochs": more_epochs, "more_rate": rate}
                yield _run(f"{name}, {kind} at {rate:g}", seed, {**settings, **more})


def _run(setting: str, seed: int, settings: dict[str, Any]) -> Run:
    return Run(setting, seed, settings, functools.partial(file_figures, seed, settings))


@functools.cache
def taught(examples: int, **teacher: Any) -> tf.data.Dataset:
    """Training images with their labels and what the teacher says of them."""
    x, y = methods.load(teacher["dataset"])["train"]
    source = tf.data.Dataset.from_tensor_slices((x[:examples], y[:examples]))

    def ask(folder: Path) -> None:
        kd.cache_teacher(methods.teacher_of(**teacher), source.batch(500), folder, dtype="float32")

    return kd.open_cache(made(FOLDER / f"teacher_{teacher['dataset']}_{examples}", ask), source).cache()


def distil(student: keras.Model, settings: dict[str, Any], rate: float, epochs: int, seed: int) -> None:
    """Trains a student on what the teacher has said."""
    examples, batch = settings["examples"], settings["batch"]
    data = taught(examples, **settings["teacher"])
    keras.utils.set_random_seed(seed)
    decay = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-examples // batch))
    distiller = kd.Distiller(student, None)
    distiller.compile(keras.optimizers.Adam(decay), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    distiller.fit(data.shuffle(examples, seed=seed).batch(batch), epochs=epochs, shuffle=False, verbose=0)


def float_student(seed: int, settings: dict[str, Any]) -> keras.Model:
    """Distilled in float."""
    build, dataset = STUDENTS[settings["student"]], settings["teacher"]["dataset"]

    def train(path: Path) -> None:
        keras.utils.set_random_seed(seed)
        student = build()
        distil(student, settings, settings["rate"], settings["epochs"], seed)
        student.save(path)

    about = (build.__name__, dataset, settings["examples"], settings["epochs"], seed)
    return keras.saving.load_model(made(FOLDER / f"{'_'.join(map(str, about))}.keras", train))


def file_figures(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """The file of a student that has learnt as its kind does."""
    kind, splits = settings["kind"], methods.load(settings["teacher"]["dataset"])
    student = float_student(seed, settings)
    figures = {"parameters": student.count_params()}
    if "more_epochs" in settings:
        student = kd.quantization.fake_quantize(student) if kind == "learnt" else student
        distil(student, settings, settings["more_rate"], settings["more_epochs"], seed)
        x, y = splits["validation"]
        figures["validation"] = float(np.mean(student.predict(x, batch_size=500, verbose=0).argmax(-1) == y))
    form = "int8" if kind in ("calibrated", "learnt") else "float32"
    with tempfile.TemporaryDirectory() as folder:
        report = kd.export_student(
            student,
            folder,
            formats="tflite",
            quantize=form,
            representative_data=splits["train"][0][: settings["calibration"]],
            evaluation_data=splits["test"],
            tolerances={form: 0.0},  # what is lost is what is asked
        )
    file = report.files[0]
    return {
        **figures,
        "accuracy": file.accuracy,
        "keras_accuracy": report.keras_accuracy,
        "agreement": file.agreement,
        "bytes": file.size_bytes,
        "milliseconds": file.latency_ms_median,
    }


def files_of(records: Sequence[Record]) -> dict[str, dict[str, list[Record]]]:
    """By student and kind, its records by seed, at the rate that validation images prefer over all seeds."""
    groups: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for record in records:
        of_kind = groups.setdefault((record.settings["student"], record.settings["kind"]), {})
        of_kind.setdefault(record.setting, []).append(record)
    found: dict[str, dict[str, list[Record]]] = {}
    for (name, kind), by_rate in groups.items():
        found.setdefault(name, {})[kind] = max(by_rate.values(), key=_validated)
    return found


def _validated(records: Sequence[Record]) -> float:
    return sum(record.figures.get("validation", 0.0) for record in records)


def _all(records: Sequence[Record], figure: str) -> list[float]:
    return [record.figures[figure] for record in records]


def page(records: Sequence[Record]) -> Page:
    """Accuracy of every file, and what it is over others of its student."""
    files = files_of(records)
    used = next(record.settings for record in records if "more_epochs" in record.settings)
    tried = dict.fromkeys(record.settings.get("more_rate") for record in records)
    rates = {
        name: {kind: kinds[kind][0].settings["more_rate"] for kind in ("learnt", "longer")}
        for name, kinds in files.items()
    }
    words = (
        f"`{used['teacher']['dataset']}`, {used['examples']:,} training images, {used['epochs']} epochs in float, "
        f"{used['more_epochs']} more. Test accuracy in percent of the files, run by LiteRT on all test images, mean "
        "and standard deviation over the seeds; gains in points, paired by seed, with their 95 % interval. Learning "
        f"rates, chosen on validation images among {', '.join(f'{rate:g}' for rate in tried if rate)}: "
        + "; ".join(f"{name}: {of['learnt']:g} in int8, {of['longer']:g} in float" for name, of in rates.items())
        + "."
    )
    head = ["student", "parameters", "file", "bytes", "test accuracy", "over float32", "over int8, calibrated"]
    rows = [row for name, kinds in files.items() for row in _rows(name, kinds, used["more_epochs"])]
    return Page(
        "int8, calibrated and learnt",
        [words, Table([*head, "says what Keras says"], rows)],
        lambda: picture(files),
    )


def _rows(name: str, kinds: dict[str, list[Record]], more_epochs: int) -> Iterator[list[str]]:
    for kind, called in KINDS.items():
        accuracies = _all(kinds[kind], "accuracy")
        over = [
            "" if kind in ("float", other) else shown(gain(accuracies, _all(kinds[other], "accuracy"), kind))
            for other in ("float", "calibrated")
        ]
        sizes = [f"{kinds[kind][0].figures[figure]:,}" for figure in ("parameters", "bytes")]
        agreement = 100 * statistics.mean(_all(kinds[kind], "agreement"))
        called = called.format(more_epochs)
        yield [name, sizes[0], called, sizes[1], percent(accuracies), *over, f"{agreement:.2f} %"]


def picture(files: dict[str, dict[str, list[Record]]]) -> Figure:
    """Each seed's files, beside its float student's."""
    drawn = figure(9, 3.4)
    colors = {"calibrated": "#d1702a", "longer": "#8a8a8a", "learnt": "#1f6fb4"}
    for axes, (name, kinds) in zip(
        drawn.subplots(1, len(files), sharey=True, squeeze=False)[0], files.items(), strict=True
    ):
        for place, (kind, color) in enumerate(colors.items()):
            points = 100 * (np.array(_all(kinds[kind], "accuracy")) - np.array(_all(kinds["float"], "accuracy")))
            axes.plot([place] * len(points), points, "o", color=color, alpha=0.7)
            axes.plot([place - 0.2, place + 0.2], [points.mean()] * 2, color=color, linewidth=2.5)
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set(title=name, xticks=range(3), xlim=(-0.5, 2.5))
        axes.set_xticklabels(["int8\ncalibrated", "float32\nlonger", "int8\nlearnt"])
        axes.spines[["top", "right"]].set_visible(False)
    drawn.axes[0].set_ylabel("points over the float32 student")
    return drawn
