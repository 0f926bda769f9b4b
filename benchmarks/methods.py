"""Every method of the library on Fashion-MNIST: one teacher, one small student, one budget, three seeds.

    TFDS_DATA_DIR=... python benchmarks/methods.py

The teacher learns from all training images, the student sees 1,000 of them. Each method is added to the student's own
loss, `0.5 · loss + 0.5 · weight · method` (SimKD alone, as in its paper), with its paper's weight times 0.01, 0.1 and 1
and the paper's own settings otherwise. The factor is chosen on validation data, with the first seed; the test images
decide nothing. Runs that are done are not done again. Writes
`benchmarks/results/methods.json`, `.md` and `.png`. Names of methods as arguments run those alone, without tables.
"""

import json
import statistics
import sys
from pathlib import Path

import keras
import numpy as np
from methods_list import METHODS, STAGES, Method

import keras_kd as kd
from keras_kd.plots import figure

FOLDER = Path("saved_models/methods")
RESULTS = Path(__file__).parent / "results"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/methods.py"
FACTORS, SEEDS = (0.01, 0.1, 1.0), (0, 1, 2)
EXAMPLES, EPOCHS, BATCH, RATE = 1000, 60, 64, 4e-3
TEACHER_EPOCHS = 8


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


def load() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images in [0, 1] and labels by split, in memory."""
    source = kd.data.load("fashion_mnist")
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


def teacher_of(splits) -> keras.Model:
    """The teacher, trained where it is not yet."""
    path = FOLDER / "teacher.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        teacher = build_teacher()
        train(teacher, splits["train"], TEACHER_EPOCHS, 128, 2e-3)
        path.parent.mkdir(parents=True, exist_ok=True)
        teacher.save(path)
    return keras.saving.load_model(path)


def run(key: str, method: Method, factor: float, seed: int, teacher: keras.Model, splits) -> dict:
    """Trains one student, or reads what was left of it; returns its figures."""
    path = FOLDER / "runs" / f"{key}_{factor:g}_{seed}.json"
    if path.exists():
        return json.loads(path.read_text())
    keras.utils.set_random_seed(seed)
    weight = factor * method.weight
    distiller = kd.Distiller(build_student(), teacher, method.make(weight), alpha=method.alpha)
    data = tuple(values[:EXAMPLES] for values in splits["train"])
    train(distiller, data, EPOCHS, BATCH, RATE, callbacks=method.callbacks(weight))
    figures = {"method": key, "factor": factor, "seed": seed}
    for split in ("validation", "test"):
        x, y = splits[split]
        says = distiller.predict(x, batch_size=500, verbose=0).argmax(-1)
        figures[split] = float(np.mean(says == y))
        figures[f"{split}_agreement"] = float(np.mean(says == splits[f"{split}_teacher"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures))
    keras.backend.clear_session()
    return figures


def chosen_runs(key: str, method: Method, teacher: keras.Model, splits) -> tuple[float, list[dict]]:
    """The factor that validation data prefer, and its runs for every seed."""
    factors = FACTORS if method.tuned else (1.0,)
    first = {factor: run(key, method, factor, SEEDS[0], teacher, splits) for factor in factors}
    best = max(first, key=lambda factor: first[factor]["validation"])
    return best, [run(key, method, best, seed, teacher, splits) for seed in SEEDS]


def exported_weights(method: Method, teacher: keras.Model, splits) -> int:
    """How many weights the student that is exported has."""
    student, objective = build_student(), method.make(1.0)
    if not objective.finishes_student:
        return student.count_params()
    distiller = kd.Distiller(student, teacher, objective, alpha=0.0)
    distiller.compile("sgd")
    distiller.train_on_batch(splits["train"][0][:BATCH])
    return distiller.finished_student.count_params()


def table(results: dict, teacher: dict) -> str:
    """The results as Markdown."""
    alone = results["alone"]["test"]
    lines = [
        "# Every method on Fashion-MNIST",
        "",
        f"`{COMMAND}`: a teacher of {teacher['parameters']:,} weights ({teacher['test']:.2%} on the test images, "
        f"trained on 54,000), a student of {teacher['student_parameters']:,} that sees {EXAMPLES:,} of them with their "
        f"labels, {EPOCHS} epochs, batch {BATCH}, Adam with cosine decay from {RATE:g}, seeds {SEEDS}. Loss: half the "
        "student's own, half the method's times its weight. The weight is the paper's times "
        f"{', '.join(f'{factor:g}' for factor in FACTORS)}, whichever did best on 6,000 validation images with the "
        "first seed; nothing else of a method was tuned. (The budget was, on validation data: 12 epochs of 5,000 "
        "images had left every student undertrained.) Means and standard deviations over the seeds on the 10,000 test "
        "images; gains are paired by seed. CPU, 2 cores.",
        "",
        "| method | source | looks at | its weight | exported weights | test accuracy | gain in points |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, result in results.items():
        method = METHODS[key]
        gains = [100 * (after - before) for after, before in zip(result["test"], alone, strict=True)]
        weight = _rounded(result["factor"] * method.weight) if key != "alone" else ""
        lines.append(
            f"| {method.title} | {method.source} | {method.needs} | {weight} | {result['weights']:,} | "
            f"{_spread([100 * value for value in result['test']])} % | "
            f"{_spread(gains, sign='+') if key != 'alone' else ''} |"
        )
    return "\n".join([*lines, ""])


def _rounded(weight: float) -> str:
    return f"{float(f'{weight:.2g}'):g}"


def _spread(values: list[float], sign: str = "") -> str:
    return f"{statistics.mean(values):{sign}.2f} ± {statistics.stdev(values):.2f}"


def plot(results: dict, path: Path) -> None:
    """Every seed's gain over the same seed alone, methods ordered by their mean."""
    gains = {
        key: [100 * (after - before) for after, before in zip(result["test"], results["alone"]["test"], strict=True)]
        for key, result in results.items()
        if key != "alone"
    }
    order = sorted(gains, key=lambda key: statistics.mean(gains[key]))
    drawing = figure(8, 0.28 * len(order) + 1.2)
    axes = drawing.subplots()
    for row, key in enumerate(order):
        colour = "tab:red" if key == "soft_targets" else "tab:blue"
        axes.plot(gains[key], [row] * len(SEEDS), "o", color=colour, alpha=0.4, markersize=4)
        axes.plot(statistics.mean(gains[key]), row, "|", color=colour, markersize=14, markeredgewidth=2)
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(order)), [METHODS[key].title for key in order], fontsize=8)
    axes.set_xlabel("gain in test accuracy over the student alone, in points: three seeds and their mean")
    axes.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, dpi=120)


def main(keys: list[str]) -> None:
    """Runs what is asked for; all methods write the tables."""
    splits = load()
    teacher = teacher_of(splits)
    for split in ("validation", "test"):
        splits[f"{split}_teacher"] = teacher.predict(splits[split][0], batch_size=500, verbose=0).argmax(-1)
    results = {}
    for key in keys or METHODS:
        factor, runs = chosen_runs(key, METHODS[key], teacher, splits)
        results[key] = {
            "factor": factor,
            "weights": exported_weights(METHODS[key], teacher, splits),
            "test": [figures["test"] for figures in runs],
            "validation": [figures["validation"] for figures in runs],
            "agreement": [figures["test_agreement"] for figures in runs],
        }
        print(key, results[key], flush=True)
    if keys:
        return
    about = {
        "parameters": teacher.count_params(),
        "student_parameters": build_student().count_params(),
        "test": float(np.mean(splits["test_teacher"] == splits["test"][1])),
    }
    (RESULTS / "methods.json").write_text(json.dumps({"teacher": about, "results": results}, indent=1) + "\n")
    (RESULTS / "methods.md").write_text(table(results, about), encoding="utf-8")
    plot(results, RESULTS / "methods.png")


if __name__ == "__main__":
    main(sys.argv[1:])
