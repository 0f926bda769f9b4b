"""Distils a Fashion-MNIST teacher into a student of 1/20 its size, beside the same student trained alone.

    TFDS_DATA_DIR=... python benchmarks/fashion_mnist.py

Trains the teacher once, then runs `keras-kd distill` for three seeds with alpha = 1 (the labels alone) and with the
defaults (alpha = 0.3, temperature = 4), same student, same steps, same augmentation. Runs that are done are not done
again. Writes `benchmarks/results/fashion_mnist.md`.
"""

import json
import statistics
from pathlib import Path

import keras

import keras_kd as kd
from keras_kd.cli import main
from keras_kd.plots import read_history

RUNS = Path("saved_models/fashion_mnist")
RESULT = Path(__file__).parent / "results" / "fashion_mnist.md"
SEEDS = (0, 1, 2)
TEACHER_EPOCHS, STUDENT_EPOCHS = 12, 10
ALPHAS = {"distilled": "0.3", "alone": "1.0"}
TITLES = {"alone": "student alone (alpha = 1)", "distilled": "student distilled (alpha = 0.3, T = 4)"}
COMMAND = "TFDS_DATA_DIR=... python benchmarks/fashion_mnist.py"


def build_teacher() -> keras.Model:
    """A plain convolutional network of a quarter million weights."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *_block(32),
            layers.MaxPooling2D(),
            *_block(64),
            layers.MaxPooling2D(),
            *_block(128),
            *_block(128),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            layers.Dense(10),
        ],
        name="teacher",
    )


def _block(filters: int) -> list[keras.Layer]:
    layers = keras.layers
    return [layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.BatchNormalization()]


def build_student() -> keras.Model:
    """Depthwise separable convolutions, small enough for a microcontroller."""
    layers = keras.layers
    stack = [keras.Input((28, 28, 1)), layers.Conv2D(16, 3, strides=2, padding="same")]
    for filters, strides in ((32, 1), (64, 2), (64, 1)):
        stack += [layers.BatchNormalization(), layers.ReLU()]
        stack += [layers.SeparableConv2D(filters, 3, strides=strides, padding="same")]
    head = [layers.BatchNormalization(), layers.ReLU(), layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential([*stack, *head], name="student")


def train_teacher(path: Path) -> None:
    """Trains the teacher on the labels, with flips left to the reader: shifts of two pixels only."""
    source = kd.data.load("fashion_mnist")
    transform = kd.data.input_transform(source, (28, 28, 1))
    train = kd.data.pipeline(source.train, training=True, transform=transform, augment=kd.data.random_shift(2))
    validation = kd.data.pipeline(source.validation, transform=transform, batch_size=512)
    keras.utils.set_random_seed(0)
    teacher = build_teacher()
    rate = keras.optimizers.schedules.CosineDecay(2e-3, TEACHER_EPOCHS * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    teacher.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    teacher.fit(train, validation_data=validation, epochs=TEACHER_EPOCHS, verbose=2)
    teacher.save(path)


def distil(teacher: Path, kind: str, alpha: str, seed: int) -> dict:
    """One run of `keras-kd distill`, or what is left of it; returns its figures."""
    out, student = RUNS / f"{kind}_{seed}", RUNS / f"student_{seed}.keras"
    if not (out / "report.json").exists():
        keras.utils.set_random_seed(seed)
        build_student().save(student)
        words = ["--teacher", teacher, "--student", student, "--dataset", "fashion_mnist", "--out", out]
        words += ["--epochs", STUDENT_EPOCHS, "--alpha", alpha, "--seed", seed]
        words += ["--resume"] if (out / "run.json").exists() else []
        if main(["distill", *map(str, words)]):
            raise SystemExit(f"keras-kd distill failed for {out}")
    figures = {name: json.loads((out / f"{name}.json").read_text()) for name in ("report", "run")}
    return {**figures, "agreement": read_history(out / "history.csv")["val_agreement"][-1]}


def table(teacher_bytes: int, runs: dict[str, list[dict]]) -> str:
    """The results as Markdown."""
    first = runs["distilled"][0]
    lines = [
        "# Fashion-MNIST: one teacher, one student, alone and distilled",
        "",
        f"`{COMMAND}`: {STUDENT_EPOCHS} epochs of 54,000 images, batch 128, Adam with cosine decay from 1e-3, seeds "
        f"{SEEDS}; alpha and temperature are the library's defaults, nothing was tuned. The 10,000 test images are "
        "used once per run. CPU, 2 cores.",
        "",
        "| model | parameters | TFLite bytes | test accuracy | names the teacher's class (validation) | "
        "TFLite = Keras on | largest difference of logits |",
        "|---|---|---|---|---|---|---|",
        f"| teacher | {first['run']['teacher_parameters']:,} | {teacher_bytes:,} | "
        f"{first['run']['teacher_accuracy']:.2%} | | | |",
    ]
    for kind, title in TITLES.items():
        files = [run["report"]["files"][-1] for run in runs[kind]]
        accuracies = [100 * file["accuracy"] for file in files]
        agreements = [100 * run["agreement"] for run in runs[kind]]
        same = [round(file["agreement"] * file["examples"]) for file in files]
        lines.append(
            f"| {title} | {first['report']['parameters']:,} | {files[0]['size_bytes']:,} | "
            f"{_spread(accuracies)} | {_spread(agreements)} | "
            f"{', '.join(f'{n:,}' for n in same)} of {files[0]['examples']:,} | "
            f"{max(file['max_abs_difference'] for file in files):.1e} |"
        )
    gains = [
        100 * (after["report"]["files"][-1]["accuracy"] - before["report"]["files"][-1]["accuracy"])
        for before, after in zip(runs["alone"], runs["distilled"], strict=True)
    ]
    lines += ["", f"Gain by seed, in points: {', '.join(f'{gain:+.2f}' for gain in gains)}.", ""]
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f} %"


if __name__ == "__main__":
    RUNS.mkdir(parents=True, exist_ok=True)
    teacher = RUNS / "teacher.keras"
    if not teacher.exists():
        train_teacher(teacher)
    runs = {kind: [distil(teacher, kind, alpha, seed) for seed in SEEDS] for kind, alpha in ALPHAS.items()}
    report = kd.export_student(keras.saving.load_model(teacher), RUNS / "teacher_tflite", formats="tflite")
    RESULT.write_text(table(report.files[0].size_bytes, runs))
    print(RESULT.read_text())
