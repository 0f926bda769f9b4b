"""Does a discriminator add to soft targets? Every mode of `kd.AdversarialDistiller` on MNIST and Fashion-MNIST.

    TFDS_DATA_DIR=... python benchmarks/adversarial.py                     # half an hour of one core

A small CNN teaches, trained on 20,000 images; the student is an MLP that sees 2,000 others, drawn anew for each seed.
Every row has the same images, steps and initial weights of the student, and chooses from three settings on validation
images, with the first seed: the student alone its learning rate, which all others take over; soft targets temperature
and alpha, which all with soft targets take over; each mode the weight of its game. "GAN alone" has neither labels nor
soft targets. Students of the first seed are exported, and LiteRT runs them on all test images. Runs that are done are
not done again. Writes `benchmarks/results/adversarial/modes.json` and `.md`.
"""

import itertools
import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
from small_runs import accuracy, gain, mean_and_deviation, remembered, shown

import keras_kd as kd

FOLDER, RESULTS = Path("saved_models/adversarial/modes"), Path(__file__).parent / "results" / "adversarial"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/adversarial.py"
DATASETS, SEEDS = ("mnist", "fashion_mnist"), (0, 1, 2)
TEACHER_EXAMPLES, EXAMPLES, VALIDATION = 20_000, 2000, 5000
TEACHER_EPOCHS, EPOCHS, BATCH = 3, 20, 50
WEIGHTS = [{"adversarial_weight": weight} for weight in (0.03, 0.1, 0.3)]


@dataclass(frozen=True)
class Row:
    """A way to train the student.

    Attributes:
        title: In the table.
        settings: What validation chooses from.
        after: The row whose choice it takes over.
        fixed: Arguments of the distiller, with a mode those of `AdversarialDistiller`.
    """

    title: str
    settings: list[dict[str, float]]
    after: str | None = None
    fixed: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "alone": Row("student alone", [{"rate": rate} for rate in (1e-3, 2e-3, 4e-3)], fixed={"alpha": 1.0}),
    "soft": Row(
        "soft targets",
        [{"temperature": t, "alpha": a} for t, a in ((2.0, 0.1), (4.0, 0.1), (4.0, 0.5))],
        "alone",
    ),
    **{
        mode: Row(f'soft targets + `"{mode}"`', WEIGHTS, "soft", {"mode": mode})
        for mode in ("gan", "ac", "anc", "wgan-gp", "hinge")
    },
    "gan-only": Row(
        "GAN alone",
        [{"judge_rate": rate} for rate in (3e-4, 1e-3, 3e-3)],
        "alone",
        {"mode": "gan", "alpha": 0.0, "objectives": [], "adversarial_weight": 1.0},
    ),
}


def convnet() -> keras.Model:
    """The teacher."""
    layers = keras.layers
    convolutions = [
        layer for filters in (16, 32) for layer in (layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D())
    ]
    dense = [layers.Flatten(), layers.Dense(64, "relu"), layers.Dropout(0.3), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *dense], name="teacher")


def mlp(seed: int) -> keras.Model:
    """The student."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    hidden = [layers.Flatten(), layers.Dense(64, "relu"), layers.Dense(64, "relu")]
    return keras.Sequential([keras.Input((28, 28, 1)), *hidden, layers.Dense(10)], name="student")


def cross_entropy() -> keras.losses.Loss:
    """Of logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@cache
def images_of(dataset: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits in memory, pixels in [0, 1]."""
    source = kd.data.load(dataset)
    transform, splits = kd.data.input_transform(source, (28, 28, 1)), {}
    for name in ("train", "validation", "test"):
        batches = kd.data.pipeline(getattr(source, name), transform=transform, batch_size=1000).as_numpy_iterator()
        splits[name] = tuple(np.concatenate(part) for part in zip(*batches, strict=True))
    splits["validation"] = tuple(part[:VALIDATION] for part in splits["validation"])
    return splits


@cache
def teacher_of(dataset: str) -> keras.Model:
    """Trained once."""
    path = FOLDER / f"{dataset}_teacher.keras"
    if not path.exists():
        keras.utils.set_random_seed(0)
        teacher = convnet()
        teacher.compile(keras.optimizers.Adam(2e-3), cross_entropy(), jit_compile=False)
        x, y = (part[:TEACHER_EXAMPLES] for part in images_of(dataset)["train"])
        teacher.fit(x, y, batch_size=BATCH, epochs=TEACHER_EPOCHS, verbose=0)
        path.parent.mkdir(parents=True, exist_ok=True)
        teacher.save(path)
    return keras.models.load_model(path)


def drawn(dataset: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that the teacher has not seen."""
    x, y = images_of(dataset)["train"]
    rows = TEACHER_EXAMPLES + np.random.default_rng(seed).permutation(len(y) - TEACHER_EXAMPLES)[:EXAMPLES]
    return x[rows], y[rows]


def adam(rate: float) -> keras.optimizers.Optimizer:
    """With cosine decay to zero."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, EXAMPLES // BATCH * EPOCHS))


def trained(dataset: str, name: str, setting: dict[str, float], seed: int) -> tuple[kd.Distiller, dict]:
    """A distiller after training, and the last epoch's logs."""
    arguments = {**setting, **ROWS[name].fixed}
    rate, judge_rate = arguments.pop("rate"), arguments.pop("judge_rate", 1e-3)
    compiling = {"loss": cross_entropy(), "jit_compile": False}
    if "mode" in arguments:
        distiller = kd.AdversarialDistiller(mlp(seed), teacher_of(dataset), **arguments)
        compiling["discriminator_optimizer"] = adam(judge_rate)
    else:
        distiller = kd.Distiller(mlp(seed), teacher_of(dataset), **arguments)
    distiller.compile(adam(rate), **compiling)
    history = distiller.fit(*drawn(dataset, seed), batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return distiller, {key: values[-1] for key, values in history.history.items()}


def run(dataset: str, name: str, setting: dict[str, float], seed: int) -> dict[str, Any]:
    """Accuracies of one training, done once."""
    words = "_".join(f"{key}={value:g}" for key, value in sorted(setting.items()))

    def train() -> dict[str, Any]:
        distiller, logs = trained(dataset, name, setting, seed)
        found = {split: accuracy(distiller.student, *images_of(dataset)[split]) for split in ("validation", "test")}
        distiller.student.save(FOLDER / f"{dataset}_{name}_{words}_{seed}.keras")
        return {**found, "judge": logs.get("discriminator_accuracy"), "parameters": distiller.student.count_params()}

    found = remembered(FOLDER / f"{dataset}_{name}_{words}_{seed}.json", train)
    print(dataset, name, words, seed, found, flush=True)
    return {**found, "student": str(FOLDER / f"{dataset}_{name}_{words}_{seed}.keras")}


def row_of(dataset: str, name: str, chosen: dict[str, dict]) -> dict[str, Any]:
    """The setting that validation prefers, and the runs of every seed."""
    taken = chosen[ROWS[name].after]["setting"] if ROWS[name].after else {}
    settings = [{**taken, **setting} for setting in ROWS[name].settings]
    best = max(settings, key=lambda setting: run(dataset, name, setting, SEEDS[0])["validation"])
    return {"setting": best, "runs": [run(dataset, name, best, seed) for seed in SEEDS]}


def exported(dataset: str, name: str, student: str) -> dict[str, Any]:
    """The size of the student's file, and on how many test images LiteRT names Keras's class."""
    x, y = images_of(dataset)["test"]

    def export() -> dict[str, Any]:
        folder = FOLDER / f"{dataset}_{name}_export"
        report = kd.export_student(keras.models.load_model(student), folder, formats="tflite", evaluation_data=(x, y))
        (file,) = report.files
        return {"bytes": file.size_bytes, "same": round(file.agreement * len(y)), "of": len(y)}

    return remembered(FOLDER / f"{dataset}_{name}_export.json", export)


def test_accuracies(row: dict[str, Any]) -> list[float]:
    """Run by run."""
    return [run["test"] for run in row["runs"]]


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    first = next(iter(results.values()))["rows"]["alone"]["runs"][0]
    lines = [
        "# Does a discriminator add to soft targets?",
        "",
        f"`{COMMAND}`: the student, an MLP of {first['parameters']:,} parameters, sees {EXAMPLES:,} images that its "
        f"teacher, a CNN, has not seen, {EPOCHS} epochs. Settings are chosen on {VALIDATION:,} validation images with "
        f"seed {SEEDS[0]}, three for each row beside what it takes over of the rows above. Test accuracy in percent, "
        f"mean and standard deviation over {len(SEEDS)} seeds; gains in points, paired by seed, with their 95 % "
        "interval. The discriminator's accuracy is that of the last epoch; at 50 it cannot tell.",
        "",
        "| data set | student | setting | its discriminator | test accuracy | over soft targets | |",
        "|---|---|---|---|---|---|---|",
    ]
    for dataset, of in results.items():
        lines.append(f"| {dataset} | teacher | | | {100 * of['teacher']:.2f} | | |")
        for name, row in of["rows"].items():
            setting = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in row["setting"].items())
            judges = [run["judge"] for run in row["runs"] if run["judge"] is not None]
            judge = mean_and_deviation(judges) if judges else ""
            compared = " | "
            if name not in ("alone", "soft"):
                found = gain(test_accuracies(row), test_accuracies(of["rows"]["soft"]), name)
                compared = f"{shown(found)} | {found.verdict}"
            accuracies = mean_and_deviation(test_accuracies(row))
            lines.append(f"| {dataset} | {ROWS[name].title} | {setting} | {judge} | {accuracies} | {compared} |")
    lines += ["", "## Files of the students, seed 0", "", "| data set | student | bytes | LiteRT names Keras's class |"]
    lines.append("|---|---|---|---|")
    for (dataset, of), name in itertools.product(results.items(), ROWS):
        file = of["files"][name]
        same = f"on {file['same']:,} of {file['of']:,} test images"
        lines.append(f"| {dataset} | {ROWS[name].title} | {file['bytes']:,} | {same} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs what is missing and writes the table."""
    results = {}
    for dataset in DATASETS:
        rows: dict[str, dict] = {}
        for name in ROWS:
            rows[name] = row_of(dataset, name, rows)
        files = {name: exported(dataset, name, row["runs"][0]["student"]) for name, row in rows.items()}
        taught = remembered(
            FOLDER / f"{dataset}_teacher.json",
            lambda of=dataset: {"test": accuracy(teacher_of(of), *images_of(of)["test"])},
        )
        results[dataset] = {"teacher": taught["test"], "rows": rows, "files": files}
    RESULTS.mkdir(parents=True, exist_ok=True)
    RESULTS.joinpath("modes.json").write_text(json.dumps(results, indent=1))
    RESULTS.joinpath("modes.md").write_text(table(results), encoding="utf-8")


if __name__ == "__main__":
    main()
