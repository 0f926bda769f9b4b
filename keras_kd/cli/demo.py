"""`keras-kd demo`: the whole main job on handwritten digits, in about a minute."""

import argparse
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import data, plots
from keras_kd.cli.runs import save_model, save_picture, writing_to
from keras_kd.distiller import Distiller
from keras_kd.export import ExportedFile, export_student
from keras_kd.whole_files import write_text

LABELS_PER_CLASS = 5
# Chosen on validation images by `benchmarks/label_efficiency.py`: where labels are few, the teacher is heard alone.
RECIPE = {"alpha": 0.0, "temperature": 2.0}
EPOCHS = 40


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "demo",
        help="distil real handwritten digits into a TFLite file, without download",
        description="A teacher was shown 1,167 labelled digits, the student has 50 of the labels. Trains the teacher, "
        "the student alone, and the student distilled on all the digits, and writes the student for the phone.",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="students of each kind (default 5)")
    parser.add_argument("--out", default="saved_models/digits", metavar="DIR", help="default: saved_models/digits")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1. Received: {options.seeds}")
    out = Path(options.out)
    with writing_to(out):
        return _run(out, options)


def _run(out: Path, options: argparse.Namespace) -> int:
    source = data.load("digits")

    keras.utils.set_random_seed(0)
    teacher = build_teacher()
    _fit("teacher", teacher, _arrays(source.train), source, seed=0)
    students, runs = [], {"alone": [], "distilled": []}
    for seed in range(options.seeds):
        alone, distilled = _train_students(teacher, source, seed)
        for kind, (student, history) in (("alone", alone), ("distilled", distilled)):
            runs[kind].append({**_measure(student, teacher, source), "history": history})
        students.append(distilled[0])

    save_model(students[0], out / "student.keras")
    report = export_student(
        students[0], out, evaluation_data=data.pipeline(source.test), teacher=teacher, labels=source.class_names
    )
    result = {
        "teacher": {**_size(teacher.count_params(), report.teacher.file), **_measure(teacher, teacher, source)},
        "student": _size(report.parameters, next(file for file in report.files if file.format == "tflite")),
        "runs": runs,
    }
    write_text(out / "demo.json", json.dumps(result, indent=2))
    save_picture(_picture(result, teacher, students[0], source), out / "demo.png", dpi=150)
    print(f"\n{table(result)}\n\n{verdict(result)}\n\n{report}\n")
    print(
        f"Written to {out}: student.keras, saved_model/, student.tflite, labels.txt, report.json, evaluation.json, "
        "demo.json, demo.png"
    )
    return 0


def build_teacher() -> keras.Model:
    """A convolutional network of 151 thousand weights."""
    return _network("teacher", 32, keras.layers.Dropout(0.3), keras.layers.Dense(128, activation="relu"))


def build_student() -> keras.Model:
    """A convolutional network of 4 thousand weights."""
    return _network("student", 8)


def _network(name: str, width: int, *head: keras.Layer) -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(width, 3, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            *head,
            layers.Dense(10),
        ],
        name=name,
    )


def _train_students(teacher: keras.Model, source: data.Source, seed: int) -> list[tuple[keras.Model, dict]]:
    """The student alone, on the few labels; and distilled, on all the digits, without theirs."""
    x, y = _arrays(source.train)
    # Repeated, so that both students make the same number of steps.
    few = np.resize(_draw_labelled(y, seed), len(y))
    keras.utils.set_random_seed(seed)
    alone = build_student()
    alone_history = _fit(f"student alone, seed {seed}", alone, (x[few], y[few]), source, seed)
    keras.utils.set_random_seed(seed)
    distiller = Distiller(build_student(), teacher, **RECIPE)
    distilled_history = _fit(f"student distilled, seed {seed}", distiller, x, source, seed)
    return [(alone, alone_history), (distiller.student, distilled_history)]


def _draw_labelled(labels: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    by_class = [np.flatnonzero(labels == label) for label in range(10)]
    return np.concatenate([rng.choice(indices, LABELS_PER_CLASS, replace=False) for indices in by_class])


def _fit(title: str, model: keras.Model, examples: Any, source: data.Source, seed: int) -> dict[str, list[float]]:
    """Trains any of the three in the same way."""
    dataset = tf.data.Dataset.from_tensor_slices(examples)
    train = data.pipeline(dataset, training=True, batch_size=64, augment=data.random_shift(1), seed=seed)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    print(title)
    validation = data.pipeline(source.validation)
    # The pipeline shuffles; Keras 3.15 warns if it is left to think that it should.
    return model.fit(
        train, validation_data=validation, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[_Progress()]
    ).history


class _Progress(keras.callbacks.Callback):
    """One Keras progress bar for a run, a step of it for each epoch."""

    def on_train_begin(self, logs=None):
        self._bar = keras.utils.Progbar(self.params["epochs"], unit_name="epoch", stateful_metrics=["val_accuracy"])

    def on_epoch_end(self, epoch, logs=None):
        self._bar.update(epoch + 1, [("val_accuracy", logs["val_accuracy"])])


def _arrays(dataset: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
    x, y = next(iter(dataset.batch(len(dataset))))
    return x.numpy(), y.numpy()


def _measure(model: keras.Model, teacher: keras.Model, source: data.Source) -> dict[str, float]:
    x, y = _arrays(source.test)
    named, taught = (one.predict(x, verbose=0).argmax(-1) for one in (model, teacher))
    return {"accuracy": float((named == y).mean()), "agreement": float((named == taught).mean())}


def _size(parameters: int, file: ExportedFile) -> dict[str, float]:
    return {"parameters": parameters, "bytes": file.size_bytes, "latency_ms": file.latency_ms_median}


def table(result: dict) -> str:
    """Parameters, bytes, accuracy with its spread and agreement with the teacher, as text."""
    rows = [("", "parameters", "TFLite bytes", "test accuracy", "agrees with teacher")]
    rows.append(_row("teacher", result["teacher"], [result["teacher"]]))
    rows += [_row(f"student {kind}", result["student"], runs) for kind, runs in result["runs"].items()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _row(name: str, size: dict, runs: list[dict]) -> tuple[str, ...]:
    shares = ([run[key] for run in runs] for key in ("accuracy", "agreement"))
    return (name, f"{size['parameters']:,}", f"{size['bytes']:,}", *(_spread(values) for values in shares))


def _spread(values: list[float]) -> str:
    mean = f"{100 * np.mean(values):.1f} %"
    return mean if len(values) == 1 else f"{mean} ± {100 * np.std(values, ddof=1):.1f}"


def verdict(result: dict) -> str:
    """Says whether distillation helped: seed by seed, since both students start from the same weights and labels."""
    alone, distilled = ([run["accuracy"] for run in result["runs"][kind]] for kind in ("alone", "distilled"))
    gains = 100 * (np.array(distilled) - np.array(alone))
    better = f"on {int((gains > 0).sum())} of {len(gains)} seeds"
    if gains.mean() <= 0:
        return f"Distillation did not help here: {gains.mean():+.1f} points of test accuracy, better {better}."
    smaller = result["teacher"]["bytes"] / result["student"]["bytes"]
    return f"Distillation gained {gains.mean():.1f} points of test accuracy, better {better}, {smaller:.0f} × smaller."


def _picture(result: dict, teacher: keras.Model, student: keras.Model, source: data.Source):
    drawn = plots.figure(12, 7)
    above, below = drawn.subfigures(2, 1, height_ratios=[1, 1])
    curves, sizes = above.subplots(1, 2)
    plots.learning_curves(
        {kind: [run["history"] for run in runs] for kind, runs in result["runs"].items()}, axes=curves
    )
    points = [{"name": "teacher", "bytes": result["teacher"]["bytes"], "accuracies": [result["teacher"]["accuracy"]]}]
    for kind, runs in result["runs"].items():
        accuracies = [run["accuracy"] for run in runs]
        points.append({"name": kind, "bytes": result["student"]["bytes"], "accuracies": accuracies})
    plots.accuracy_against_size(points, axes=sizes)
    curves.set_title(f"A student with {10 * LABELS_PER_CLASS} labels, alone and with a teacher")
    sizes.set_title("What it costs on the phone")

    x, y = _arrays(source.test)
    taught, learnt = (_softened(model, x) for model in (teacher, student))
    unsure = np.argsort(taught.max(-1))[:6]
    panels = below.subplots(2, 6, height_ratios=[1.2, 1])
    below.suptitle(
        "The digits that the teacher is least sure of: its soft labels at T = 4, and the distilled student's"
    )
    beliefs = {"teacher": taught[unsure], "distilled": learnt[unsure]}
    plots.soft_labels(x[unsure], y[unsure], beliefs, list(zip(*panels, strict=True)))
    return drawn


def _softened(model: keras.Model, x: np.ndarray, temperature: float = 4.0) -> np.ndarray:
    return keras.ops.convert_to_numpy(keras.ops.softmax(model.predict(x, verbose=0) / temperature))
