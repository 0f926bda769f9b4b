"""`keras-kd multimodal`: a teacher that sees all modalities of a manifest, and a student that sees all or some."""

import argparse
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_kd import plots
from keras_kd.cache import store
from keras_kd.cli.lessons import TEMPERATURE, optimizer_for, refuse_scores, told_of
from keras_kd.cli.manifests import TOY, Examples, add_data_options, open_examples, tell_skipped, write_vocabulary
from keras_kd.cli.models import load_model, teacher_of
from keras_kd.cli.runs import (
    CHECKPOINT,
    RECORD,
    add_run_options,
    begin,
    callbacks_of,
    run_folder,
    save_model,
    save_picture,
    write_record,
)
from keras_kd.data.multimodal.source import SPLITS
from keras_kd.distiller import Distiller
from keras_kd.export import export_student
from keras_kd.inputs import InputSelection
from keras_kd.modalities import ModalityDropout, fusion_model
from keras_kd.modalities.presence import kept, presence_key

TEACHER_WIDTH, STUDENT_WIDTH = 64, 16
ASKED = ("manifest", "teacher", "student", "student_inputs", "modality_dropout", "epochs", "alpha", "temperature")
ASKED += ("batch_size", "seed", "root", "skip_bad", "image", "rate", "seconds", "text_length", "vocabulary", "mel")


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "multimodal",
        help="distil a teacher of image, audio and text, from a manifest of files, into a student of all or some",
        description="Distils a teacher that sees the modalities of a manifest into a student that sees all or some of "
        "them, and exports the student as .keras, SavedModel and TFLite with a report, its inputs named as the "
        "modalities. Adam, learning rate 1e-3 with cosine decay; loss from logits.",
    )
    parser.add_argument(
        "--teacher", metavar="T.keras", help="the trained teacher (default: one is built and trained on the labels)"
    )
    parser.add_argument("--student", metavar="S.keras", help="the student (default: a light one is built)")
    parser.add_argument(
        "--student-inputs", metavar="NAMES", help="what the student sees, as in image,audio (default: all)"
    )
    parser.add_argument(
        "--modality-dropout",
        type=float,
        metavar="R",
        help="rate at which the student that is built loses each modality in training, never all",
    )
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, metavar="T", help="softens the teacher (default 4)"
    )
    add_data_options(parser)
    add_run_options(parser)
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Role:
    """The teacher or the student.

    Attributes:
        name: "teacher" or "student".
        model: The model.
        keys: What it takes of an example.
        modalities: Those among the keys, in the order of the examples.
        batches: By split, of the examples that have any of the modalities.
    """

    name: str
    model: keras.Model
    keys: list[str]
    modalities: list[str]
    batches: Mapping[str, tf.data.Dataset]

    def select(self, x: Mapping[str, tf.Tensor]) -> Any:
        """Its part of a batch, in the structure that the model takes."""
        return InputSelection(self.keys, "`keras-kd multimodal`")(x, self.model)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    with run_folder(options) as out:
        return _run(out, options)


def _run(out: Path, options: argparse.Namespace) -> int:
    examples = open_examples(options)
    teacher = _role("teacher", options, examples, width=TEACHER_WIDTH)
    student = _student(options, examples)
    distiller = _distiller(teacher, student, options)
    settings = _settings(options)
    begin(out, settings, options.resume)
    if options.skip_bad:
        tell_skipped(examples.source, out)
    stages = [(student, distiller, student.batches)]
    if options.teacher is None:
        stages.insert(0, (teacher, _labelled(teacher, options), _selected(teacher, teacher.batches)))
    for role, model, batches in stages:
        file = out / f"{role.name}.keras"
        print(f"The {role.name}, which sees {', '.join(role.modalities)}, learns.")
        try:
            _fit(model, batches, role.name, out, options.epochs)
        except KeyboardInterrupt:
            save_model(role.model, file)
            print(
                f"\nkeras-kd multimodal: interrupted. The {role.name} so far is {file}; the same command with --resume "
                "goes on after the last whole epoch.",
                file=sys.stderr,
            )
            return 130
        save_model(role.model, file)
    return _finish(out, teacher, student, examples, settings)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    content = None if options.manifest == TOY else store.sha256(Path(options.manifest))
    return {**{name: getattr(options, name) for name in ASKED}, "manifest_sha256": content}


def _role(
    name: str, options: argparse.Namespace, examples: Examples, modalities: list[str] | None = None, **reference: Any
) -> Role:
    """Loads a model, or builds one; the same one whatever was built before."""
    keras.utils.set_random_seed(options.seed)
    path = getattr(options, name)
    model = load_model(path, name) if path else None
    keys = examples.keys_of(model, name, modalities) if path else modalities or list(examples.modalities)
    seen = [modality for modality in examples.modalities if modality in keys]
    form = {"batch_size": options.batch_size, "seed": options.seed}
    batches = {split: examples.batches(split, seen, training=split == "train", **form) for split in SPLITS}
    if model is None:
        model = fusion_model(
            {modality: examples.modalities[modality] for modality in seen},
            examples.source.num_classes,
            present=examples.source.has_missing and len(seen) > 1,
            mel=examples.front_end,
            name=name,
            **reference,
        )
        _settle(model, options.epochs * len(batches["train"]))
        keys = examples.keys_of(model, name)
    return Role(name, model, keys, seen, batches)


def _settle(model: keras.Model, steps: int) -> None:
    """Averages the statistics of batches over a tenth of a short training: Keras's default takes hundreds of steps."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = min(layer.momentum, max(0.5, 1 - 10 / steps))


def _student(options: argparse.Namespace, examples: Examples) -> Role:
    named = None if options.student_inputs is None else list(dict.fromkeys(options.student_inputs.split(",")))
    if named is not None and not set(named) <= set(examples.modalities):
        raise ValueError(
            f"--student-inputs must be among {', '.join(examples.modalities)}, the modalities of "
            f"{examples.source.name}. Received: {options.student_inputs}"
        )
    if options.student and options.modality_dropout is not None:
        raise ValueError(
            "--modality-dropout is for the student that is built here. Put a `keras_kd.ModalityDropout` layer into "
            f"{options.student}."
        )
    student = _role(
        "student",
        options,
        examples,
        named,
        width=STUDENT_WIDTH,
        dropout_rates=options.modality_dropout,
        seed=options.seed,
    )
    refuse_scores(student.model)
    if named is not None and set(named) != set(student.modalities):
        raise ValueError(
            f"the student `{student.model.name}` takes {', '.join(student.modalities)}. Received: --student-inputs "
            f"{options.student_inputs}. Leave it out."
        )
    return student


def _labelled(teacher: Role, options: argparse.Namespace) -> keras.Model:
    teacher.model.compile(
        optimizer_for(options.epochs * len(teacher.batches["train"])),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return teacher.model


def _distiller(teacher: Role, student: Role, options: argparse.Namespace) -> Distiller:
    distiller = Distiller(
        student.model,
        teacher_of(teacher.model, inputs=teacher.keys),
        alpha=options.alpha,
        temperature=options.temperature,
        student_inputs=student.keys,
    )
    distiller.compile(
        optimizer_for(options.epochs * len(student.batches["train"])),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", "agreement"],
    )
    return distiller


def _selected(role: Role, batches: Mapping[str, tf.data.Dataset]) -> dict[str, tf.data.Dataset]:
    return {split: of_split.map(lambda x, y: (role.select(x), y)) for split, of_split in batches.items()}


def _fit(model: keras.Model, batches: Mapping[str, tf.data.Dataset], name: str, out: Path, epochs: int) -> None:
    """Trains from where an interrupted run came to, which may be the end."""
    steps = len(batches["train"])
    callbacks, done = callbacks_of(out / CHECKPOINT / name, out / f"{name}_history.csv")
    model.fit(
        # One endless stream, so that a resumed run goes on with the batch at which it stopped.
        batches["train"].repeat().skip(done * steps),
        steps_per_epoch=steps,
        shuffle=False,  # the pipeline does; Keras 3.15 warns if it is left to think that it should
        epochs=epochs,
        validation_data=batches["validation"],
        callbacks=callbacks,
    )


def _finish(out: Path, teacher: Role, student: Role, examples: Examples, settings: Mapping[str, Any]) -> int:
    (test,) = _selected(student, {"test": student.batches["test"]}).values()
    report = export_student(student.model, out, evaluation_data=test)
    line, figures = told_of(teacher.model, _selected(teacher, student.batches)["test"])
    print(f"{report}\n{line}")
    if any(isinstance(layer, ModalityDropout) for layer in student.model.layers):
        figures["subsets"] = {"+".join(subset): _on_subset(student, subset) for subset in _subsets(student)}
        print(f"\n{_table(figures['subsets'])}\n")
    written = [*write_vocabulary(examples.source, out), *_write_histories(out, settings)]
    facts = {"modalities": student.modalities, "class_names": examples.source.class_names}
    write_record(out, {**settings, **figures, **facts, "skipped": len(examples.source.skipped)})
    models = ["student.keras"] if settings["teacher"] else ["teacher.keras", "student.keras"]
    print(
        f"Written to {out}: {', '.join(models)}, saved_model/, student.tflite, report.json, evaluation.json, {RECORD}, "
        f"{', '.join(written)}"
    )
    return 0


def _write_histories(out: Path, settings: Mapping[str, Any]) -> list[str]:
    files = {name: f"{name}_history.csv" for name in ("teacher", "student") if name == "student" or not settings[name]}
    histories = {name: plots.read_history(out / file) for name, file in files.items()}
    save_picture(plots.learning_curves(histories), out / "curves.png")
    return [*files.values(), "curves.png"]


def _subsets(student: Role) -> Iterator[tuple[str, ...]]:
    for size in range(1, len(student.modalities) + 1):
        yield from combinations(student.modalities, size)


def _on_subset(student: Role, subset: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy where the student is shown no other modality, on the examples that have any of these."""
    right = total = 0
    for x, y in student.batches["test"]:
        present = {name: x[presence_key(name)] & (name in subset) for name in student.modalities}
        shown = {name: kept(x[name], has) for name, has in present.items()}
        masks = {presence_key(name): has for name, has in present.items()}
        logits = student.model(student.select({**x, **shown, **masks}), training=False)
        has_any = np.any(list(present.values()), axis=0)
        right += int((has_any & (np.argmax(logits, axis=-1) == y.numpy())).sum())
        total += int(has_any.sum())
    return {"examples": total, "accuracy": right / total if total else None}


def _table(subsets: Mapping[str, Mapping[str, Any]]) -> str:
    width = max(map(len, subsets))
    lines = [f"{'the student sees':{max(width, 16)}}  examples  accuracy"]
    for name, row in subsets.items():
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.4f}"
        lines.append(f"{name:{max(width, 16)}}  {row['examples']:8,}  {accuracy:>8}")
    return "\n".join(lines)
