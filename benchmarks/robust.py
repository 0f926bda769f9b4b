"""Does a robust teacher make a small student robust? ARD and RSLAD beside adversarial training of the same budget.

    python benchmarks/run.py robust --seeds 3 --data-dir DIR          # some 12 minutes on one core

MNIST and Fashion-MNIST, small convolutional networks. A teacher is trained by plain adversarial training. Students of
a ninth of its size learn without any attack, by plain adversarial training, by soft targets of the robust teacher
(KD), by ARD and by RSLAD: the same images, epochs, batches, optimizer and, where there is one, the same attack. Nothing
is tuned: alpha, temperature and weights are those of the library and of the papers. Accuracy is on test images, natural
and under PGD-20, of the last epoch.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import keras
import numpy as np
from records import Record, Run, made
from rendering import Page, Table, percent, spread, values

import keras_kd as kd
from keras_kd.robust import RobustDistiller, robust_accuracy

SEEDS = 3
FOLDER = Path("saved_models/robust")
DATASETS = ("mnist", "fashion_mnist")
METHODS = {
    "natural": "no attack",
    "kd": "KD, no attack",
    "at": "adversarial training",
    "ard": "ARD",
    "rslad": "RSLAD",
}


@dataclass(frozen=True)
class Budget:
    """How many images, how often, and what attacks while training and afterwards, in steps of 2.5 epsilon / steps."""

    teacher_examples: int = 20_000
    teacher_epochs: int = 4
    examples: int = 5000
    epochs: int = 8
    batch: int = 50
    rate: float = 2e-3
    # On validation images: within 0.2 the adversarial training of such a student has not begun after three epochs.
    epsilon: float = 0.1
    steps: int = 7
    test_steps: int = 20
    test: int = 2000

    def attack(self, steps: int) -> dict[str, float]:
        """Of so many steps, as Madry et al. advise."""
        return {"epsilon": self.epsilon, "step_size": 2.5 * self.epsilon / steps, "steps": steps}


SMALL = Budget(teacher_examples=200, teacher_epochs=1, examples=100, epochs=1, steps=2, test_steps=2, test=100)


def convnet(width: int, name: str) -> keras.Model:
    """Two strided convolutions and a hidden layer, without batch normalisation."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(width, 5, strides=2, padding="same", activation="relu"),
            layers.Conv2D(2 * width, 5, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(8 * width, activation="relu"),
            layers.Dense(10),
        ],
        name=name,
    )


def teacher_model() -> keras.Model:
    """Three times as wide as a student."""
    return convnet(24, "teacher")


def student_model() -> keras.Model:
    """What is to become robust."""
    return convnet(8, "student")


@cache
def images_of(dataset: str, budget: Budget) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits in memory, pixels in [0, 1]."""
    source = kd.data.load(dataset)
    transform, splits = kd.data.input_transform(source, (28, 28, 1)), {}
    for name, count in {"train": budget.teacher_examples, "test": budget.test}.items():
        pairs = kd.data.pipeline(getattr(source, name).take(count), transform=transform).as_numpy_iterator()
        splits[name] = tuple(np.concatenate(part) for part in zip(*pairs, strict=True))
    return splits


def robust_learner(
    model: keras.Model, teacher: keras.Model | None, method: str, budget: Budget, seed: int
) -> RobustDistiller:
    """A distiller that is attacked while training."""
    return RobustDistiller(model, teacher, method=method, seed=seed, **budget.attack(budget.steps))


def fit(learner: keras.Model, dataset: str, budget: Budget, examples: int, epochs: int) -> None:
    """On the first images, with cosine decay to zero."""
    rate = keras.optimizers.schedules.CosineDecay(budget.rate, epochs * examples // budget.batch)
    learner.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = (array[:examples] for array in images_of(dataset, budget)["train"])
    learner.fit(x, y, batch_size=budget.batch, epochs=epochs, verbose=0)


def accuracies(model: keras.Model, dataset: str, budget: Budget) -> dict[str, float]:
    """On images that it has not seen, natural and under attack; and its size."""
    held_out = images_of(dataset, budget)["test"]
    found = robust_accuracy(model, held_out, **budget.attack(budget.test_steps), batch_size=500)
    return {"natural": found.natural, "robust": found.robust, "parameters": model.count_params()}


def teacher_of(dataset: str, budget: Budget) -> keras.Model:
    """Trained by plain adversarial training, on more images than its students see."""

    def train(path: Path) -> None:
        keras.utils.set_random_seed(0)
        model = teacher_model()
        learner = robust_learner(model, None, "at", budget, seed=0)
        fit(learner, dataset, budget, budget.teacher_examples, budget.teacher_epochs)
        model.save(path)

    name = f"{dataset}_teacher_{budget.teacher_examples}_{budget.teacher_epochs}.keras"
    return keras.saving.load_model(made(FOLDER / name, train))


def teacher_figures(dataset: str, budget: Budget) -> dict[str, float]:
    """Those of the teacher."""
    return accuracies(teacher_of(dataset, budget), dataset, budget)


def student_figures(dataset: str, budget: Budget, method: str, seed: int) -> dict[str, float]:
    """Those of a student, and the seconds that its training took of all cores together."""
    teacher = None if method in ("natural", "at") else teacher_of(dataset, budget)
    keras.utils.set_random_seed(seed)
    student = student_model()
    learner = student if method == "natural" else kd.Distiller(student, teacher) if method == "kd" else None
    begun = time.process_time()
    learner = learner or robust_learner(student, teacher, method, budget, seed)
    fit(learner, dataset, budget, budget.examples, budget.epochs)
    seconds = time.process_time() - begun
    return {**accuracies(student, dataset, budget), "cpu_seconds": seconds}


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher of each data set and its students."""
    budget = SMALL if quick else Budget()
    for dataset in DATASETS[:1] if quick else DATASETS:
        settings = {"dataset": dataset, **asdict(budget)}
        yield Run(f"{dataset} teacher", 0, settings, partial(teacher_figures, dataset, budget))
        for method in METHODS:
            measure = partial(student_figures, dataset, budget, method, seed)
            yield Run(f"{dataset} {method}", seed, settings, measure)


def lines_of(records: Sequence[Record], dataset: str) -> Iterator[list[str]]:
    """A line for the teacher and each method; gains of robust accuracy in points, seed by seed."""
    teacher = [percent(values(records, f"{dataset} teacher", name)) for name in ("natural", "robust")]
    yield [dataset, "teacher, adversarial training", *teacher, "", ""]
    trained = values(records, f"{dataset} at", "robust")
    for method, title in METHODS.items():
        setting = f"{dataset} {method}"
        natural, robust = (values(records, setting, name) for name in ("natural", "robust"))
        gains = [100 * (one - other) for one, other in zip(robust, trained, strict=True)]
        over = "" if method == "at" else spread(gains, sign="+")
        seconds = f"{statistics.mean(values(records, setting, 'cpu_seconds')):.0f}"
        yield [dataset, f"student, {title}", percent(natural), percent(robust), over, seconds]


def page(records: Sequence[Record]) -> Page:
    """Natural and robust accuracy of teachers and students."""
    budget, seeds = records[0].settings, len({record.seed for record in records})
    datasets = list(dict.fromkeys(record.settings["dataset"] for record in records))
    teacher, student = (
        values(records, f"{datasets[0]} {name}", "parameters")[0] for name in ("teacher", next(iter(METHODS)))
    )
    said = (
        f"Teacher of {teacher:,} parameters, {budget['teacher_epochs']} epochs of plain adversarial training on "
        f"{budget['teacher_examples']:,} images; students of {student:,}, {budget['epochs']} epochs of "
        f"{budget['examples']:,} of these images, batches of {budget['batch']}, Adam with cosine decay from "
        f"{budget['rate']}. Attack while training: PGD-{budget['steps']} within ε = {budget['epsilon']}, on the test "
        f"images PGD-{budget['test_steps']}, both in steps of 2.5 ε / steps. Accuracy in percent on the first "
        f"{budget['test']:,} test images after the last epoch, mean ± standard deviation over {seeds} seeds. "
        "Nothing was tuned: alpha, temperature and weights are the library's (KD) and the papers'. These are small "
        "networks trained for seconds: ε of MNIST is 0.3 in the literature, and within 0.2, on validation images, such "
        "a training had not begun after three epochs. PGD-20 is an upper bound of robustness."
    )
    head = ["data", "model", "natural", "PGD-20", "PGD-20, over adversarial training", "CPU seconds"]
    table = Table(head, [line for dataset in datasets for line in lines_of(records, dataset)])
    return Page("Robust distillation: accuracy under attack", [said, table])
