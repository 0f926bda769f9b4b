"""What `benchmarks/spoken_mnist.py` trains: larger models, one of them the teacher, and light students."""

import csv
import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from small_runs import accuracy, begin_anew, remembered

import keras_kd as kd
from keras_kd.data import multimodal
from keras_kd.modalities import LogMel, fusion_model
from keras_kd.modalities.presence import presence_key

FOLDER = Path("saved_models/modalities/spoken_mnist")
ALL, SPLITS = ("image", "audio", "text"), ("train", "validation", "test")
PER_CLASS, SECONDS, RATE, CLASSES = (400, 100, 200), 0.64, 8000, 10
# Voices that nothing was chosen by: the front end's floor was, on those that folds 1 and 2 validate on.
FOLD = 4
BATCH, SEEDS, FILES_PER_CLASS, REPRESENTATIVE = 64, (0, 1, 2), 20, 300
GRID = tuple(itertools.product((2.0, 4.0), (0.0, 0.5)))
ALONE = (1.0, 1.0)
FORMS = ("float32", "float16", "dynamic", "int8")


@dataclass(frozen=True)
class Role:
    """What a model sees, and how it is built and trained."""

    sees: tuple[str, ...]
    width: int
    epochs: int
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
    title(names): Role(names, width=16, epochs=8, rate=2e-3)
    for names in (("image",), ("text",), ("audio",), ("image", "audio"), ALL)
}
STUDENTS = {
    "image": Role(("image",), width=4, epochs=12, rate=5e-3),
    "audio": Role(("audio",), width=4, epochs=12, rate=5e-3),
    "all": Role(ALL, width=4, epochs=12, rate=5e-3, options={"present": True, "dropout_rates": 0.4}),
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

    def __init__(self):
        source = multimodal.spoken_mnist(per_class=PER_CLASS, seconds=SECONDS, fold=FOLD)
        self.modalities = source.modalities
        audio = keras.Input(self.modalities["audio"].shape)
        hear = keras.Model(audio, front_end()(audio))
        splits = {name: getattr(source, name).batch(CLASSES * max(PER_CLASS)) for name in SPLITS}
        self.raw = {name: next(split.as_numpy_iterator()) for name, split in splits.items()}
        self.seen = {
            name: ({**x, "audio": hear.predict(x["audio"], batch_size=500, verbose=0)}, y)
            for name, (x, y) in self.raw.items()
        }


class Learner:
    """A model of one role, compiled once and begun anew for each run."""

    def __init__(self, role: Role, pairs: Pairs, taught: bool):
        self.role, self._pairs = role, pairs
        self.model = self._new(0)
        self._trains = kd.Distiller(self.model, None, student_inputs=list(self.model.input)) if taught else self.model
        self._examples = len(pairs.seen["train"][1])
        steps = -(-self._examples // BATCH) * role.epochs
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(role.rate, steps))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._trains.compile(optimizer, loss, jit_compile=False)  # on CPUs XLA is slower at convolutions

    def _new(self, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        specs = {name: self._pairs.modalities[name] for name in self.role.sees}
        return fusion_model(specs, CLASSES, width=self.role.width, mel=False, seed=seed, **self.role.options)

    def train(self, data: tf.data.Dataset, seed: int, temperature: float = 1.0, alpha: float = 1.0) -> None:
        """From new weights; all epochs in a row, each in another order."""
        fresh = self._new(seed)
        begin_anew(self._trains, [], seed, None)
        for variable, value in zip(self.model.variables, fresh.variables, strict=True):
            variable.assign(value)
        if self._trains is not self.model:
            self._trains.alpha, self._trains.temperature = alpha, temperature
        shuffled = data.shuffle(self._examples, seed=seed).batch(BATCH).repeat(self.role.epochs)
        self._trains.fit(shuffled.prefetch(2), shuffle=False, verbose=0)

    def figures(self) -> dict[str, dict[str, float]]:
        """Accuracies with each subset of what it sees, by split."""
        found = {}
        for split in ("validation", "test"):
            x, y = self._pairs.seen[split]
            found[split] = {}
            for subset in self.role.subsets:
                given = left_of(x, subset)
                found[split][title(subset)] = accuracy(self.model, {key: given[key] for key in self.model.input}, y)
        return found


class Study:
    """All runs, each done once and kept."""

    def __init__(self):
        self._learners: dict[str, Learner] = {}

    @cached_property
    def pairs(self) -> Pairs:
        """Opened when a run is missing."""
        return Pairs()

    def teacher_run(self, name: str, seed: int) -> dict:
        """Figures of one of the larger models."""
        return self._run(f"teacher_{name}", f"teacher_{name}_{seed}", self._labelled, seed)

    def student_run(self, name: str, setting: tuple[float, float], seed: int) -> dict:
        """Figures of a student at a temperature and an alpha."""
        return self._run(f"student_{name}", student_run_name(name, setting, seed), self._taught, seed, *setting)

    def _run(self, model: str, run: str, data: Callable, seed: int, *setting: float) -> dict:
        def train():
            learner = self._learner(model)
            learner.train(data(learner.role), seed, *setting)
            path.parent.mkdir(parents=True, exist_ok=True)
            learner.model.save_weights(path.with_suffix(".weights.h5"))
            return {"parameters": learner.model.count_params(), **learner.figures()}

        path = FOLDER / "runs" / f"{run}.json"
        figures = remembered(path, train)
        print(run, figures["test"], f"{time.process_time():.0f} s of CPU so far", flush=True)
        return figures

    def _learner(self, model: str) -> Learner:
        if model not in self._learners:
            kind, name = model.split("_")
            role = (STUDENTS if kind == "student" else TEACHERS)[name]
            self._learners[model] = Learner(role, self.pairs, taught=kind == "student")
        return self._learners[model]

    def _trained(self, model: str, run: str) -> keras.Model:
        """The model as a run left it."""
        trained = self._learner(model).model
        trained.load_weights(FOLDER / "runs" / f"{run}.weights.h5")
        return trained

    def _labelled(self, role: Role) -> tf.data.Dataset:
        x, y = self.pairs.seen["train"]
        return tf.data.Dataset.from_tensor_slices(({name: x[name] for name in role.sees}, y))

    def _taught(self, role: Role) -> tf.data.Dataset:
        return self._examples_with_teacher

    @cached_property
    def _examples_with_teacher(self) -> tf.data.Dataset:
        """Training examples with what the teacher of all modalities says of them."""
        everything, seed = title(ALL), SEEDS[0]
        self.teacher_run(everything, seed)
        teacher = self._trained(f"teacher_{everything}", f"teacher_{everything}_{seed}")
        x, y = self.pairs.seen["train"]
        data = tf.data.Dataset.from_tensor_slices((left_of(x, ALL), y))
        kd.cache_teacher(kd.Teacher(teacher, inputs=list(ALL)), data, FOLDER / "cache", verbose=0)
        # One view, so that it may be kept in memory.
        return kd.open_cache(FOLDER / "cache", data).cache()

    def student_row(self, name: str) -> dict[str, Any]:
        """The setting that validation prefers, and the runs of every seed, distilled and alone."""

        def validated(setting):
            return statistics.fmean(self.student_run(name, setting, SEEDS[0])["validation"].values())

        best = max(GRID, key=validated)
        runs = {
            key: [self.student_run(name, setting, seed) for seed in SEEDS]
            for key, setting in (("alone", ALONE), ("distilled", best))
        }
        return {"temperature": best[0], "alpha": best[1], **runs}

    def exported(self, name: str, setting: tuple[float, float]) -> dict[str, Any]:
        """What `export_student` reports of a distilled student, whose files LiteRT runs on PNG, WAV and text files."""

        def export():
            student = self._trained(f"student_{name}", student_run_name(name, setting, SEEDS[0]))
            whole = from_the_waveform(student, self.pairs.modalities["audio"].samples)
            x, y = self._files
            given = {key: left_of(x, ALL)[key] for key in whole.input}
            heard = {key: value[:REPRESENTATIVE] for key, value in left_of(self.pairs.raw["train"][0], ALL).items()}
            report = kd.export_student(
                whole,
                FOLDER / f"student_{name}",
                quantize=FORMS,
                representative_data={key: heard[key] for key in whole.input},
                evaluation_data=(given, y),
                tolerances={"int8": 0},  # with the mel inside it loses; how much is what is asked
            )
            print(report, flush=True)
            return report.to_dict()

        return remembered(FOLDER / f"{student_run_name(name, setting, SEEDS[0])}_export.json", export)

    @cached_property
    def _files(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Test examples, written as files and read from them."""
        folder, modalities = FOLDER / "files", self.pairs.modalities
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as manifest:
            rows = csv.writer(manifest)
            rows.writerow(["image", "audio", "text_file", "label", "split"])
            for split, count in zip(SPLITS, (1, 1, FILES_PER_CLASS), strict=True):  # a manifest is for training, too
                x, y = self.pairs.raw[split]
                for row in np.concatenate([np.flatnonzero(y == digit)[:count] for digit in range(CLASSES)]):
                    example = {name: x[name][row] for name in ALL}
                    rows.writerow([*write_files(folder, f"{split}_{row}", example, modalities["text"]), y[row], split])
        image = modalities["image"].shape
        read = multimodal.from_manifest(
            folder / "manifest.csv", image=image, audio=(RATE, SECONDS), text=modalities["text"]
        )
        return next(read.test.batch(CLASSES * FILES_PER_CLASS).as_numpy_iterator())


def student_run_name(name: str, setting: tuple[float, float], seed: int) -> str:
    """What a student's run is called."""
    return "student_{}_{:g}_{:g}_{}".format(name, *setting, seed)


def from_the_waveform(student: keras.Model, samples: int) -> keras.Model:
    """The same student with the front end inside."""
    inputs = {
        key: keras.Input((samples,) if key == "audio" else tensor.shape[1:], dtype=tensor.dtype, name=key)
        for key, tensor in student.input.items()
    }
    seen = {key: front_end()(tensor) if key == "audio" else tensor for key, tensor in inputs.items()}
    return keras.Model(inputs, student(seen), name="student")


def write_files(folder: Path, stem: str, example: dict[str, np.ndarray], text: multimodal.Text) -> list[str]:
    """Writes an example as PNG, WAV and text; returns their names."""
    names = [f"{stem}.{ending}" for ending in ("png", "wav", "txt")]
    pixels = np.round(255 * example["image"]).astype("uint8")
    tf.io.write_file(str(folder / names[0]), tf.io.encode_png(pixels))
    tf.io.write_file(str(folder / names[1]), tf.audio.encode_wav(example["audio"][:, None], RATE))
    folder.joinpath(names[2]).write_text(text.decode(example["text"]).replace("[UNK]", "?"), "utf-8")
    return names
