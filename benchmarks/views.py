"""How many augmented views of a cached teacher are enough? Fashion-MNIST, against the teacher live in every step.

    TFDS_DATA_DIR=... python benchmarks/views.py

Teacher and student of `benchmarks/fashion_mnist.py`. The student sees 1,000 images, flipped and shifted, for 100
epochs: their labels alone, or the teacher alone (alpha = 0), live on a new view in each epoch or from caches of 1, 4,
16 and 50 views, which come again when they are used up. Then 16 views in other codecs. Three seeds; nothing is tuned.
(A first set-up, with the smaller student of `benchmarks/methods.py` and labels beside the teacher, was stopped after
five runs: all lay between 78.9 and 79.6 %.) Runs that are done are not done again. Writes
`benchmarks/results/views.json`, `.md` and `.png`.
"""

import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from fashion_mnist import RUNS, build_student, train_teacher
from methods import load

import keras_kd as kd

FOLDER = Path("saved_models/views")
RESULTS = Path(__file__).parent / "results"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/views.py"
EXAMPLES, EPOCHS, BATCH, RATE, SEEDS = 1000, 100, 64, 2e-3, (0, 1, 2)
AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))


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


def training_data(setting: str, source: tf.data.Dataset, teacher: keras.Model, seed: int) -> tf.data.Dataset:
    """Batches of a run: of a cache, or augmented anew in each epoch."""
    arguments = SETTINGS[setting].cache
    if arguments is None:
        return kd.data.pipeline(source, batch_size=BATCH, training=True, augment=AUGMENT, seed=seed)
    folder = FOLDER / "caches" / setting
    kd.cache_teacher(teacher, source, folder, augment=AUGMENT, **arguments)
    cached = kd.open_cache(folder, source, augment=AUGMENT)
    return cached.shuffle(EXAMPLES, seed=seed).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def run(setting: str, seed: int, teacher: keras.Model, splits) -> dict:
    """Trains one student, or reads what was left of it; returns its figures."""
    path = FOLDER / "runs" / f"{setting}_{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    keras.utils.set_random_seed(seed)
    source = tf.data.Dataset.from_tensor_slices(tuple(values[:EXAMPLES] for values in splits["train"]))
    data = training_data(setting, source, teacher, seed)
    student = build_student()
    alone = setting == "alone"
    learner = student if alone else kd.Distiller(student, teacher if SETTINGS[setting].live else None, alpha=0.0)
    decay = keras.optimizers.schedules.CosineDecay(RATE, EPOCHS * len(data))
    learner.compile(keras.optimizers.Adam(decay), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    learner.fit(data, epochs=EPOCHS, verbose=0, shuffle=False)
    x, y = splits["test"]
    says = student.predict(x, batch_size=500, verbose=0).argmax(-1)
    figures = {"accuracy": float(np.mean(says == y)), "agreement": float(np.mean(says == splits["test_teacher"]))}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))
    keras.backend.clear_session()
    return figures


def bytes_per_image(setting: str) -> int | None:
    """What a cache takes for an image with all its views."""
    manifest = FOLDER / "caches" / setting / "manifest.json"
    return json.loads(manifest.read_text())["bytes_per_example"] if manifest.exists() else None


def spread(values: list[float]) -> str:
    """Mean and standard deviation over the seeds, in percent."""
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f} %"


def table(results: dict[str, dict], teacher_accuracy: float) -> str:
    """The results as Markdown."""
    lines = [
        "# How many views are enough?",
        "",
        f"`{COMMAND}`: Fashion-MNIST, {EXAMPLES:,} training images, {EPOCHS} epochs, `{AUGMENT}`. Teacher "
        f"({100 * teacher_accuracy:.2f} %) and student of `benchmarks/fashion_mnist.py`, `alpha=0`. Mean and standard "
        f"deviation over {len(SEEDS)} seeds.",
        "",
        "| teacher's signals | bytes an image | test accuracy | says what the teacher says |",
        "|---|---|---|---|",
    ]
    for key, result in results.items():
        size = "" if result["bytes_per_image"] is None else f"{result['bytes_per_image']:,}"
        accuracy, agreement = (spread([run[name] for run in result["runs"]]) for name in ("accuracy", "agreement"))
        lines.append(f"| {SETTINGS[key].title} | {size} | {accuracy} | {agreement} |")
    return "\n".join(lines) + "\n"


def plot(results: dict[str, dict]) -> plt.Figure:
    """Accuracy against views, between labels alone and the live teacher."""
    drawn, axis = plt.subplots(figsize=(8.5, 4.2), layout="constrained")
    mean, deviation = (
        {key: 100 * of([run["accuracy"] for run in result["runs"]]) for key, result in results.items()}
        for of in (statistics.mean, statistics.stdev)
    )
    for key, colour in (("live", "tab:green"), ("alone", "tab:gray")):
        axis.axhline(mean[key], color=colour, label=SETTINGS[key].title)
        axis.axhspan(mean[key] - deviation[key], mean[key] + deviation[key], color=colour, alpha=0.15, lw=0)
    for keys, marker, beside in (
        ([key for key in results if key.startswith("views_")], "o-", 1.0),
        (["int8"], "s", 1.08),
        (["top_3"], "^", 0.93),
        (["sampled_4"], "v", 1.0),
    ):
        views = [SETTINGS[key].cache["views"] * beside for key in keys]
        label = "cached, float16" if len(keys) > 1 else SETTINGS[keys[0]].title
        heights, errors = ([of[key] for key in keys] for of in (mean, deviation))
        axis.errorbar(views, heights, errors, fmt=marker, capsize=3, label=label)
    axis.set(xscale="log", xticks=[1, 4, 16, 50], xlabel="cached views of an image", ylabel="test accuracy, %")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def main() -> None:
    """Runs what is missing and writes table and plot."""
    splits = load()
    if not (RUNS / "teacher.keras").exists():
        RUNS.mkdir(parents=True, exist_ok=True)
        train_teacher(RUNS / "teacher.keras")
    teacher = keras.saving.load_model(RUNS / "teacher.keras")
    splits["test_teacher"] = teacher.predict(splits["test"][0], batch_size=500, verbose=0).argmax(-1)
    teacher_accuracy = float(np.mean(splits["test_teacher"] == splits["test"][1]))
    for seed in SEEDS:
        for setting in SETTINGS:
            print(setting, seed, run(setting, seed, teacher, splits), flush=True)
    results = {
        key: {"bytes_per_image": bytes_per_image(key), "runs": [run(key, seed, teacher, splits) for seed in SEEDS]}
        for key in SETTINGS
    }
    RESULTS.joinpath("views.json").write_text(json.dumps({"teacher": teacher_accuracy, "settings": results}, indent=1))
    RESULTS.joinpath("views.md").write_text(table(results, teacher_accuracy), encoding="utf-8")
    plot(results).savefig(RESULTS / "views.png", dpi=120)


if __name__ == "__main__":
    main()
