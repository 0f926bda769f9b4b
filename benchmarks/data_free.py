"""MNIST without one real training image: DFAD and DAFL, LeNet-5 to LeNet-5-half, three seeds.

    TFDS_DATA_DIR=... python benchmarks/data_free.py                             # twenty minutes of one core
    python benchmarks/data_free.py --batch 512 --width 64 --dfad-rounds 2000 --dafl-rounds 24000   # as published

The teacher is trained once, on labelled images. Each student then sees what a generator draws, and nothing else, for a
fixed number of rounds; the same student on the labelled images stands beside. Optimizers and weights are those that the
authors published, for nothing could be tuned where there are no data; by default the generator is smaller and draws
less, to fit a CPU. What is reported is the last student on the 10,000 test images, used once per run; the curves are of
real validation images, by which nothing is chosen. Runs that are done are not done again. Writes
`benchmarks/results/data_free.json`, `.md` and `.png`.
"""

import argparse
import json
import resource
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import keras
import numpy as np
from small_runs import accuracy, mean_and_deviation, remembered

import keras_kd as kd
from keras_kd.data_free import DAFL, DFAD, DataFreeDistiller, image_generator
from keras_kd.plots import figure

FOLDER, RESULTS = Path("saved_models/data_free"), Path(__file__).parent / "results"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/data_free.py"
SEEDS, EPOCHS, LATENT, STEPS, VALIDATION = (0, 1, 2), 10, 100, 100, 2000
MEAN, STD = 0.1307, 0.3081  # of MNIST in [0, 1], by which the published models see it
TITLES = {"labels": "54,000 labelled images", "dfad": "DFAD: none", "dafl": "DAFL: none"}
PUBLISHED = {"teacher": "98.9", "dfad": "98.3 ± 0.2"}
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclass(frozen=True)
class Budget:
    """How much is drawn, by how large a generator."""

    batch: int = 128
    width: int = 8
    dfad_rounds: int = 1000
    dafl_rounds: int = 1000

    def rounds(self, method: str) -> int:
        """Of one run."""
        return getattr(self, f"{method}_rounds")


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


class Study:
    """All runs, each done once and kept in a folder.

    Args:
        budget: What every run is given.
    """

    def __init__(self, budget: Budget):
        self._budget, self._folder = budget, FOLDER / "_".join(map(str, astuple(budget)))
        self._folder.mkdir(parents=True, exist_ok=True)
        source = kd.data.load("mnist")
        transform = kd.data.input_transform(source, (28, 28, 1))

        def arrays(split):
            # As the published models see them.
            batches = kd.data.pipeline(split, transform=transform, batch_size=512).as_numpy_iterator()
            x, y = map(np.concatenate, zip(*batches, strict=True))
            return (x - MEAN) / STD, y

        splits = source.train, source.validation.take(VALIDATION), source.test
        self.train, self.validation, self.test = map(arrays, splits)
        self.teacher = self._teacher()

    def _teacher(self) -> keras.Model:
        path = FOLDER / "teacher.keras"
        if not path.exists():
            keras.utils.set_random_seed(0)
            self._trained_on_labels(lenet(1.0, "teacher")).save(path)
        return keras.saving.load_model(path)

    def _trained_on_labels(self, model: keras.Model) -> keras.Model:
        model.compile(momentum(), CROSS_ENTROPY)
        model.fit(*self.train, batch_size=128, epochs=EPOCHS, verbose=0)
        return model

    def run(self, method: str, seed: int) -> dict:
        """The figures of one run, or what was left of it."""

        def figures():
            keras.utils.set_random_seed(seed)
            before, student, history = _cpu_seconds(), lenet(0.5, "student"), {}
            if method == "labels":
                self._trained_on_labels(student)
            else:
                history = self._distilled(method, student, seed)
            x, y = self.test
            return {
                "accuracy": accuracy(student, x, y),
                "agreement": accuracy(student, x, np.asarray(self.teacher(x, training=False)).argmax(-1)),
                "cpu_seconds": _cpu_seconds() - before,
                "history": history,
            }

        folder = FOLDER if method == "labels" else self._folder
        return remembered(folder / f"{method}_{seed}.json", figures)

    def _distilled(self, method: str, student: keras.Model, seed: int) -> dict[str, list[float]]:
        generator = image_generator((28, 28, 1), latent_dim=LATENT, width=self._budget.width, mean=0.0, std=1.0)
        game = DFAD() if method == "dfad" else DAFL("features")
        distiller = DataFreeDistiller(student, self.teacher, generator, method=game)
        distiller.compile(**optimizers(method), loss=CROSS_ENTROPY, metrics=["accuracy"])
        history = distiller.fit(
            steps_per_epoch=STEPS,
            epochs=self._budget.rounds(method) // STEPS,
            batch_size=self._budget.batch,
            validation_data=self.validation,
            validation_batch_size=1000,
            verbose=0,
        ).history
        np.save(self._folder / f"{method}_{seed}.npy", self._best_draws(distiller))
        return history

    def _best_draws(self, distiller: DataFreeDistiller) -> np.ndarray:
        """Of a thousand images, for each digit the one that the teacher is most certain of."""
        drawn = distiller.generate(1000, seed=0)
        certainty = np.asarray(keras.ops.softmax(self.teacher(drawn, training=False)))
        return drawn[certainty.argmax(0)]

    def draws(self, method: str) -> np.ndarray:
        """Ten images of the first run, a digit each."""
        return np.load(self._folder / f"{method}_{SEEDS[0]}.npy")


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def table(budget: Budget, teacher: float, runs: dict[str, list[dict]]) -> str:
    """The results as Markdown."""
    lines = [
        "# MNIST without one real training image",
        "",
        f"`{COMMAND}`: LeNet-5 teaches LeNet-5-half, a quarter of its weights. Seeds {SEEDS}, mean ± standard "
        f"deviation in percent. DFAD: {budget.dfad_rounds:,} rounds of five steps of the student and one of the "
        f"generator; DAFL: {budget.dafl_rounds:,} rounds of one and one; batches of {budget.batch}, a generator of "
        f"{budget.width} channels. The last student, on 10,000 test images. Optimizers and weights are the published "
        "ones.",
        "",
        "| real training images | test accuracy | names the teacher's class | CPU minutes per run | published |",
        "|---|---|---|---|---|",
        f"| teacher: 54,000 | {100 * teacher:.2f} | | | {PUBLISHED['teacher']} |",
    ]
    for method, of_method in runs.items():
        spread = [mean_and_deviation([run[key] for run in of_method]) for key in ("accuracy", "agreement")]
        minutes = np.mean([run["cpu_seconds"] for run in of_method]) / 60
        lines.append(f"| {TITLES[method]} | {' | '.join(spread)} | {minutes:.1f} | {PUBLISHED.get(method, '')} |")
    lines += [
        "",
        "Published: Fang et al. 2019 (arXiv:1912.11006), with 2,000 rounds, batches of 512 and a generator of 64 "
        "channels; their code reports the best of 40 students on the test images, here the last one is reported.",
        "",
    ]
    return "\n".join(lines)


def draw(study: Study, budget: Budget, runs: dict[str, list[dict]]) -> None:
    """Accuracy by round, and what the generators draw."""
    page = figure(11, 3.5)
    games = [method for method in runs if method != "labels"]
    grid = page.add_gridspec(len(games), 18)
    axes = page.add_subplot(grid[:, :7])
    for method in games:
        curves = 100 * np.array([run["history"]["val_accuracy"] for run in runs[method]])
        rounds = np.linspace(0, 1, curves.shape[1] + 1)[1:] * budget.rounds(method)
        axes.plot(rounds, curves.mean(0), label=method.upper())
        axes.fill_between(rounds, curves.min(0), curves.max(0), alpha=0.2)
    axes.set(xlabel="rounds", ylabel="accuracy on real validation images, %")
    axes.legend()
    for row, method in enumerate(games):
        for digit, image in enumerate(study.draws(method)):
            cell = page.add_subplot(grid[row, 8 + digit])
            cell.imshow(image[..., 0], cmap="gray")
            cell.set_title(str(digit) if digit else f"{method.upper()}\n0", fontsize=9)
            cell.axis("off")
    page.savefig(RESULTS / "data_free.png", dpi=120)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in asdict(Budget()).items():
        parser.add_argument(f"--{option.replace('_', '-')}", type=int, default=default)
    budget = Budget(**vars(parser.parse_args()))
    study = Study(budget)
    runs = {method: [study.run(method, seed) for seed in SEEDS] for method in TITLES}
    teacher = accuracy(study.teacher, *study.test)
    results = {"budget": asdict(budget), "teacher": teacher, "runs": runs}
    (RESULTS / "data_free.json").write_text(json.dumps(results, indent=1) + "\n")
    (RESULTS / "data_free.md").write_text(table(budget, teacher, runs))
    draw(study, budget, runs)
    print(table(budget, teacher, runs))
