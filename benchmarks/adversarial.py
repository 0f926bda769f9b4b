"""Does a discriminator add to soft targets? Every mode of `kd.AdversarialDistiller` on MNIST and Fashion-MNIST.

    python benchmarks/run.py adversarial --seeds 3 --data-dir DIR          # half an hour of one core

A small CNN teaches, trained on 20,000 images; the student is an MLP that sees 2,000 others, drawn anew for each seed.
Every row has the same images, steps and initial weights of the student, and chooses from three settings on validation
images, with the first seed: the student alone its learning rate, which all others take over; soft targets temperature
and alpha, which all with soft targets take over; each mode the weight of its game. "GAN alone" has neither labels nor
soft targets. Students of the first seed are exported, and LiteRT runs them on all test images.
"""

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from choosing import choice, chosen
from records import Record, Run, made
from rendering import Page, Table, percent, values
from small_runs import accuracy, gain, shown

import keras_kd as kd

SEEDS = 3
FOLDER = Path("saved_models/adversarial")
DATASETS = ("mnist", "fashion_mnist")
WEIGHTS = [{"adversarial_weight": weight} for weight in (0.03, 0.1, 0.3)]
JUDGE_RATE = 1e-3


@dataclass(frozen=True)
class Budget:
    """How many images, and how often; `pool` is what the student's are drawn from."""

    teacher_examples: int = 20_000
    teacher_epochs: int = 3
    teacher_rate: float = 2e-3
    pool: int = 34_000
    examples: int = 2000
    epochs: int = 20
    batch: int = 50
    validation: int = 5000
    test: int = 10_000


SMALL = Budget(teacher_examples=200, teacher_epochs=1, pool=200, examples=100, epochs=1, validation=100, test=100)
OF_SMALL = ("alone", "soft", "ac", "gan-only")


@dataclass(frozen=True)
class Row:
    """A way to train the student.

    Attributes:
        title: In the table.
        candidates: What validation chooses from.
        after: The row whose choice it takes over.
        fixed: Arguments of the distiller, with a mode those of `AdversarialDistiller`.
    """

    title: str
    candidates: list[dict[str, float]]
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
        mode: Row(f'soft targets + `"{mode}"`', WEIGHTS, "soft", {"mode": mode, "judge_rate": JUDGE_RATE})
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
def images_of(dataset: str, budget: Budget) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits in memory, pixels in [0, 1]."""
    source = kd.data.load(dataset)
    transform, splits = kd.data.input_transform(source, (28, 28, 1)), {}
    counts = {
        "train": budget.teacher_examples + budget.pool,
        "validation": budget.validation,
        "test": budget.test,
    }
    for name, count in counts.items():
        data = getattr(source, name).take(count)
        batches = kd.data.pipeline(data, transform=transform, batch_size=1000).as_numpy_iterator()
        splits[name] = tuple(np.concatenate(part) for part in zip(*batches, strict=True))
    return splits


@cache
def teacher_of(dataset: str, budget: Budget) -> keras.Model:
    """Trained once."""

    def train(path: Path) -> None:
        keras.utils.set_random_seed(0)
        teacher = convnet()
        teacher.compile(keras.optimizers.Adam(budget.teacher_rate), cross_entropy(), jit_compile=False)
        x, y = (part[: budget.teacher_examples] for part in images_of(dataset, budget)["train"])
        teacher.fit(x, y, batch_size=budget.batch, epochs=budget.teacher_epochs, verbose=0)
        teacher.save(path)

    name = f"{dataset}_teacher_{budget.teacher_examples}_{budget.teacher_epochs}.keras"
    return keras.models.load_model(made(FOLDER / name, train))


def teacher_figures(dataset: str, budget: Budget) -> dict[str, float]:
    """Test accuracy of the teacher."""
    return {"test": accuracy(teacher_of(dataset, budget), *images_of(dataset, budget)["test"])}


def drawn(dataset: str, budget: Budget, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that the teacher has not seen."""
    x, y = images_of(dataset, budget)["train"]
    first = budget.teacher_examples
    rows = first + np.random.default_rng(seed).permutation(len(y) - first)[: budget.examples]
    return x[rows], y[rows]


def adam(rate: float, budget: Budget) -> keras.optimizers.Optimizer:
    """With cosine decay to zero."""
    steps = budget.examples // budget.batch * budget.epochs
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))


def trained(dataset: str, budget: Budget, arguments: dict[str, Any], seed: int) -> tuple[kd.Distiller, dict]:
    """A distiller after training, and the last epoch's logs."""
    arguments = dict(arguments)
    rate, judge_rate = arguments.pop("rate"), arguments.pop("judge_rate", None)
    compiling = {"loss": cross_entropy(), "jit_compile": False}
    if "mode" in arguments:
        distiller = kd.AdversarialDistiller(mlp(seed), teacher_of(dataset, budget), **arguments)
        compiling["discriminator_optimizer"] = adam(judge_rate, budget)
    else:
        distiller = kd.Distiller(mlp(seed), teacher_of(dataset, budget), **arguments)
    distiller.compile(adam(rate, budget), **compiling)
    x, y = drawn(dataset, budget, seed)
    history = distiller.fit(x, y, batch_size=budget.batch, epochs=budget.epochs, verbose=0)
    return distiller, {key: logged[-1] for key, logged in history.history.items()}


def validated(dataset: str, budget: Budget, fixed: dict[str, Any], setting: dict[str, float]) -> float:
    """Validation accuracy of a setting, with the first seed."""
    distiller, _ = trained(dataset, budget, {**setting, **fixed}, seed=0)
    return accuracy(distiller.student, *images_of(dataset, budget)["validation"])


def student_figures(dataset: str, budget: Budget, arguments: dict[str, Any], seed: int) -> dict[str, Any]:
    """Accuracies of one training, and the file of the first seed's student."""
    distiller, logs = trained(dataset, budget, arguments, seed)
    splits = images_of(dataset, budget)
    figures = {split: accuracy(distiller.student, *splits[split]) for split in ("validation", "test")}
    figures |= {"judge": logs.get("discriminator_accuracy"), "parameters": distiller.student.count_params()}
    return figures if seed else {**figures, "file": exported(distiller.student, *splits["test"])}


def exported(student: keras.Model, x: np.ndarray, y: np.ndarray) -> dict[str, int]:
    """The size of the student's file, and on how many test images LiteRT names Keras's class."""
    with tempfile.TemporaryDirectory() as folder:
        report = kd.export_student(student, Path(folder) / "student", formats="tflite", evaluation_data=(x, y))
    (file,) = report.files
    return {"bytes": file.size_bytes, "same": round(file.agreement * len(y)), "of": len(y)}


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teachers, the choices, and the students with what was chosen."""
    budget, rows = (SMALL, OF_SMALL) if quick else (Budget(), ROWS)
    for dataset in DATASETS[:1] if quick else DATASETS:
        settings = {"dataset": dataset, **asdict(budget)}
        yield Run(f"{dataset} teacher", 0, settings, partial(teacher_figures, dataset, budget))
        taken = {None: {}}
        for name in rows:
            row, title = ROWS[name], f"{dataset} {name}"
            candidates = [{**taken[row.after], **candidate} for candidate in row.candidates[: 2 if quick else None]]
            of_row = {**settings, **row.fixed}
            found = yield choice(title, of_row, candidates, partial(validated, dataset, budget, row.fixed))
            taken[name] = found["chosen"]
            arguments = {**taken[name], **row.fixed}
            measure = partial(student_figures, dataset, budget, arguments, seed)
            yield Run(title, seed, {**settings, **arguments}, measure)


def page(records: Sequence[Record]) -> Page:
    """Accuracies of every row, and the files of the first seed."""
    settings, seeds = records[0].settings, len({record.seed for record in records})
    parameters = next(record.figures["parameters"] for record in records if "parameters" in record.figures)
    said = (
        f"The student, an MLP of {parameters:,} parameters, sees {settings['examples']:,} images that its teacher, a "
        f"CNN, has not seen, {settings['epochs']} epochs. Settings are chosen on {settings['validation']:,} validation "
        "images with seed 0, three for each row beside what it takes over of the rows above. Test accuracy in percent, "
        f"mean and standard deviation over {seeds} seeds; gains in points, paired by seed, with their 95 % interval. "
        "The discriminator's accuracy is that of the last epoch; at 50 it cannot tell."
    )
    datasets = list(dict.fromkeys(record.settings["dataset"] for record in records))
    head = ["data set", "student", "setting", "its discriminator", "test accuracy", "over soft targets", ""]
    students = Table(head, [line for dataset in datasets for line in lines_of(records, dataset)])
    head = ["data set", "student", "bytes", "LiteRT names Keras's class"]
    files = Table(head, [line for dataset in datasets for line in files_of(records, dataset)])
    parts = [said, students, "## Files of the students, seed 0", files]
    return Page("Does a discriminator add to soft targets?", parts)


def rows_of(records: Sequence[Record], dataset: str) -> list[str]:
    """The rows that there are of a data set."""
    settings = {record.setting for record in records}
    return [name for name in ROWS if f"{dataset} {name}" in settings]


def lines_of(records: Sequence[Record], dataset: str) -> Iterator[list[str]]:
    """A line for the teacher and each row."""
    yield [dataset, "teacher", "", "", percent(values(records, f"{dataset} teacher", "test")), "", ""]
    for name in rows_of(records, dataset):
        title = f"{dataset} {name}"
        setting = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in chosen(records, title).items())
        judges = [judge for judge in values(records, title, "judge") if judge is not None]
        accuracies, compared = values(records, title, "test"), ["", ""]
        if name not in ("alone", "soft"):
            found = gain(accuracies, values(records, f"{dataset} soft", "test"), name)
            compared = [shown(found), found.verdict]
        judge = percent(judges) if judges else ""
        yield [dataset, ROWS[name].title, setting, judge, percent(accuracies), *compared]


def files_of(records: Sequence[Record], dataset: str) -> Iterator[list[str]]:
    """A line for the file of each row."""
    for name in rows_of(records, dataset):
        of_row = [record.figures for record in records if record.setting == f"{dataset} {name}"]
        file = next(figures["file"] for figures in of_row if "file" in figures)
        same = f"on {file['same']:,} of {file['of']:,} test images"
        yield [dataset, ROWS[name].title, f"{file['bytes']:,}", same]
