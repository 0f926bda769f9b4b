"""int8 by calibration, and int8 that was learnt: three kinds of students of Fashion-MNIST, distilled from one teacher.

    TFDS_DATA_DIR=... python benchmarks/quantization.py      # about half an hour on 2 cores

A convolutional, a depthwise-separable and a transformer student are distilled in float from 20,000 images of a teacher
that was asked once. Each then leaves as int8 in two ways: calibrated on 300 training images; and after `fake_quantize`
and four more epochs from the same teacher, at a learning rate chosen on validation images among three. For a fair share
the float student gets four more epochs at the same rates, too. Accuracy is that of the files, run by LiteRT on all
10,000 test images; agreement is how often a file names the class that its Keras model names. Runs that are done are
not done again. Writes `benchmarks/results/quantization.json`, `.md` and `.png`.
"""

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from methods import load, teacher_of
from small_runs import gain, mean_and_deviation, remembered, shown

import keras_kd as kd
from keras_kd.plots import figure

FOLDER = Path("saved_models/quantization")
RESULTS = Path(__file__).parent / "results"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/quantization.py"
SEEDS, RATES = (0, 1, 2), (1e-3, 3e-4, 1e-4)
EXAMPLES, BATCH, EPOCHS, MORE_EPOCHS, RATE = 20_000, 128, 12, 4, 3e-3
CALIBRATION = 300
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


class Study:
    """All runs, each done once and kept in a folder."""

    def __init__(self):
        self._splits = load()
        x, y = (values[:EXAMPLES] for values in self._splits["train"])
        self._calibration = x[:CALIBRATION]
        source = tf.data.Dataset.from_tensor_slices((x, y))
        cache = FOLDER / "teacher"
        self.teacher = teacher_of(self._splits)
        kd.cache_teacher(self.teacher, source.batch(500), cache, dtype="float32")
        self._taught = kd.open_cache(cache, source).cache()

    def _distil(self, student: keras.Model, rate: float, epochs: int, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        decay = keras.optimizers.schedules.CosineDecay(rate, epochs * -(-EXAMPLES // BATCH))
        distiller = kd.Distiller(student, None)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        distiller.compile(keras.optimizers.Adam(decay), loss)
        data = self._taught.shuffle(EXAMPLES, seed=seed).batch(BATCH)
        distiller.fit(data, epochs=epochs, shuffle=False, verbose=0)

    def float_student(self, name: str, seed: int) -> keras.Model:
        """Distilled in float."""
        path = FOLDER / f"{STUDENTS[name].__name__}_{seed}.keras"
        if not path.exists():
            keras.utils.set_random_seed(seed)
            student = STUDENTS[name]()
            self._distil(student, RATE, EPOCHS, seed)
            student.save(path)
        return keras.saving.load_model(path)

    def _exported(self, student: keras.Model, form: str) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            report = kd.export_student(
                student,
                folder,
                formats="tflite",
                quantize=form,
                representative_data=self._calibration,
                evaluation_data=self._splits["test"],
                tolerances={form: 0.0},  # what is lost is what is asked
            )
        file = report.files[0]
        return {
            "accuracy": file.accuracy,
            "keras_accuracy": report.keras_accuracy,
            "agreement": file.agreement,
            "bytes": file.size_bytes,
            "milliseconds": file.latency_ms_median,
        }

    def calibrated(self, name: str, seed: int) -> dict[str, Any]:
        """The float student as float32, and as int8 after calibration."""

        def measure():
            student = self.float_student(name, seed)
            files = {form: self._exported(student, form) for form in ("float32", "int8")}
            return {**files, "parameters": student.count_params()}

        return remembered(FOLDER / "runs" / f"{STUDENTS[name].__name__}_{seed}.json", measure)

    def learnt(self, name: str, rate: float, seed: int, quantized: bool) -> dict[str, Any]:
        """Four more epochs, in int8 or in float; accuracy on validation images in Keras, and the file's."""

        def train():
            student = self.float_student(name, seed)
            student = kd.quantization.fake_quantize(student) if quantized else student
            self._distil(student, rate, MORE_EPOCHS, seed)
            x, y = self._splits["validation"]
            validation = float(np.mean(student.predict(x, batch_size=500, verbose=0).argmax(-1) == y))
            return {"validation": validation, **self._exported(student, "int8" if quantized else "float32")}

        kind = "int8" if quantized else "float"
        return remembered(FOLDER / "runs" / f"{STUDENTS[name].__name__}_{kind}_{rate:g}_{seed}.json", train)

    def best(self, name: str, quantized: bool) -> tuple[float, list[dict[str, Any]]]:
        """The rate that validation images prefer over all seeds, and its runs."""
        runs = {rate: [self.learnt(name, rate, seed, quantized) for seed in SEEDS] for rate in RATES}
        rate = max(runs, key=lambda rate: sum(run["validation"] for run in runs[rate]))
        return rate, runs[rate]


def results_of(study: Study) -> dict[str, Any]:
    """Everything the tables say."""
    results = {}
    for name in STUDENTS:
        calibrated = [study.calibrated(name, seed) for seed in SEEDS]
        (learnt_rate, learnt), (float_rate, longer) = study.best(name, True), study.best(name, False)
        results[name] = {
            "parameters": calibrated[0]["parameters"],
            "float": [run["float32"] for run in calibrated],
            "longer": longer,
            "calibrated": [run["int8"] for run in calibrated],
            "learnt": learnt,
            "rates": {"learnt": learnt_rate, "longer": float_rate},
        }
        print(name, *(f"{kind} {mean_and_deviation(accuracies(results[name], kind))}" for kind in KINDS), sep=", ")
    return results


KINDS = {
    "float": "float32",
    "calibrated": "int8, calibrated",
    "longer": "float32, 4 epochs more",
    "learnt": "int8, learnt in 4 epochs",
}


def accuracies(result: dict[str, Any], kind: str) -> list[float]:
    """Of the files, by seed."""
    return [run["accuracy"] for run in result[kind]]


def table(results: dict[str, Any]) -> str:
    """Accuracy of every file with its spread, in Markdown."""
    rows = [
        "| student | parameters | file | bytes | test accuracy | over float32 | over int8, calibrated | "
        "says what Keras says |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, result in results.items():
        for kind, called in KINDS.items():
            found = accuracies(result, kind)
            over = {
                other: "" if kind in ("float", other) else shown(gain(found, accuracies(result, other), kind))
                for other in ("float", "calibrated")
            }
            agreement = 100 * statistics.mean(run["agreement"] for run in result[kind])
            rows.append(
                f"| {name} | {result['parameters']:,} | {called} | {result[kind][0]['bytes']:,} "
                f"| {mean_and_deviation(found)} | {over['float']} | {over['calibrated']} | {agreement:.2f} % |"
            )
    return "\n".join(rows)


def page(results: dict[str, Any]) -> str:
    """The whole report."""
    rates = "; ".join(
        f"{name}: {result['rates']['learnt']:g} in int8, {result['rates']['longer']:g} in float"
        for name, result in results.items()
    )
    return "\n".join(
        [
            "# int8, calibrated and learnt",
            "",
            f"`{COMMAND}`: Fashion-MNIST, {EXAMPLES:,} training images, {EPOCHS} epochs in float, {MORE_EPOCHS} "
            f"more. {len(SEEDS)} seeds; test accuracy in percent of the files, run by LiteRT on 10,000 images, mean "
            "and standard deviation; gains in points, paired by seed, with their 95 % interval. Learning rates, chosen "
            f"on validation images among {', '.join(f'{rate:g}' for rate in RATES)}: {rates}.",
            "",
            table(results),
            "",
        ]
    )


def picture(results: dict[str, Any]) -> Any:
    """Each seed's files, beside its float student's."""
    drawn = figure(9, 3.4)
    colors = {"calibrated": "#d1702a", "longer": "#8a8a8a", "learnt": "#1f6fb4"}
    for axes, (name, result) in zip(drawn.subplots(1, len(results), sharey=True), results.items(), strict=True):
        for place, (kind, color) in enumerate(colors.items()):
            points = 100 * (np.array(accuracies(result, kind)) - np.array(accuracies(result, "float")))
            axes.plot([place] * len(points), points, "o", color=color, alpha=0.7)
            axes.plot([place - 0.2, place + 0.2], [points.mean()] * 2, color=color, linewidth=2.5)
        axes.axhline(0, color="#444444", linewidth=0.8)
        axes.set(title=name, xticks=range(3), xlim=(-0.5, 2.5))
        axes.set_xticklabels(["int8\ncalibrated", "float32\nlonger", "int8\nlearnt"])
        axes.spines[["top", "right"]].set_visible(False)
    drawn.axes[0].set_ylabel("points over the float32 student")
    return drawn


def main() -> None:
    """Runs what is missing and writes the tables."""
    results = results_of(Study())
    (RESULTS / "quantization.json").write_text(json.dumps({"command": COMMAND, **results}, indent=1) + "\n")
    (RESULTS / "quantization.md").write_text(page(results))
    picture(results).savefig(RESULTS / "quantization.png", dpi=120)
    print(table(results))


if __name__ == "__main__":
    main()
