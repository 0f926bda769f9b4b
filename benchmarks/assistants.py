"""Do teacher assistants help? The plane CNNs of the TAKD paper: no distillation, KD, TAKD and DGKD, five seeds.

    TFDS_DATA_DIR=... python benchmarks/assistants.py                            # Fashion-MNIST, a few hours on 2 cores
    python benchmarks/assistants.py --dataset cifar10 --examples 45000 --teacher-examples 45000 --batch 128 --epochs 160

Teacher plane10 is trained once, on labels. An assistant, plane4, is distilled from it; students, plane2, from the
teacher (KD), from the assistant (TAKD), or from both, one of them left out of each batch (DGKD). Every row has the same
images, epochs, batches and optimizer (the paper's SGD), every one of them the weights of the epoch that validation
images prefer, and temperature and alpha chosen on validation images, with the first seed, from the same grid. What the
teachers say is cached. With and without augmentation; `--dataset` is a TFDS name or a folder of images by class. Runs
that are done are not done again. Writes `benchmarks/results/assistants/DATASET.json`, `.md` and `.png`.
"""

import argparse
import itertools
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy import stats

import keras_kd as kd
from keras_kd.plots import figure

FOLDER, RESULTS = Path("saved_models/assistants"), Path(__file__).parent / "results" / "assistants"
PLANES = {
    2: "16 pool 16 pool",
    4: "16 16 pool 32 32 pool",
    6: "16 16 pool 32 32 pool 64 64 pool",
    10: "32 32 pool 64 64 pool 128 128 pool 256 256 256 256 pool dense128",
}
TEACHER, ASSISTANT, STUDENT = 10, 4, 2
METHODS = {"alone": "no distillation", "kd": "KD", "takd": "TAKD", "dgkd": "DGKD"}
GRID = tuple(itertools.product((2.0, 6.0), (0.1, 0.5)))
SEEDS, VALIDATION = (0, 1, 2, 3, 4), 2000
SIZE = 32  # of images that differ in theirs
AUGMENT, VIEWS = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2)), 8


@dataclass(frozen=True)
class Budget:
    """What every row of the table is given."""

    dataset: str = "fashion_mnist"
    examples: int = 1000
    teacher_examples: int = 10_000
    epochs: int = 40
    teacher_epochs: int = 10
    batch: int = 32


def plane(convolutions: int, shape: tuple[int, ...], classes: int) -> keras.Model:
    """The paper's plain CNN of so many convolutions, each followed by batch normalisation and ReLU."""
    layers, stack = keras.layers, [keras.Input(shape)]
    for word in PLANES[convolutions].split():
        if word == "pool":
            stack.append(layers.MaxPooling2D())
        elif word.startswith("dense"):
            stack += [layers.Flatten(), layers.Dense(int(word.removeprefix("dense")), activation="relu")]
        else:
            stack += [layers.Conv2D(int(word), 3, padding="same"), layers.BatchNormalization(), layers.ReLU()]
    return keras.Sequential([*stack, layers.Flatten(), layers.Dense(classes)], name=f"plane{convolutions}")


class Study:
    """All runs on one data set within one budget, each done once and kept in a folder.

    Args:
        budget: What every row is given.
    """

    def __init__(self, budget: Budget):
        self.budget = budget
        self._folder = FOLDER / "_".join(str(value) for value in asdict(budget).values()).replace("/", "-")
        source = kd.data.load(budget.dataset)
        self._shape = tuple(size or SIZE for size in source.input_shape)
        self._transform = kd.data.input_transform(source, self._shape)
        self._classes = source.num_classes
        self._train = self._arrays(source.train.take(max(budget.examples, budget.teacher_examples)))
        self._held_out = {
            "validation": self._arrays(source.validation.take(VALIDATION)),
            "test": self._arrays(source.test),
        }

    def _arrays(self, split: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
        x, y = zip(*kd.data.pipeline(split, transform=self._transform).as_numpy_iterator(), strict=True)
        return np.concatenate(x), np.concatenate(y)

    def _examples(self, count: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(tuple(array[:count] for array in self._train))

    def _plane(self, convolutions: int) -> keras.Model:
        return plane(convolutions, self._shape, self._classes)

    def _fit(self, learner: keras.Model, data: tf.data.Dataset, epochs: int, metrics: list[str]) -> None:
        """The paper's optimizer; the weights of the epoch that validation prefers."""
        optimizer = keras.optimizers.SGD(0.01, momentum=0.9, weight_decay=1e-4)
        learner.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=metrics)
        best = keras.callbacks.EarlyStopping(
            "val_accuracy", patience=epochs, restore_best_weights=True, mode="max", verbose=0
        )
        learner.fit(
            data,
            epochs=epochs,
            validation_data=self._held_out["validation"],
            callbacks=[best],
            verbose=0,
            shuffle=False,
        )

    def _once(self, name: str, make: Callable[[], keras.Model]) -> keras.Model:
        path = self._folder / f"{name}.keras"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            keras.utils.set_random_seed(0)
            make().save(path)
            print(f"{name}: {self.figures(keras.saving.load_model(path))}", flush=True)
        return keras.saving.load_model(path)

    def teacher(self) -> keras.Model:
        """plane10, trained on labels and augmented images."""

        def make():
            model = self._plane(TEACHER)
            data = self._labelled(self.budget.teacher_examples, augmented=True, seed=0)
            self._fit(model, data, self.budget.teacher_epochs, ["accuracy"])
            return model

        return self._once("teacher", make)

    def assistant(self, temperature: float, alpha: float, augmented: bool) -> keras.Model:
        """plane4, distilled from the teacher."""

        def make():
            model = self._plane(ASSISTANT)
            data = self._taught([("teacher", self.teacher())], augmented, seed=0)
            distiller = kd.Distiller(model, None, alpha=alpha, temperature=temperature)
            self._fit(distiller, data, self.budget.epochs, ["accuracy"])
            return model

        return self._once(_assistant_name(temperature, alpha, augmented), make)

    def _labelled(self, count: int, augmented: bool, seed: int) -> tf.data.Dataset:
        augment = AUGMENT if augmented else None
        return kd.data.pipeline(
            self._examples(count), batch_size=self.budget.batch, training=True, augment=augment, seed=seed
        )

    def _taught(self, teachers: list[tuple[str, keras.Model]], augmented: bool, seed: int) -> tf.data.Dataset:
        source, augment = self._examples(self.budget.examples), AUGMENT if augmented else None
        folders = [self._folder / "caches" / f"{name}_{'augmented' if augmented else 'plain'}" for name, _ in teachers]
        for folder, (_, teacher) in zip(folders, teachers, strict=True):
            kd.cache_teacher(teacher, source, folder, augment=augment, views=VIEWS if augmented else 1, verbose=0)
        cached = kd.open_cache(folders if len(folders) > 1 else folders[0], source, augment=augment)
        return cached.shuffle(self.budget.examples, seed=seed).batch(self.budget.batch).prefetch(2)

    def run(self, method: str, temperature: float, alpha: float, augmented: bool, seed: int) -> dict[str, float]:
        """Trains one student, or reads what was left of it."""
        name = f"{method}_{temperature:g}_{alpha:g}_{'augmented' if augmented else 'plain'}_{seed}"
        path = self._folder / "runs" / f"{name}.json"
        if not path.exists():
            student = self._student(method, temperature, alpha, augmented, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(self.figures(student)))
            print(name, path.read_text(), flush=True)
            keras.backend.clear_session()
        return json.loads(path.read_text())

    def _student(self, method: str, temperature: float, alpha: float, augmented: bool, seed: int) -> keras.Model:
        teachers = []
        if method in ("kd", "dgkd"):
            teachers.append(("teacher", self.teacher()))
        if method in ("takd", "dgkd"):
            assistant = self.assistant(temperature, alpha, augmented)
            teachers.append((_assistant_name(temperature, alpha, augmented), assistant))
        keras.utils.set_random_seed(seed)
        student = self._plane(STUDENT)
        if not teachers:
            data = self._labelled(self.budget.examples, augmented, seed)
            self._fit(student, data, self.budget.epochs, ["accuracy"])
            return student
        objective = kd.objectives.DenseGuidance(seed=seed) if method == "dgkd" else None
        distiller = kd.Distiller(student, None, objective, alpha=alpha, temperature=temperature)
        self._fit(distiller, self._taught(teachers, augmented, seed), self.budget.epochs, ["accuracy"])
        return student

    def figures(self, model: keras.Model) -> dict[str, float]:
        """Accuracy on what it has not seen."""
        return {
            name: float(np.mean(model.predict(x, batch_size=500, verbose=0).argmax(-1) == y))
            for name, (x, y) in self._held_out.items()
        }

    def row(self, method: str, augmented: bool) -> dict[str, Any]:
        """The setting that validation prefers, and its runs for every seed."""
        grid = GRID if method != "alone" else ((1.0, 1.0),)
        first = {setting: self.run(method, *setting, augmented, SEEDS[0]) for setting in grid}
        temperature, alpha = max(first, key=lambda setting: first[setting]["validation"])
        runs = [self.run(method, temperature, alpha, augmented, seed) for seed in SEEDS]
        row = {"temperature": temperature, "alpha": alpha, "runs": runs}
        if method in ("takd", "dgkd"):
            row["assistant"] = self.figures(self.assistant(temperature, alpha, augmented))
        return row


def _assistant_name(temperature: float, alpha: float, augmented: bool) -> str:
    return f"assistant_{temperature:g}_{alpha:g}_{'augmented' if augmented else 'plain'}"


def paired(row: dict[str, Any], other: dict[str, Any]) -> str:
    """Mean gain over another row in points, seed by seed, its spread, and p of a paired t-test."""
    one, two = ([run["test"] for run in of["runs"]] for of in (row, other))
    gains = [100 * (a - b) for a, b in zip(one, two, strict=True)]
    p = stats.ttest_rel(one, two).pvalue
    return f"{statistics.mean(gains):+.2f} ± {statistics.stdev(gains):.2f} (p = {p:.2g})"


def table(budget: Budget, teacher: dict[str, float], rows: dict[str, dict[str, dict]]) -> str:
    """The results as Markdown."""
    header = [
        "augmented",
        "student",
        "T",
        "alpha",
        "its assistant",
        "validation",
        "test accuracy",
        "over none",
        "over KD",
    ]
    lines = [
        f"# Teacher assistants on {budget.dataset}",
        "",
        f"`python benchmarks/assistants.py --dataset {budget.dataset} --examples {budget.examples} --teacher-examples "
        f"{budget.teacher_examples} --epochs {budget.epochs} --teacher-epochs {budget.teacher_epochs} --batch "
        f"{budget.batch}`: teacher plane{TEACHER} ({teacher['test']:.2%} on the test images, trained on labels of "
        f"{budget.teacher_examples:,}), assistant plane{ASSISTANT}, students plane{STUDENT} that see "
        f"{budget.examples:,} of those images. SGD 0.01, momentum 0.9, weight decay 1e-4. Weights of the best of "
        f"{budget.epochs} epochs, T and alpha by {VALIDATION:,} validation images, with seed {SEEDS[0]}, from "
        f"{list(GRID)}. Mean and standard deviation over {len(SEEDS)} seeds; gains in points, paired by seed, with the "
        "p of a paired t-test. "
        f"Augmented: `{AUGMENT}`, teachers cached in {VIEWS} views.",
    ]
    lines += ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for title, of_title in rows.items():
        for method, row in of_title.items():
            tuned = [f"{row['temperature']:g}", f"{row['alpha']:g}"] if method != "alone" else ["", ""]
            tested, validated = ([100 * run[name] for run in row["runs"]] for name in ("test", "validation"))
            accuracy = f"{statistics.mean(tested):.2f} ± {statistics.stdev(tested):.2f} %"
            assistant = f"{row['assistant']['test']:.2%}" if "assistant" in row else ""
            over_none = paired(row, of_title["alone"]) if method != "alone" else ""
            over_kd = paired(row, of_title["kd"]) if method in ("takd", "dgkd") else ""
            cells = [title, METHODS[method], *tuned, assistant, f"{statistics.mean(validated):.2f} %", accuracy]
            lines.append(f"| {' | '.join([*cells, over_none, over_kd])} |")
    return "\n".join(lines) + "\n"


def plot(rows: dict[str, dict[str, dict]]) -> Any:
    """Every student's accuracy, and the mean of its row."""
    drawn = figure(9, 3.6)
    for axis, (title, of_title) in zip(drawn.subplots(1, len(rows), sharey=True), rows.items(), strict=True):
        for place, row in enumerate(of_title.values()):
            tested = [100 * run["test"] for run in row["runs"]]
            axis.plot([place] * len(tested), tested, "o", alpha=0.5)
            axis.hlines(statistics.mean(tested), place - 0.3, place + 0.3, color="black")
        axis.set(
            title=f"augmented: {title}",
            xticks=range(len(of_title)),
            xticklabels=[METHODS[method] for method in of_title],
        )
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", labelrotation=20)
        axis.set_ylabel("test accuracy of plane2, %")
        axis.label_outer()
    return drawn


def main() -> None:
    """Runs what is missing and writes table and plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(Budget()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    budget = Budget(**vars(parser.parse_args()))
    study = Study(budget)
    teacher = study.figures(study.teacher())
    rows: dict[str, dict[str, dict]] = {"no": {}, "yes": {}}
    for method in METHODS:
        for augmented, of_title in enumerate(rows.values()):
            of_title[method] = study.row(method, bool(augmented))
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = Path(budget.dataset).name.replace("/", "-")
    contents = {"budget": asdict(budget), "teacher": teacher, "rows": rows}
    RESULTS.joinpath(f"{name}.json").write_text(json.dumps(contents, indent=1), encoding="utf-8")
    RESULTS.joinpath(f"{name}.md").write_text(table(budget, teacher, rows), encoding="utf-8")
    plot(rows).savefig(RESULTS / f"{name}.png", dpi=120)


if __name__ == "__main__":
    main()
