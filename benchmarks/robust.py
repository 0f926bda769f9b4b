"""Does a robust teacher make a small student robust? ARD and RSLAD beside adversarial training of the same budget.

    TFDS_DATA_DIR=... python benchmarks/robust.py      # some 12 minutes on one core

MNIST and Fashion-MNIST, small convolutional networks. A teacher is trained by plain adversarial training. Students of
a ninth of its size learn without any attack, by plain adversarial training, by soft targets of the robust teacher
(KD), by ARD and by RSLAD: the same images, epochs, batches, optimizer and, where there is one, the same attack. Nothing
is tuned: alpha, temperature and weights are those of the library and of the papers. Accuracy is on test images, natural
and under PGD-20, of the last epoch. Runs that are done are not done again. Writes `benchmarks/results/robust.json` and
`.md`.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from small_runs import mean_and_deviation, remembered

import keras_kd as kd
from keras_kd.robust import RobustDistiller, robust_accuracy

RUNS, RESULTS = Path("saved_models/robust"), Path(__file__).parent / "results"
DATASETS = ("mnist", "fashion_mnist")
# On validation images: within 0.2 the adversarial training of such a student has not begun after three epochs.
EPSILON = 0.1
METHODS = {
    "natural": "no attack",
    "kd": "KD, no attack",
    "at": "adversarial training",
    "ard": "ARD",
    "rslad": "RSLAD",
}
SEEDS = (0, 1, 2)
TEACHER_EXAMPLES, EXAMPLES, TEST_EXAMPLES = 20_000, 5_000, 2_000
TEACHER_EPOCHS, EPOCHS, BATCH, RATE = 4, 8, 50, 2e-3
STEPS = 7  # of the attack while training, each 2.5 epsilon / STEPS, as Madry et al. advise


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


class Study:
    """All runs on one data set, each done once and kept in a folder.

    Args:
        dataset: Name of a TFDS set of 28 x 28 images.
        held_out: Split on which accuracy is measured.
    """

    def __init__(self, dataset: str, held_out: str = "test"):
        self._folder = RUNS / dataset
        source = kd.data.load(dataset)
        transform = kd.data.input_transform(source, (28, 28, 1))

        def arrays(split, count):
            pairs = kd.data.pipeline(split.take(count), transform=transform).as_numpy_iterator()
            return tuple(np.concatenate(part) for part in zip(*pairs, strict=True))

        self._train = arrays(source.train, TEACHER_EXAMPLES)
        self._held_out = arrays(getattr(source, held_out), TEST_EXAMPLES)

    def _robust(self, model: keras.Model, teacher: keras.Model | None, method: str, seed: int) -> keras.Model:
        attack = {"epsilon": EPSILON, "step_size": 2.5 * EPSILON / STEPS, "steps": STEPS}
        return RobustDistiller(model, teacher, method=method, seed=seed, **attack)

    def _fit(self, learner: keras.Model, examples: int, epochs: int) -> None:
        rate = keras.optimizers.schedules.CosineDecay(RATE, epochs * examples // BATCH)
        learner.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        x, y = (array[:examples] for array in self._train)
        learner.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)

    def figures(self, model: keras.Model) -> dict[str, float]:
        """Accuracy on images that it has not seen, natural and under PGD-20."""
        step = 2.5 * EPSILON / 20
        found = robust_accuracy(model, self._held_out, epsilon=EPSILON, step_size=step, batch_size=500)
        return {"natural": found.natural, "robust": found.robust}

    def teacher(self) -> keras.Model:
        """Trained by plain adversarial training, on more images than its students see."""
        path = self._folder / "teacher.keras"
        if not path.exists():
            keras.utils.set_random_seed(0)
            model = teacher_model()
            self._fit(self._robust(model, None, "at", seed=0), TEACHER_EXAMPLES, TEACHER_EPOCHS)
            path.parent.mkdir(parents=True, exist_ok=True)
            model.save(path)
        return keras.saving.load_model(path)

    def teacher_figures(self) -> dict[str, float]:
        """Those of the teacher."""
        return remembered(self._folder / "teacher.json", lambda: self.figures(self.teacher()))

    def run(self, method: str, seed: int) -> dict[str, float]:
        """Trains one student, or reads what was left of it."""

        def train():
            teacher = None if method in ("natural", "at") else self.teacher()
            keras.utils.set_random_seed(seed)
            student = student_model()
            learner = student if method == "natural" else kd.Distiller(student, teacher) if method == "kd" else None
            begun = time.process_time()
            self._fit(learner or self._robust(student, teacher, method, seed), EXAMPLES, EPOCHS)
            seconds = time.process_time() - begun
            figures = {**self.figures(student), "seconds": seconds}
            print(self._folder.name, method, seed, figures, flush=True)
            return figures

        return remembered(self._folder / f"{method}_{seed}.json", train)


def gain(runs: list[dict], others: list[dict]) -> str:
    """Of robust accuracy over another row, in points, seed by seed."""
    gains = [100 * (run["robust"] - other["robust"]) for run, other in zip(runs, others, strict=True)]
    return f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f}"


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    sizes = [f"{model().count_params():,}" for model in (teacher_model, student_model)]
    lines = [
        "# Robust distillation: accuracy under attack",
        "",
        f"`python benchmarks/robust.py`: teacher of {sizes[0]} parameters, {TEACHER_EPOCHS} epochs of plain "
        f"adversarial training on {TEACHER_EXAMPLES:,} images; students of {sizes[1]}, {EPOCHS} epochs of "
        f"{EXAMPLES:,} of these images, batches of {BATCH}, Adam with cosine decay from {RATE}. Attack while training: "
        f"PGD-{STEPS} within ε = {EPSILON}, on the test images PGD-20, both in steps of 2.5 ε / steps. Accuracy in "
        "percent on the first "
        f"{TEST_EXAMPLES:,} test images after the last epoch, mean ± standard deviation over {len(SEEDS)} seeds. "
        "Nothing was tuned: alpha, temperature and weights are the library's (KD) and the papers'. These are small "
        "networks trained for seconds: ε of MNIST is 0.3 in the literature, and within 0.2, on validation images, such "
        "a training had not begun after three epochs. PGD-20 is an upper bound of robustness.",
        "",
        "| data | model | natural | PGD-20 | PGD-20, over adversarial training | CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for dataset, found in results.items():
        teacher = found["teacher"]
        natural, robust = (f"{100 * teacher[name]:.2f}" for name in ("natural", "robust"))
        lines.append(f"| {dataset} | teacher, adversarial training | {natural} | {robust} | | |")
        for method, runs in found["runs"].items():
            natural, robust = (mean_and_deviation([run[name] for run in runs]) for name in ("natural", "robust"))
            over = "" if method == "at" else gain(runs, found["runs"]["at"])
            seconds = statistics.mean(run["seconds"] for run in runs)
            cells = (dataset, f"student, {METHODS[method]}", natural, robust, over, f"{seconds:.0f}")
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs what is missing and writes the table."""
    results = {}
    for dataset in DATASETS:
        study = Study(dataset)
        runs = {method: [study.run(method, seed) for seed in SEEDS] for method in METHODS}
        results[dataset] = {"teacher": study.teacher_figures(), "runs": runs}
    RESULTS.joinpath("robust.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    RESULTS.joinpath("robust.md").write_text(table(results), encoding="utf-8")
    print(table(results))


if __name__ == "__main__":
    main()
