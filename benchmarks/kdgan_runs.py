"""What `benchmarks/kdgan.py` trains: a LeNet that teaches, and a small MLP that learns alone or in one of five ways."""

import itertools
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from small_runs import accuracy, remembered

import keras_kd as kd
from keras_kd.adversarial.kdgan import KDGAN, label_discriminator
from keras_kd.adversarial.three_players import ThreePlayerDistiller

FOLDER = Path("saved_models/adversarial/kdgan")
CLASSES, EXAMPLES, VALIDATION, SEEDS, TUNING_SEEDS = 10, (100, 1000), 5000, (0, 1, 2, 3, 4), (0,)
VIEWS, EPOCHS, BATCH, WIDTH = 12000, 4, 50, 128
TEACHER_RATE, OTHERS_RATE = 1e-3, 1e-3
AUGMENT = kd.data.compose(kd.data.random_rotation(15.0), kd.data.random_shift(3))

Setting = Mapping[str, float]


def grid(**values: tuple[float, ...]) -> list[dict[str, float]]:
    """All combinations."""
    return [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]


@dataclass(frozen=True)
class Row:
    """A way to train the student.

    Attributes:
        title: In the table.
        settings: What validation chooses from: as many for each row.
        after: The row whose choice it takes over before it chooses for itself.
        published: Accuracy in percent by number of labelled digits.
    """

    title: str
    settings: list[dict[str, float]]
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


class Digits:
    """MNIST in memory: by seed another draw of labelled examples, the same for every row."""

    def __init__(self):
        source = kd.data.load("mnist")
        transform = kd.data.input_transform(source, (28, 28, 1))
        self._splits = {}
        for name in ("train", "validation", "test"):
            data = kd.data.pipeline(getattr(source, name), transform=transform, batch_size=1000)
            x, y = zip(*data.as_numpy_iterator(), strict=True)
            self._splits[name] = np.concatenate(x), np.concatenate(y)

    def held_out(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Validation or test."""
        return tuple(values[: VALIDATION if split == "validation" else None] for values in self._splits[split])

    @cache  # noqa: B019 (one object, as long as the program)
    def views(self, examples: int, seed: int, augmented: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Views of the labelled digits, which are drawn at random and so not balanced, as published."""
        x, y = self._splits["train"]
        rows = np.random.default_rng(seed).permutation(len(x))[:examples]
        x, y = (np.tile(values[rows], (VIEWS // examples, *[1] * (values.ndim - 1))) for values in (x, y))
        if augmented:
            seeds = np.stack([np.full(VIEWS, seed), np.arange(VIEWS)], axis=1).astype("int32")
            data = tf.data.Dataset.from_tensor_slices((x, seeds)).map(AUGMENT).batch(VIEWS)
            x = next(data.as_numpy_iterator())
        return x, y


def adam(rate: float) -> keras.optimizers.Optimizer:
    """With cosine decay to zero."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, VIEWS // BATCH * EPOCHS))


def cross_entropy() -> keras.losses.Loss:
    """Of labels and logits."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def learner_of(
    row: str,
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
        optimizers["teacher_optimizer"] = adam(OTHERS_RATE)
    if row not in ("plain", "alone", "distilled"):
        optimizers["discriminator_optimizer"] = adam(OTHERS_RATE)
    learner.compile(adam(rate), loss=cross_entropy(), jit_compile=False, **optimizers)
    return learner


class Study:
    """All runs, each done once and kept."""

    @cached_property
    def digits(self) -> Digits:
        """Read when a run is missing."""
        return Digits()

    def teacher(self, examples: int, seed: int) -> keras.Model:
        """LeNet, trained on the labelled examples; and read from its file where it was."""
        path = FOLDER / f"teacher_{examples}_{seed}.weights.h5"
        keras.utils.set_random_seed(seed)
        model = lenet("teacher")
        if not path.exists():
            model.compile(adam(TEACHER_RATE), cross_entropy(), jit_compile=False)
            self._fit(model, examples, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            model.save_weights(path)
        model.load_weights(path)
        return model

    def teacher_run(self, examples: int, seed: int) -> dict[str, float]:
        """Figures of the teacher."""
        return remembered(
            FOLDER / "runs" / f"teacher_{examples}_{seed}.json",
            lambda: self._figures(self.teacher(examples, seed)),
        )

    def _fit(self, model: keras.Model, examples: int, seed: int, augmented: bool = True, **options: Any) -> None:
        x, y = self.digits.views(examples, seed, augmented)
        model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, **options)

    def _figures(self, model: keras.Model) -> dict[str, float]:
        return {split: accuracy(model, *self.digits.held_out(split)) for split in ("validation", "test")}

    def run(self, row: str, examples: int, setting: Setting, seed: int) -> dict[str, Any]:
        """Figures of a student, trained in the way of the row."""

        def train() -> dict[str, Any]:
            teacher = None if ROWS[row].after is None else self.teacher(examples, seed)
            began = time.process_time()
            keras.utils.set_random_seed(seed)
            student = build_student()
            learner = learner_of(row, student, teacher, **setting)
            self._fit(learner, examples, seed, augmented=row != "plain")
            seconds = time.process_time() - began
            return {"parameters": student.count_params(), "seconds": seconds, **self._figures(student)}

        chosen = "_".join(f"{value:g}" for value in setting.values())
        figures = remembered(FOLDER / "runs" / f"{row}_{examples}_{chosen}_{seed}.json", train)
        print(row, examples, chosen, seed, figures, flush=True)
        return figures

    @cache  # noqa: B019
    def chosen(self, row: str, examples: int) -> dict[str, float]:
        """The setting that the validation examples prefer."""
        before = {} if ROWS[row].after is None else self.chosen(ROWS[row].after, examples)

        def validated(setting: Setting) -> float:
            return statistics.fmean(self.run(row, examples, setting, seed)["validation"] for seed in TUNING_SEEDS)

        return max(({**before, **setting} for setting in ROWS[row].settings), key=validated)

    def row(self, row: str, examples: int) -> dict[str, Any]:
        """Chosen setting and the runs of every seed."""
        setting = self.chosen(row, examples)
        return {"setting": setting, "runs": [self.run(row, examples, setting, seed) for seed in SEEDS]}
