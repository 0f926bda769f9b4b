"""What `benchmarks/kdgan.py` trains: a LeNet that teaches, and a small MLP that learns alone or in one of five ways."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from choosing import SEED
from records import made
from small_runs import accuracy

import keras_kd as kd
from keras_kd.adversarial.kdgan import KDGAN, label_discriminator
from keras_kd.adversarial.three_players import ThreePlayerDistiller

FOLDER = Path("saved_models/kdgan")
CLASSES, WIDTH = 10, 128
AUGMENT = kd.data.compose(kd.data.random_rotation(15.0), kd.data.random_shift(3))


@dataclass(frozen=True)
class Budget:
    """How many digits, and how often; `pool` is what the labelled ones are drawn from."""

    views: int = 12_000
    epochs: int = 4
    batch: int = 50
    teacher_rate: float = 1e-3
    others_rate: float = 1e-3
    pool: int = 54_000
    validation: int = 5000
    test: int = 10_000


def grid(**values: tuple[float, ...]) -> list[dict[str, float]]:
    """All combinations."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


@dataclass(frozen=True)
class Row:
    """A way to train the student.

    Attributes:
        title: In the table.
        candidates: What validation chooses from: as many for each row.
        after: The row whose choice it takes over before it chooses for itself.
        published: Accuracy in percent by number of labelled digits.
    """

    title: str
    candidates: list[dict[str, float]]
    after: str | None = None
    published: Mapping[int, float] = field(default_factory=dict)


RATES = grid(rate=(1e-3, 2e-3, 4e-3, 8e-3))
WEIGHTS = grid(adversarial_weight=(0.03, 0.1, 0.3, 1.0))
ROWS = {
    "plain": Row("student alone, no augmentation", RATES, published={100: 54.94, 1000: 86.57}),
    "alone": Row("student alone", RATES),
    "gan": Row("GAN, no teacher", WEIGHTS, "alone", {100: 64.90, 1000: 93.60}),
    "distilled": Row("distilled", grid(temperature=(2.0, 4.0), alpha=(0.1, 0.5)), "alone", {100: 68.34, 1000: 93.97}),
    "ac": Row('distilled + adversary "ac"', WEIGHTS, "distilled"),
    "kdgan": Row(
        "KDGAN", grid(adversarial_weight=(0.3, 3.0), share=(0.1, 0.5)), "distilled", {100: 77.95, 1000: 96.42}
    ),
}


def build_student() -> keras.Model:
    """Two hidden layers as published, narrower."""
    layers = keras.layers
    hidden = [layer for _ in range(2) for layer in (layers.Dense(WIDTH, "relu"), layers.Dropout(0.12))]
    return keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), *hidden, layers.Dense(CLASSES)], name="student"
    )


def lenet(name: str) -> keras.Model:
    """Two convolutions and a hidden layer as published, narrower."""
    layers = keras.layers
    convolutions = [
        layer for filters in (6, 16) for layer in (layers.Conv2D(filters, 5, activation="relu"), layers.MaxPooling2D())
    ]
    dense = [layers.Flatten(), layers.Dense(128, "relu"), layers.Dropout(0.5), layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((28, 28, 1)), *convolutions, *dense], name=name)


@cache
def digits(budget: Budget) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits in memory, pixels in [0, 1]."""
    source = kd.data.load("mnist")
    transform, splits = kd.data.input_transform(source, (28, 28, 1)), {}
    for name, count in {"train": budget.pool, "validation": budget.validation, "test": budget.test}.items():
        data = kd.data.pipeline(getattr(source, name).take(count), transform=transform, batch_size=1000)
        splits[name] = tuple(np.concatenate(part) for part in zip(*data.as_numpy_iterator(), strict=True))
    return splits


@cache
def views(budget: Budget, labelled: int, seed: int, augmented: bool) -> tuple[np.ndarray, np.ndarray]:
    """Views of the labelled digits, which are drawn at random and so not balanced, as published."""
    x, y = digits(budget)["train"]
    rows = np.random.default_rng(seed).permutation(len(x))[:labelled]
    x, y = (np.tile(values[rows], (budget.views // labelled, *[1] * (values.ndim - 1))) for values in (x, y))
    if augmented:
        seeds = np.stack([np.full(budget.views, seed), np.arange(budget.views)], axis=1).astype("int32")
        data = tf.data.Dataset.from_tensor_slices((x, seeds)).map(AUGMENT).batch(budget.views)
        x = next(data.as_numpy_iterator())
    return x, y


def adam(rate: float, budget: Budget) -> keras.optimizers.Optimizer:
    """With cosine decay to zero."""
    steps = budget.views // budget.batch * budget.epochs
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))


def cross_entropy() -> keras.losses.Loss:
    """Of labels and logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def learner_of(
    row: str,
    budget: Budget,
    student: keras.Model,
    teacher: keras.Model | None,
    rate: float,
    temperature: float = 4.0,
    alpha: float = 1.0,
    adversarial_weight: float = 0.0,
    share: float = 0.5,
) -> keras.Model:
    """What is fitted: the student itself, or a distiller of it. `share` is KDGAN's alpha."""
    games = {"adversarial_weight": adversarial_weight, "temperature": temperature, "alpha": alpha}
    optimizers = {}
    if teacher is None:
        learner = student
    elif row == "distilled":
        learner = kd.Distiller(student, teacher, temperature=temperature, alpha=alpha)
    elif row == "ac":
        learner = kd.AdversarialDistiller(student, teacher, mode="ac", **games)
    else:
        classes = lenet("classes")  # it begins as a classifier of the labelled digits, which is what the teacher is
        classes.set_weights(teacher.get_weights())
        objectives, mode = ([], KDGAN(alpha=1.0, gamma=0.0)) if row == "gan" else (None, KDGAN(alpha=share))
        learner = ThreePlayerDistiller(student, teacher, label_discriminator(classes), objectives, mode=mode, **games)
        optimizers["teacher_optimizer"] = adam(budget.others_rate, budget)
    if row not in ("plain", "alone", "distilled"):
        optimizers["discriminator_optimizer"] = adam(budget.others_rate, budget)
    learner.compile(adam(rate, budget), loss=cross_entropy(), jit_compile=False, **optimizers)
    return learner


def fit(model: keras.Model, budget: Budget, labelled: int, seed: int, augmented: bool = True) -> None:
    """On the views of the labelled digits."""
    x, y = views(budget, labelled, seed, augmented)
    model.fit(x, y, batch_size=budget.batch, epochs=budget.epochs, verbose=0)


def accuracies(model: keras.Model, budget: Budget) -> dict[str, float]:
    """On validation and test digits."""
    return {split: accuracy(model, *digits(budget)[split]) for split in ("validation", "test")}


def teacher_of(budget: Budget, labelled: int, seed: int) -> keras.Model:
    """LeNet, trained on the labelled digits; read anew each time, for KDGAN teaches it."""

    def train(path: Path) -> None:
        keras.utils.set_random_seed(seed)
        model = lenet("teacher")
        model.compile(adam(budget.teacher_rate, budget), cross_entropy(), jit_compile=False)
        fit(model, budget, labelled, seed)
        model.save(path)

    name = f"teacher_{labelled}_of_{budget.pool}_{budget.views}_{budget.epochs}_{seed}.keras"
    return keras.models.load_model(made(FOLDER / name, train))


def teacher_figures(budget: Budget, labelled: int, seed: int) -> dict[str, float]:
    """Accuracies of the teacher."""
    return accuracies(teacher_of(budget, labelled, seed), budget)


def student_figures(row: str, budget: Budget, labelled: int, setting: Mapping[str, float], seed: int) -> dict[str, Any]:
    """Accuracies of a student, trained in the way of the row."""
    teacher = None if ROWS[row].after is None else teacher_of(budget, labelled, seed)
    keras.utils.set_random_seed(seed)
    student = build_student()
    fit(learner_of(row, budget, student, teacher, **setting), budget, labelled, seed, augmented=row != "plain")
    return {"parameters": student.count_params(), **accuracies(student, budget)}


def validated(row: str, budget: Budget, labelled: int, setting: Mapping[str, float]) -> float:
    """Validation accuracy of a setting, with the first seed."""
    return student_figures(row, budget, labelled, setting, SEED)["validation"]
