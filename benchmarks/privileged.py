"""Generalised distillation with privileged information (Lopez-Paz et al. 2016): MNIST, the student sees 7 x 7 pixels.

    TFDS_DATA_DIR=... python benchmarks/privileged.py

The teacher sees the images of 28 x 28 pixels, the student the same images reduced to 7 x 7; both learn from 300 or 500
of them and are tested on 10,000. Both are networks of two hidden layers of 20 ReLUs, trained by RMSprop at 1e-3 for 50
epochs in batches of 128, as Keras had them then, ten times on other images with other initial weights. As in the
authors' code, the total is `(1 - λ) CE(labels, softmax(s)) + λ T² CE(softmax(t / T), softmax(s))`: the student's
softmax is at temperature 1. Their `λ = 0.2`, where their runs come to .64 at `T = 10`, is 0.8 of the labels' loss
beside 20 times that of the soft targets. (What is not theirs: images are reduced by bilinear interpolation with
antialiasing, the student alone is one run for all temperatures, and runs of one repetition begin with the same
weights.) Nothing is tuned. Runs that are done are not done again. Writes `privileged.json`, `.md` and `.png`
to `benchmarks/results/modalities`.
"""

import json
import statistics
from functools import cached_property
from pathlib import Path

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from small_runs import accuracy, begin_anew, distiller_of, gain, mean_and_deviation, remembered, shown

import keras_kd as kd

FOLDER = Path("saved_models/modalities/privileged")
RESULTS = Path(__file__).parent / "results" / "modalities"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/privileged.py"
EXAMPLES, REPETITIONS, EPOCHS, BATCH = (300, 500), 10, 50, 128
TEMPERATURES, IMITATION = (1, 2, 5, 10, 20, 50), (0.2, 0.5, 0.8, 1.0)
# Means of the runs in the authors' `figures/result_mnist_300` and `_500`; of the student alone at all temperatures.
PUBLISHED = {
    "300": {"teacher": 80, "alone": 47, "λ = 0.2": 64, "λ = 0.5": 59, "λ = 0.8": 59, "λ = 1": 61},
    "500": {"teacher": 84, "alone": 59, "λ = 0.2": 74, "λ = 0.5": 71, "λ = 0.8": 73, "λ = 1": 73},
}


def mlp(pixels: int) -> keras.Sequential:
    """Two hidden layers of 20 ReLUs and ten classes, as logits."""
    hidden = [keras.layers.Dense(20, "relu") for _ in range(2)]
    return keras.Sequential([keras.Input((pixels,)), *hidden, keras.layers.Dense(10)])


def rmsprop() -> keras.optimizers.RMSprop:
    """With the epsilon that Keras had then."""
    return keras.optimizers.RMSprop(1e-3, rho=0.9, epsilon=1e-6)


def glorot(shape, fan_in):
    """Keras's own initial weights."""
    return keras.initializers.GlorotUniform()(shape) if len(shape) == 2 else np.zeros(shape)


def passes(x, y, seed: int) -> tf.data.Dataset:
    """All epochs in a row, each in another order: Keras takes longer to begin an epoch than for its three steps."""
    data = tf.data.Dataset.from_tensor_slices((x, y))
    return data.shuffle(len(y), seed=seed).batch(BATCH).repeat(EPOCHS)


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


class Study:
    """MNIST in memory, and the runs of one repetition after the other."""

    @cached_property
    def splits(self) -> dict[str, dict[str, np.ndarray]]:
        """Images as rows, their reductions and labels, to draw from and to test on."""
        source = kd.data.load("mnist")
        splits = {}
        for name in ("train", "test"):
            batches = getattr(source, name).batch(1000).as_numpy_iterator()
            images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
            images = np.float32(images).reshape(-1, 28, 28, 1) / 255.0
            reduced = tf.image.resize(images, (7, 7), "bilinear", antialias=True).numpy()
            splits[name] = {"image": images.reshape(-1, 784), "reduced": reduced.reshape(-1, 49), "y": labels}
        return splits

    @cached_property
    def models(self) -> Models:
        """Compiled once."""
        return Models()

    def repetition(self, examples: int, seed: int) -> dict[str, float]:
        """Test accuracies of one draw of training images: of the teacher, the student alone and each setting."""
        train, test = self.splits["train"], self.splits["test"]
        drawn = np.random.default_rng(seed).permutation(len(train["y"]))[:examples]
        x = {key: train[key][drawn] for key in ("image", "reduced")}
        y = train["y"][drawn]
        teacher, student = self.models.teacher, self.models.student
        begin_anew(teacher, [teacher], seed, glorot)
        teacher.fit(passes(x["image"], y, seed), shuffle=False, verbose=0)
        figures = {"teacher": accuracy(teacher, test["image"], test["y"])}
        for temperature in TEMPERATURES:
            for imitation in (0.0, *IMITATION) if temperature == 1 else IMITATION:
                distiller = self.models.distiller(temperature)
                begin_anew(distiller, [student], seed, glorot)
                distiller.alpha = 1.0 - imitation
                distiller.fit(passes(x, y, seed), shuffle=False, verbose=0)
                name = f"T = {temperature}, λ = {imitation:g}" if imitation else "alone"
                figures[name] = accuracy(student, test["reduced"], test["y"])
        return figures


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """The results as Markdown."""
    lines = [
        "# Privileged information",
        "",
        f"`{COMMAND}`: MNIST, generalised distillation (Lopez-Paz et al. 2016, arXiv:1511.03643). The teacher sees "
        f"28 × 28 pixels, the student 7 × 7; test accuracy in percent, mean and standard deviation over {REPETITIONS} "
        "draws of the training images, and the gain over the student alone with its 95 % interval, paired by draw.",
        "",
        "| training images | | published | here | gain |",
        "|---|---|---|---|---|",
    ]
    titles = {"teacher": "teacher", "alone": "student alone"}
    for examples, runs in results.items():
        for key, published in PUBLISHED[examples].items():
            name = key if key in titles else f"T = 10, {key}"
            gained = "" if key in titles else shown(gain(runs[name], runs["alone"], name))
            title = titles.get(key, f"distilled, {name}")
            lines.append(f"| {examples} | {title} | {published} | {mean_and_deviation(runs[name])} | {gained} |")
    return "\n".join(lines) + "\n"


def plot(results: dict[str, dict[str, list[float]]]) -> plt.Figure:
    """Accuracy against the temperature, a line for each weight of the teacher."""
    drawn, axes = plt.subplots(1, len(results), figsize=(9.5, 4.0), layout="constrained", sharey=True, squeeze=False)
    for axis, (examples, runs) in zip(axes[0], results.items(), strict=True):
        mean = {name: 100 * statistics.mean(values) for name, values in runs.items()}
        for name, title, colour in (("teacher", "teacher", "tab:green"), ("alone", "student alone", "tab:gray")):
            axis.axhline(mean[name], color=colour, ls="--", label=title)
        for imitation in IMITATION:
            heights = [mean[f"T = {temperature}, λ = {imitation:g}"] for temperature in TEMPERATURES]
            axis.plot(TEMPERATURES, heights, "o-", label=f"distilled, λ = {imitation:g}")
        axis.set(title=f"{examples} training images", xlabel="temperature", xscale="log", xticks=TEMPERATURES)
        axis.xaxis.set_major_formatter("{x:g}")
        axis.minorticks_off()
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, -1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawn


def main() -> None:
    """Runs what is missing and writes table and plot."""
    study, results = Study(), {}
    for examples in EXAMPLES:
        runs = []
        for seed in range(REPETITIONS):
            path = FOLDER / f"{examples}_{seed}.json"
            runs.append(remembered(path, lambda of=(examples, seed): study.repetition(*of)))
            print(examples, seed, runs[-1], flush=True)
        results[str(examples)] = {name: [run[name] for run in runs] for name in runs[0]}
    RESULTS.mkdir(parents=True, exist_ok=True)
    RESULTS.joinpath("privileged.json").write_text(json.dumps(results, indent=1))
    RESULTS.joinpath("privileged.md").write_text(table(results), encoding="utf-8")
    plot(results).savefig(RESULTS / "privileged.png", dpi=120)


if __name__ == "__main__":
    main()
