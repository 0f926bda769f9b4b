"""MNIST without one real training image: DFAD and DAFL, LeNet-5 to LeNet-5-half, three seeds.

    python benchmarks/run.py data_free --seeds 3 --data-dir DIR          # twenty minutes of one core

The teacher is trained once, on labelled images. Each student then sees what a generator draws, and nothing else, for a
fixed number of rounds; the same student on the labelled images stands beside. Optimizers and weights are those that the
authors published, for nothing could be tuned where there are no data; the generator is smaller and draws less, to fit a
CPU: as published it were `Budget(batch=512, width=64, dfad_rounds=2000, dafl_rounds=24_000)`. What is reported is the
last student on the 10,000 test images, used once per run; the curves are of real validation images, by which nothing is
chosen.
"""

import base64
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from records import Record, Run, made
from rendering import Page, Table, percent, values
from small_runs import accuracy

import keras_kd as kd
from keras_kd.data_free import DAFL, DFAD, DataFreeDistiller, image_generator
from keras_kd.plots import figure

SEEDS = 3
FOLDER = Path("saved_models/data_free")
SIDE = 28
MEAN, STD = 0.1307, 0.3081  # of MNIST in [0, 1], by which the published models see it
TITLES = {"labels": "{labelled:,} labelled images", "dfad": "DFAD: none", "dafl": "DAFL: none"}
GAMES = ("dfad", "dafl")
PUBLISHED = {"teacher": "98.9", "dfad": "98.3 ± 0.2"}
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True)
class Budget:
    """How much is drawn, by how large a generator; `steps` are the rounds between two looks at validation images."""

    batch: int = 128
    width: int = 8
    latent: int = 100
    dfad_rounds: int = 1000
    dafl_rounds: int = 1000
    steps: int = 100
    labelled: int = 54_000
    labelled_epochs: int = 10
    validation: int = 2000
    test: int = 10_000

    def rounds(self, method: str) -> int:
        """Of one run."""
        return getattr(self, f"{method}_rounds")


SMALL = Budget(
    batch=8, dfad_rounds=4, dafl_rounds=4, steps=2, labelled=256, labelled_epochs=1, validation=100, test=100
)


def lenet(share: float, name: str) -> keras.Model:
    """LeNet-5 with ReLU and a share of its channels; the padding makes 28 pixels the published 32."""
    layers = keras.layers
    channels = [int(share * width) for width in (6, 16, 120, 84)]
    stack = [keras.Input((28, 28, 1)), layers.ZeroPadding2D(2)]
    for width in channels[:2]:
        stack += [layers.Conv2D(width, 5, activation="relu"), layers.MaxPooling2D()]
    stack += [layers.Conv2D(channels[2], 5, activation="relu"), layers.Flatten(name="features")]
    return keras.Sequential([*stack, layers.Dense(channels[3], activation="relu"), layers.Dense(10)], name=name)


def momentum() -> keras.optimizers.Optimizer:
    """The optimizer that the authors of DFAD train teacher and student with."""
    return keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4)


def optimizers(method: str) -> dict[str, keras.optimizers.Optimizer]:
    """As published for MNIST, in the code of either paper."""
    if method == "dfad":
        return {"optimizer": momentum(), "generator_optimizer": keras.optimizers.Adam(1e-3)}
    return {"optimizer": keras.optimizers.Adam(2e-3), "generator_optimizer": keras.optimizers.Adam(0.2)}


@cache
def images_of(budget: Budget) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The splits in memory, as the published models see them."""
    source = kd.data.load("mnist")
    transform, splits = kd.data.input_transform(source, (SIDE, SIDE, 1)), {}
    for name, count in {"train": budget.labelled, "validation": budget.validation, "test": budget.test}.items():
        data = kd.data.pipeline(getattr(source, name).take(count), transform=transform, batch_size=512)
        x, y = map(np.concatenate, zip(*data.as_numpy_iterator(), strict=True))
        splits[name] = (x - MEAN) / STD, y
    return splits


def trained_on_labels(model: keras.Model, budget: Budget) -> keras.Model:
    """On real images."""
    model.compile(momentum(), CROSS_ENTROPY)
    model.fit(*images_of(budget)["train"], batch_size=128, epochs=budget.labelled_epochs, verbose=0)
    return model


@cache
def teacher_of(budget: Budget) -> keras.Model:
    """Trained once."""

    def train(path: Path) -> None:
        keras.utils.set_random_seed(0)
        trained_on_labels(lenet(1.0, "teacher"), budget).save(path)

    return keras.saving.load_model(made(FOLDER / f"teacher_{budget.labelled}_{budget.labelled_epochs}.keras", train))


def teacher_figures(budget: Budget) -> dict[str, float]:
    """Test accuracy of the teacher."""
    return {"accuracy": accuracy(teacher_of(budget), *images_of(budget)["test"])}


def student_figures(method: str, budget: Budget, seed: int) -> dict[str, Any]:
    """Those of one student, the seconds that it took of all cores together, and what the first generator drew."""
    teacher, (x, y) = teacher_of(budget), images_of(budget)["test"]
    keras.utils.set_random_seed(seed)
    before, student, played = time.process_time(), lenet(0.5, "student"), {}
    if method == "labels":
        trained_on_labels(student, budget)
    else:
        played = distilled(method, student, budget, seed)
    said = np.asarray(teacher(x, training=False)).argmax(-1)
    figures = {"accuracy": accuracy(student, x, y), "agreement": accuracy(student, x, said)}
    return {**figures, "cpu_seconds": time.process_time() - before, **played}


def distilled(method: str, student: keras.Model, budget: Budget, seed: int) -> dict[str, Any]:
    """Trains a student without data; returns what was logged, and with the first seed what was drawn."""
    teacher = teacher_of(budget)
    generator = image_generator((SIDE, SIDE, 1), latent_dim=budget.latent, width=budget.width, mean=0.0, std=1.0)
    game = DFAD() if method == "dfad" else DAFL("features")
    distiller = DataFreeDistiller(student, teacher, generator, method=game)
    distiller.compile(**optimizers(method), loss=CROSS_ENTROPY, metrics=["accuracy"])
    history = distiller.fit(
        steps_per_epoch=budget.steps,
        epochs=budget.rounds(method) // budget.steps,
        batch_size=budget.batch,
        validation_data=images_of(budget)["validation"],
        validation_batch_size=1000,
        verbose=0,
    ).history
    return {"history": history} if seed else {"history": history, "drawn": as_text(best_draws(distiller, teacher))}


def best_draws(distiller: DataFreeDistiller, teacher: keras.Model) -> np.ndarray:
    """Of a thousand images, for each digit the one that the teacher is most certain of."""
    drawn = distiller.generate(1000, seed=0)
    certainty = np.asarray(keras.ops.softmax(teacher(drawn, training=False)))
    return drawn[certainty.argmax(0)]


def as_text(images: np.ndarray) -> list[str]:
    """Each image in 256 greys, from its darkest to its lightest pixel, as base64."""
    darkest, lightest = (edge(images, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
    greys = 255 * (images - darkest) / np.maximum(lightest - darkest, 1e-6)
    return [base64.b64encode(image.tobytes()).decode() for image in np.uint8(np.round(greys))]


def as_image(text: str) -> np.ndarray:
    """What `as_text` wrote."""
    return np.frombuffer(base64.b64decode(text), "uint8").reshape(SIDE, SIDE)


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher, and the students with labels and without data."""
    budget = SMALL if quick else Budget()
    settings = asdict(budget)
    yield Run("teacher", 0, settings, partial(teacher_figures, budget))
    for method in TITLES:
        yield Run(method, seed, settings, partial(student_figures, method, budget, seed))


def page(records: Sequence[Record]) -> Page:
    """Accuracies beside the published ones, the way there and what was drawn."""
    budget, seeds = records[0].settings, len({record.seed for record in records})
    said = (
        f"LeNet-5 teaches LeNet-5-half, a quarter of its weights. Mean ± standard deviation over {seeds} seeds, in "
        f"percent. DFAD: {budget['dfad_rounds']:,} rounds of five steps of the student and one of the generator; DAFL: "
        f"{budget['dafl_rounds']:,} rounds of one and one; batches of {budget['batch']}, a generator of "
        f"{budget['width']} channels. The last student, on {budget['test']:,} test images. Optimizers and weights are "
        "the published ones."
    )
    teacher = percent(values(records, "teacher", "accuracy"))
    rows = [[f"teacher: {budget['labelled']:,}", teacher, "", "", PUBLISHED["teacher"]]]
    for method, title in TITLES.items():
        shares = [percent(values(records, method, name)) for name in ("accuracy", "agreement")]
        minutes = statistics.mean(values(records, method, "cpu_seconds")) / 60
        rows.append([title.format(**budget), *shares, f"{minutes:.1f}", PUBLISHED.get(method, "")])
    head = ["real training images", "test accuracy", "names the teacher's class", "CPU minutes per run", "published"]
    published = (
        "Published: Fang et al. 2019 (arXiv:1912.11006), with 2,000 rounds, batches of 512 and a generator of 64 "
        "channels; their code reports the best of 40 students on the test images, here the last one is reported."
    )
    parts = [said, Table(head, rows), published]
    return Page("MNIST without one real training image", parts, lambda: picture(records))


def picture(records: Sequence[Record]):
    """Accuracy by round, and what the generators of the first seed draw."""
    drawing, budget = figure(11, 3.5), Budget(**records[0].settings)
    grid = drawing.add_gridspec(len(GAMES), 18)
    axes = drawing.add_subplot(grid[:, :7])
    for method in GAMES:
        curves = 100 * np.array([history["val_accuracy"] for history in values(records, method, "history")])
        rounds = np.linspace(0, 1, curves.shape[1] + 1)[1:] * budget.rounds(method)
        axes.plot(rounds, curves.mean(0), label=method.upper())
        axes.fill_between(rounds, curves.min(0), curves.max(0), alpha=0.2)
    axes.set(xlabel="rounds", ylabel="accuracy on real validation images, %")
    axes.legend()
    for row, method in enumerate(GAMES):
        drawn = next(record.figures["drawn"] for record in records if record.setting == method)
        for digit, text in enumerate(drawn):
            cell = drawing.add_subplot(grid[row, 8 + digit])
            cell.imshow(as_image(text), cmap="gray")
            cell.set_title(str(digit) if digit else f"{method.upper()}\n0", fontsize=9)
            cell.axis("off")
    return drawing
