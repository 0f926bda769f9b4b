"""Generalised distillation with privileged information (Lopez-Paz et al. 2016): MNIST, the student sees 7 x 7 pixels.

    python benchmarks/run.py privileged --seeds 10 --data-dir DIR

The teacher sees the images of 28 x 28 pixels, the student the same images reduced to 7 x 7; both learn from 300 or 500
of them and are tested on 10,000. Both are networks of two hidden layers of 20 ReLUs, trained by RMSprop at 1e-3 for 50
epochs in batches of 128, as Keras had them then, ten times on other images with other initial weights. As in the
authors' code, the total is `(1 - λ) CE(labels, softmax(s)) + λ T² CE(softmax(t / T), softmax(s))`: the student's
softmax is at temperature 1. Their `λ = 0.2`, where their runs come to .64 at `T = 10`, is 0.8 of the labels' loss
beside 20 times that of the soft targets. (What is not theirs: images are reduced by bilinear interpolation with
antialiasing, the student alone is one run for all temperatures, and runs of one repetition begin with the same
weights.) Nothing is tuned.
"""

import functools
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from records import Record, Run
from rendering import Page, Table, percent, values
from small_runs import accuracy, begin_anew, distiller_of, gain, shown

import keras_kd as kd

SEEDS, EXAMPLES, IMITATION, RATE = 10, (300, 500), (0.2, 0.5, 0.8, 1.0), 1e-3
FULL = {"epochs": 50, "batch": 128, "rate": RATE, "temperatures": (1, 2, 5, 10, 20, 50), "imitation": IMITATION}
QUICK = {**FULL, "epochs": 1, "temperatures": (1, 10)}
# Means of the runs in the authors' `figures/result_mnist_300` and `_500`; of the student alone at all temperatures.
PUBLISHED = {
    300: {"teacher": 80, "alone": 47, "λ = 0.2": 64, "λ = 0.5": 59, "λ = 0.8": 59, "λ = 1": 61},
    500: {"teacher": 84, "alone": 59, "λ = 0.2": 74, "λ = 0.5": 71, "λ = 0.8": 73, "λ = 1": 73},
}
TITLES = {"teacher": "teacher", "alone": "student alone"}


def mlp(pixels: int) -> keras.Sequential:
    """Two hidden layers of 20 ReLUs and ten classes, as logits."""
    hidden = [keras.layers.Dense(20, "relu") for _ in range(2)]
    return keras.Sequential([keras.Input((pixels,)), *hidden, keras.layers.Dense(10)])


def rmsprop() -> keras.optimizers.RMSprop:
    """With the epsilon that Keras had then."""
    return keras.optimizers.RMSprop(RATE, rho=0.9, epsilon=1e-6)


def glorot(shape, fan_in):
    """Keras's own initial weights."""
    return keras.initializers.GlorotUniform()(shape) if len(shape) == 2 else np.zeros(shape)


def passes(x, y, settings: dict[str, Any], seed: int) -> tf.data.Dataset:
    """All epochs in a row, each in another order: Keras takes longer to begin an epoch than for its three steps."""
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(len(y), seed=seed).batch(settings["batch"]).repeat(settings["epochs"])


class Models:
    """A teacher, a student, and a distiller of them for each temperature."""

    def __init__(self):
        self.teacher, self.student = mlp(784), mlp(49)
        self.teacher.compile(rmsprop(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        self._distillers: dict[int, kd.Distiller] = {}

    def distiller(self, temperature: int) -> kd.Distiller:
        """Learns from the teacher's classes at the temperature by its own at 1."""
        if temperature not in self._distillers:
            softened = keras.Sequential([self.teacher, keras.layers.Rescaling(1 / temperature)])
            taught_by = kd.Teacher(softened, inputs=["image"])
            objective = kd.objectives.SoftCrossEntropy(temperature=1.0, weight=float(temperature**2))
            self._distillers[temperature] = distiller_of(self.student, taught_by, objective, rmsprop(), "reduced")
        return self._distillers[temperature]


@functools.cache
def models() -> Models:
    """Compiled once."""
    return Models()


@functools.cache
def splits() -> dict[str, dict[str, np.ndarray]]:
    """MNIST: images as rows, their reductions and labels, to draw from and to test on."""
    source, found = kd.data.load("mnist"), {}
    for name in ("train", "test"):
        batches = getattr(source, name).batch(1000).as_numpy_iterator()
        images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        images = np.float32(images).reshape(-1, 28, 28, 1) / 255.0
        reduced = tf.image.resize(images, (7, 7), "bilinear", antialias=True).numpy()
        found[name] = {"image": images.reshape(-1, 784), "reduced": reduced.reshape(-1, 49), "y": labels}
    return found


def repetition(settings: dict[str, Any], seed: int) -> dict[str, float]:
    """Test accuracies of one draw of training images: of the teacher, the student alone and each setting."""
    train, test = splits()["train"], splits()["test"]
    drawn = np.random.default_rng(seed).permutation(len(train["y"]))[: settings["examples"]]
    x = {key: train[key][drawn] for key in ("image", "reduced")}
    y = train["y"][drawn]
    teacher, student = models().teacher, models().student
    begin_anew(teacher, [teacher], seed, glorot)
    teacher.fit(passes(x["image"], y, settings, seed), shuffle=False, verbose=0)
    figures = {"teacher": accuracy(teacher, test["image"], test["y"])}
    for temperature in settings["temperatures"]:
        for imitation in (0.0, *IMITATION) if temperature == 1 else IMITATION:
            distiller = models().distiller(temperature)
            begin_anew(distiller, [student], seed, glorot)
            distiller.alpha = 1.0 - imitation
            distiller.fit(passes(x, y, settings, seed), shuffle=False, verbose=0)
            name = f"T = {temperature}, λ = {imitation:g}" if imitation else "alone"
            figures[name] = accuracy(student, test["reduced"], test["y"])
    return figures


def title_of(examples: int) -> str:
    """The setting with so many training images."""
    return f"{examples} training images"


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """A run for each number of images; in small the fewer of them and two temperatures."""
    for examples in EXAMPLES[:1] if quick else EXAMPLES:
        settings = {"examples": examples, **(QUICK if quick else FULL)}
        yield Run(title_of(examples), seed, settings, functools.partial(repetition, settings, seed))


def page(records: Sequence[Record]) -> Page:
    """At the authors' temperature; the picture has all."""
    rows = []
    for examples in {record.settings["examples"]: None for record in records}:
        of = functools.partial(values, records, title_of(examples))
        for key, published in PUBLISHED[examples].items():
            name = key if key in TITLES else f"T = 10, {key}"
            gained = "" if key in TITLES else shown(gain(of(name), of("alone"), name))
            title = TITLES.get(key, f"distilled, {name}")
            rows.append([str(examples), title, str(published), percent(of(name)), gained])
    draws = len({record.seed for record in records})
    said = (
        "MNIST, generalised distillation (Lopez-Paz et al. 2016, arXiv:1511.03643). The teacher sees 28 × 28 pixels, "
        f"the student 7 × 7; test accuracy in percent, mean and standard deviation over {draws} draws of the training "
        "images, and the gain over the student alone with its 95 % interval, paired by draw."
    )
    table = Table(["training images", "", "published", "here", "gain"], rows)
    return Page("Privileged information", [said, table], lambda: plot(records))


def plot(records: Sequence[Record]) -> plt.Figure:
    """Accuracy against the temperature, a line for each weight of the teacher."""
    numbers = {record.settings["examples"]: None for record in records}
    temperatures = records[0].settings["temperatures"]
    drawn, axes = plt.subplots(1, len(numbers), figsize=(9.5, 4.0), layout="constrained", sharey=True, squeeze=False)
    for axis, examples in zip(axes[0], numbers, strict=True):

        def mean(name: str, setting: str = title_of(examples)) -> float:
            return 100 * statistics.mean(values(records, setting, name))

        for name, colour in (("teacher", "tab:green"), ("alone", "tab:gray")):
            axis.axhline(mean(name), color=colour, ls="--", label=TITLES[name])
        for imitation in IMITATION:
            heights = [mean(f"T = {temperature}, λ = {imitation:g}") for temperature in temperatures]
            axis.plot(temperatures, heights, "o-", label=f"distilled, λ = {imitation:g}")
        axis.set(title=title_of(examples), xlabel="temperature", xscale="log", xticks=temperatures)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn
