"""What `benchmarks/spoken_mnist.py` trains: larger models, one of them the teacher, and light students."""

import csv
import itertools
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from records import made
from small_runs import accuracy, begin_anew

import keras_kd as kd
from keras_kd.data import multimodal
from keras_kd.modalities import LogMel, fusion_model
from keras_kd.modalities.presence import presence_key

FOLDER = Path("saved_models/spoken_mnist")
ALL, SPLITS = ("image", "audio", "text"), ("train", "validation", "test")
RATE, CLASSES = 8000, 10
FORMS = ("float32", "float16", "dynamic", "int8")


@dataclass(frozen=True)
class Budget:
    """What every row is given: pairs of a class, seconds of a recording, epochs; files of a class."""

    train: int = 400
    validation: int = 100
    test: int = 200
    seconds: float = 0.64
    # Voices that nothing was chosen by: the front end's floor was, on those that folds 1 and 2 validate on.
    fold: int = 4
    batch: int = 64
    teacher_epochs: int = 8
    student_epochs: int = 12
    files: int = 20
    representative: int = 300


QUICK = Budget(train=8, validation=2, test=4, teacher_epochs=1, student_epochs=1, files=2, representative=10)


@dataclass(frozen=True)
class Role:
    """What a model sees, and how it is built and trained."""

    sees: tuple[str, ...]
    width: int
    rate: float
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def subsets(self) -> list[tuple[str, ...]]:
        """What it is tested on: with `present`, any part of what it sees."""
        sizes = range(1, len(self.sees) + 1) if "present" in self.options else [len(self.sees)]
        return [subset for size in sizes for subset in itertools.combinations(self.sees, size)]


def title(names: tuple[str, ...]) -> str:
    """`("image", "audio")` -> `"image+audio"`."""
    return "+".join(names)


TEACHERS = {
    title(names): Role(names, width=16, rate=2e-3)
    for names in (("image",), ("text",), ("audio",), ("image", "audio"), ALL)
}
STUDENTS = {
    "image": Role(("image",), width=4, rate=5e-3),
    "audio": Role(("audio",), width=4, rate=5e-3),
    "all": Role(ALL, width=4, rate=5e-3, options={"present": True, "dropout_rates": 0.4}),
}


def front_end() -> LogMel:
    """What a `fusion_model` has inside by default, here outside: computed once for all runs."""
    return LogMel(RATE, floor=0.01, normalize=True, name="log_mel")


def left_of(x: dict[str, np.ndarray], subset: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Examples of which just these modalities are there, with the keys that say so."""
    seen = {name: x[name] if name in subset else np.zeros_like(x[name]) for name in ALL}
    return seen | {presence_key(name): np.full(len(x["image"]), name in subset) for name in ALL}


class Pairs:
    """The real pairs in memory, `(x, y)` by split: `raw` with waveforms, `seen` with what models hear of them."""

    def __init__(self, budget: Budget):
        per_class = (budget.train, budget.validation, budget.test)
        source = multimodal.spoken_mnist(per_class=per_class, seconds=budget.seconds, fold=budget.fold)
        self.modalities = source.modalities
        audio = keras.Input(self.modalities["audio"].shape)
        hear = keras.Model(audio, front_end()(audio))
        splits = {name: getattr(source, name).batch(CLASSES * max(per_class)) for name in SPLITS}
        self.raw = {name: next(split.as_numpy_iterator()) for name, split in splits.items()}
        self.seen = {
            name: ({**x, "audio": hear.predict(x["audio"], batch_size=500, verbose=0)}, y)
            for name, (x, y) in self.raw.items()
        }


class Learner:
    """A model of one role, compiled once and begun anew for each run."""

    def __init__(self, role: Role, pairs: Pairs, taught: bool, epochs: int, batch: int):
        self._role, self._pairs, self._epochs, self._batch = role, pairs, epochs, batch
        self.model = self._new(0)
        self._trains = kd.Distiller(self.model, None, student_inputs=list(self.model.input)) if taught else self.model
        self._examples = len(pairs.seen["train"][1])
        steps = -(-self._examples // batch) * epochs
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(role.rate, steps))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._trains.compile(optimizer, loss, jit_compile=False)  # on CPUs XLA is slower at convolutions

    def _new(self, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        specs = {name: self._pairs.modalities[name] for name in self._role.sees}
        return fusion_model(specs, CLASSES, width=self._role.width, mel=False, seed=seed, **self._role.options)

    def train(self, data: tf.data.Dataset, seed: int, temperature: float = 1.0, alpha: float = 1.0) -> None:
        """From new weights; all epochs in a row, each in another order."""
        fresh = self._new(seed)
        begin_anew(self._trains, [], seed, None)
        for variable, value in zip(self.model.variables, fresh.variables, strict=True):
            variable.assign(value)
        if self._trains is not self.model:
            self._trains.alpha, self._trains.temperature = alpha, temperature
        shuffled = data.shuffle(self._examples, seed=seed).batch(self._batch).repeat(self._epochs)
        self._trains.fit(shuffled.prefetch(2), shuffle=False, verbose=0)


class Study:
    """All trainings, each done once and its model kept."""

    def __init__(self, budget: Budget):
        self._budget = budget
        self._folder = FOLDER / "_".join(str(value) for value in asdict(budget).values())
        self._learners: dict[str, Learner] = {}

    @cached_property
    def pairs(self) -> Pairs:
        """Opened when a run is missing."""
        return Pairs(self._budget)

    def teacher_figures(self, name: str, seed: int) -> dict[str, Any]:
        """Figures of one of the larger models."""
        return self._figures(TEACHERS[name], self._teacher(name, seed))

    def student_figures(self, name: str, setting: Mapping[str, float], seed: int) -> dict[str, Any]:
        """Figures of a student at a temperature and an alpha."""
        return self._figures(STUDENTS[name], self._student(name, setting, seed))

    def validated(self, name: str, setting: Mapping[str, float], seed: int) -> float:
        """Mean validation accuracy of a student over all that it may see."""
        return statistics.fmean(self.student_figures(name, setting, seed)["validation"].values())

    def _figures(self, role: Role, model: keras.Model) -> dict[str, Any]:
        """Weights, and accuracies with each subset of what it sees, by split."""
        found: dict[str, Any] = {"parameters": model.count_params()}
        for split in ("validation", "test"):
            x, y = self.pairs.seen[split]
            found[split] = {}
            for subset in role.subsets:
                given = left_of(x, subset)
                found[split][title(subset)] = accuracy(model, {key: given[key] for key in model.input}, y)
        return found

    def _teacher(self, name: str, seed: int) -> keras.Model:
        def train(path):
            x, y = self.pairs.seen["train"]
            data = tf.data.Dataset.from_tensor_slices(({key: x[key] for key in TEACHERS[name].sees}, y))
            learner = self._learner(f"teacher_{name}")
            learner.train(data, seed)
            learner.model.save(path)

        return keras.saving.load_model(made(self._folder / f"teacher_{name}_{seed}.keras", train))

    def _student(self, name: str, setting: Mapping[str, float], seed: int) -> keras.Model:
        def train(path):
            data = self._examples_with_teacher
            learner = self._learner(f"student_{name}")
            learner.train(data, seed, **setting)
            learner.model.save(path)

        called = "student_{}_{temperature:g}_{alpha:g}_{}.keras".format(name, seed, **setting)
        return keras.saving.load_model(made(self._folder / called, train))

    def _learner(self, model: str) -> Learner:
        if model not in self._learners:
            kind, name = model.split("_")
            taught, budget = kind == "student", self._budget
            role = (STUDENTS if taught else TEACHERS)[name]
            epochs = budget.student_epochs if taught else budget.teacher_epochs
            self._learners[model] = Learner(role, self.pairs, taught, epochs, budget.batch)
        return self._learners[model]

    @cached_property
    def _examples_with_teacher(self) -> tf.data.Dataset:
        """Training examples with what the teacher of all modalities says of them."""
        x, y = self.pairs.seen["train"]
        data = tf.data.Dataset.from_tensor_slices((left_of(x, ALL), y))

        def ask(path):
            kd.cache_teacher(kd.Teacher(self._teacher(title(ALL), 0), inputs=list(ALL)), data, path, verbose=0)

        # One view, so that it may be kept in memory.
        return kd.open_cache(made(self._folder / "cache", ask), data).cache()

    def exported(self, name: str, setting: Mapping[str, float]) -> dict[str, Any]:
        """What `export_student` reports of a distilled student, whose files LiteRT runs on PNG, WAV and text files."""
        whole = from_the_waveform(self._student(name, setting, 0), self.pairs.modalities["audio"].samples)
        x, y = self._files
        given = {key: left_of(x, ALL)[key] for key in whole.input}
        count = self._budget.representative
        heard = {key: value[:count] for key, value in left_of(self.pairs.raw["train"][0], ALL).items()}
        report = kd.export_student(
            whole,
            self._folder / f"student_{name}",
            quantize=FORMS,
            representative_data={key: heard[key] for key in whole.input},
            evaluation_data=(given, y),
            tolerances={"int8": 0},  # with the mel inside it loses; how much is what is asked
        ).to_dict()
        return {key: report[key] for key in ("parameters", "keras_accuracy", "files")}

    @cached_property
    def _files(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Test examples, written as files and read from them."""
        modalities = self.pairs.modalities
        folder = made(self._folder / "files", lambda path: write_manifest(path, self.pairs, self._budget.files))
        image = modalities["image"].shape
        read = multimodal.from_manifest(
            folder / "manifest.csv", image=image, audio=(RATE, self._budget.seconds), text=modalities["text"]
        )
        return next(read.test.batch(CLASSES * self._budget.files).as_numpy_iterator())


def from_the_waveform(student: keras.Model, samples: int) -> keras.Model:
    """The same student with the front end inside."""
    inputs = {
        key: keras.Input((samples,) if key == "audio" else tensor.shape[1:], dtype=tensor.dtype, name=key)
        for key, tensor in student.input.items()
    }
    seen = {key: front_end()(tensor) if key == "audio" else tensor for key, tensor in inputs.items()}
    return keras.Model(inputs, student(seen), name="student")


def write_manifest(folder: Path, pairs: Pairs, count: int) -> None:
    """Writes so many test examples of each class as files, and the manifest that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as manifest:
        rows = csv.writer(manifest)
        rows.writerow(["image", "audio", "text_file", "label", "split"])
        for split, wanted in zip(SPLITS, (1, 1, count), strict=True):  # a manifest is for training, too
            x, y = pairs.raw[split]
            for row in np.concatenate([np.flatnonzero(y == digit)[:wanted] for digit in range(CLASSES)]):
                example = {name: x[name][row] for name in ALL}
                names = write_files(folder, f"{split}_{row}", example, pairs.modalities["text"])
                rows.writerow([*names, y[row], split])


def write_files(folder: Path, stem: str, example: dict[str, np.ndarray], text: multimodal.Text) -> list[str]:
    """Writes an example as PNG, WAV and text; returns their names."""
    names = [f"{stem}.{ending}" for ending in ("png", "wav", "txt")]
    pixels = np.round(255 * example["image"]).astype("uint8")
    tf.io.write_file(str(folder / names[0]), tf.io.encode_png(pixels))
    tf.io.write_file(str(folder / names[1]), tf.audio.encode_wav(example["audio"][:, None], RATE))
    folder.joinpath(names[2]).write_text(text.decode(example["text"]).replace("[UNK]", "?"), "utf-8")
    return names
