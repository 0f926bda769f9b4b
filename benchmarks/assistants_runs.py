"""What `benchmarks/assistants.py` trains: a teacher, assistants that it teaches, and students of either or both."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from records import made

import keras_kd as kd

FOLDER = Path("saved_models/assistants")
PLANES = {
    2: "16 pool 16 pool",
    4: "16 16 pool 32 32 pool",
    6: "16 16 pool 32 32 pool 64 64 pool",
    10: "32 32 pool 64 64 pool 128 128 pool 256 256 256 256 pool dense128",
}
TEACHER, ASSISTANT, STUDENT = 10, 4, 2
SGD = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 1e-4}
SIZE = 32  # of images that differ in theirs
AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))


@dataclass(frozen=True)
class Budget:
    """What every row of the table is given."""

    dataset: str = "fashion_mnist"
    examples: int = 1000
    teacher_examples: int = 10_000
    validation: int = 2000
    tested: int = 10_000
    epochs: int = 40
    teacher_epochs: int = 10
    batch: int = 32
    views: int = 8


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


class Images:
    """A TFDS data set, or a folder of images by class, in memory: to train on, and held out."""

    def __init__(self, budget: Budget):
        source = kd.data.load(budget.dataset)
        self.shape, self.classes = tuple(size or SIZE for size in source.input_shape), source.num_classes
        transform = kd.data.input_transform(source, self.shape)

        def arrays(split: tf.data.Dataset) -> tuple[np.ndarray, np.ndarray]:
            x, y = zip(*kd.data.pipeline(split, transform=transform).as_numpy_iterator(), strict=True)
            return np.concatenate(x), np.concatenate(y)

        self.train = arrays(source.train.take(max(budget.examples, budget.teacher_examples)))
        self.held_out = {
            "validation": arrays(source.validation.take(budget.validation)),
            "test": arrays(source.test.take(budget.tested)),
        }


class Study:
    """All trainings within one budget, each done once and its model kept in a folder.

    Args:
        budget: What every row is given.
    """

    def __init__(self, budget: Budget):
        self._budget = budget
        self._folder = FOLDER / "_".join(str(value) for value in asdict(budget).values()).replace("/", "-")

    @cached_property
    def _images(self) -> Images:
        """Opened when a run is missing."""
        return Images(self._budget)

    def teacher_figures(self) -> dict[str, float]:
        """Accuracies of plane10, trained on labels and augmented images."""
        return self._figures(self._teacher())

    def assistant_figures(self, setting: Mapping[str, float], augmented: bool) -> dict[str, float]:
        """Accuracies of plane4, distilled from the teacher."""
        return self._figures(self._assistant(setting, augmented))

    def student_figures(self, method: str, setting: Mapping[str, float], augmented: bool, seed: int) -> dict:
        """Accuracies of plane2, trained by a method."""
        figures = self._figures(self._student(method, setting, augmented, seed))
        keras.backend.clear_session()
        return figures

    def _figures(self, model: keras.Model) -> dict[str, float]:
        return {
            name: float(np.mean(model.predict(x, batch_size=500, verbose=0).argmax(-1) == y))
            for name, (x, y) in self._images.held_out.items()
        }

    def _kept(self, name: str, train: Callable[[], keras.Model]) -> keras.Model:
        return keras.saving.load_model(made(self._folder / f"{name}.keras", lambda path: train().save(path)))

    def _teacher(self) -> keras.Model:
        def train():
            keras.utils.set_random_seed(0)
            model = self._plane(TEACHER)
            data = self._labelled(self._budget.teacher_examples, augmented=True, seed=0)
            self._fit(model, data, self._budget.teacher_epochs)
            return model

        return self._kept("teacher", train)

    def _assistant(self, setting: Mapping[str, float], augmented: bool) -> keras.Model:
        def train():
            teachers = {"teacher": self._teacher()}
            keras.utils.set_random_seed(0)
            model = self._plane(ASSISTANT)
            distiller = kd.Distiller(model, None, **setting)
            self._fit(distiller, self._taught(teachers, augmented, seed=0), self._budget.epochs)
            return model

        return self._kept(_named("assistant", setting, augmented), train)

    def _student(self, method: str, setting: Mapping[str, float], augmented: bool, seed: int) -> keras.Model:
        def train():
            teachers = {}
            if method in ("kd", "dgkd"):
                teachers["teacher"] = self._teacher()
            if method in ("takd", "dgkd"):
                teachers[_named("assistant", setting, augmented)] = self._assistant(setting, augmented)
            keras.utils.set_random_seed(seed)
            student = self._plane(STUDENT)
            if not teachers:
                self._fit(student, self._labelled(self._budget.examples, augmented, seed), self._budget.epochs)
                return student
            objective = kd.objectives.DenseGuidance(seed=seed) if method == "dgkd" else None
            distiller = kd.Distiller(student, None, objective, **setting)
            self._fit(distiller, self._taught(teachers, augmented, seed), self._budget.epochs)
            return student

        return self._kept(f"{_named(method, setting, augmented)}_{seed}", train)

    def _plane(self, convolutions: int) -> keras.Model:
        return plane(convolutions, self._images.shape, self._images.classes)

    def _fit(self, learner: keras.Model, data: tf.data.Dataset, epochs: int) -> None:
        """The paper's optimizer; the weights of the epoch that validation prefers."""
        optimizer = keras.optimizers.SGD(**SGD)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        learner.compile(optimizer, loss, metrics=["accuracy"])
        best = keras.callbacks.EarlyStopping(
            "val_accuracy", patience=epochs, restore_best_weights=True, mode="max", verbose=0
        )
        held_out = self._images.held_out["validation"]
        learner.fit(data, epochs=epochs, validation_data=held_out, callbacks=[best], verbose=0, shuffle=False)

    def _examples(self, count: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensor_slices(tuple(array[:count] for array in self._images.train))

    def _labelled(self, count: int, augmented: bool, seed: int) -> tf.data.Dataset:
        augment = AUGMENT if augmented else None
        return kd.data.pipeline(
            self._examples(count), batch_size=self._budget.batch, training=True, augment=augment, seed=seed
        )

    def _taught(self, teachers: Mapping[str, keras.Model], augmented: bool, seed: int) -> tf.data.Dataset:
        """Examples with what teachers say of them, cached."""
        source, augment = self._examples(self._budget.examples), AUGMENT if augmented else None
        views = self._budget.views if augmented else 1

        def asked(name: str, teacher: keras.Model) -> Path:
            return made(
                self._folder / "caches" / f"{name}_{'augmented' if augmented else 'plain'}",
                lambda path: kd.cache_teacher(teacher, source, path, augment=augment, views=views, verbose=0),
            )

        folders = [asked(name, teacher) for name, teacher in teachers.items()]
        cached = kd.open_cache(folders if len(folders) > 1 else folders[0], source, augment=augment)
        return cached.shuffle(self._budget.examples, seed=seed).batch(self._budget.batch).prefetch(2)


def _named(what: str, setting: Mapping[str, float], augmented: bool) -> str:
    return "_".join([what, *(f"{value:g}" for value in setting.values()), "augmented" if augmented else "plain"])
