"""`keras-kd chain`: a teacher hands on what it knows to a student by way of assistants of sizes between."""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_kd import data, plots
from keras_kd.assistants import TeacherAssistantChain
from keras_kd.assistants.records import HopRecord
from keras_kd.cli.cache import teacher_form
from keras_kd.cli.lessons import TEMPERATURE, in_memory, optimizer_for, refuse_scores, told_of
from keras_kd.cli.models import load_model, teacher_of
from keras_kd.cli.runs import (
    CHAIN,
    RECORD,
    add_run_options,
    begin,
    run_folder,
    save_model,
    save_picture,
    write_record,
)
from keras_kd.cli.sources import accuracy, checked_shape, scale_for
from keras_kd.export import export_student
from keras_kd.whole_files import write_text

ASKED = ("teacher", "assistant", "student", "dataset", "epochs", "alpha", "temperature", "batch_size", "seed")
ASKED += ("dense", "cache", "train_teacher")


def add_to(commands: argparse._SubParsersAction) -> None:
    """Adds the subcommand and its options."""
    parser = commands.add_parser(
        "chain",
        help="distil a teacher into a student by way of assistants of sizes between",
        description="Distils a teacher into the first assistant, that one into the next, the last into the student, "
        "and exports the student as .keras, SavedModel and TFLite with a report. The validation examples choose the "
        "weights of each hop. Adam, learning rate 1e-3 with cosine decay; loss from logits.",
    )
    parser.add_argument("--teacher", required=True, metavar="T.keras", help="the largest model")
    parser.add_argument(
        "--assistant", action="append", default=[], metavar="A.keras", help="one of them; again for more, largest first"
    )
    parser.add_argument("--student", required=True, metavar="S.keras", help="the smallest model")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a TFDS set, or a folder of images by class")
    parser.add_argument(
        "--temperature", type=float, default=TEMPERATURE, metavar="T", help="softens the teachers (default 4)"
    )
    guides = parser.add_mutually_exclusive_group()
    guides.add_argument(
        "--dense", action="store_true", help="each learns from all larger ones, less one at random in each batch"
    )
    guides.add_argument(
        "--ensemble", action="store_const", const="ensemble", dest="dense", help="each learns from their mean"
    )
    parser.add_argument("--cache", action="store_true", help="ask each teacher once, and keep what it says in DIR")
    parser.add_argument("--train-teacher", action="store_true", help="the teacher is untrained: train it on the labels")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the subcommand and returns its exit code."""
    with run_folder(options, CHAIN) as out:
        return _run(out, options)


def _run(out: Path, options: argparse.Namespace) -> int:
    models = _load(options)
    teacher = models[0][1]
    keras.utils.set_random_seed(options.seed)
    source = data.load(options.dataset)
    shape = _common_shape(models, source)
    steps = -(-len(source.train) // options.batch_size)
    chain = _chain([model for _, model in models], options, steps)
    scale = None if options.train_teacher else scale_for(teacher, shape, source)
    form = {"transform": data.input_transform(source, shape, scale=scale), "batch_size": options.batch_size}
    begin(out, _settings(options), options.resume, CHAIN)
    try:
        chain.fit(
            **_lessons(options, in_memory(teacher_form(source, shape, scale))),
            steps_per_epoch=steps,
            validation_data=data.pipeline(source.validation, **form),
            epochs=options.epochs,
            folder=out / CHAIN,
        )
    except KeyboardInterrupt:
        done = ", ".join(_save(out, _done(chain, options))) or "none"
        print(
            f"\nkeras-kd chain: interrupted. Models that are done: {done}. The same command with --resume goes on "
            "after the last whole epoch.",
            file=sys.stderr,
        )
        return 130
    return _finish(out, chain, teacher, options, data.pipeline(source.test, **form))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ASKED}


def _load(options: argparse.Namespace) -> list[tuple[str, keras.Model]]:
    """The models with their roles, from the largest."""
    paths = [("teacher", options.teacher), *(("assistant", path) for path in options.assistant)]
    return [(role, load_model(path, role)) for role, path in [*paths, ("student", options.student)]]


def _common_shape(models: list[tuple[str, keras.Model]], source: data.Source) -> tuple[int | None, ...]:
    """What all the models take: each of them is taught with the very batches that the others are."""
    shapes = [checked_shape(model, role, source) for role, model in models]
    common = tf.TensorShape(shapes[0])
    try:
        for shape in shapes[1:]:
            common = common.merge_with(shape)
    except ValueError:
        taken = zip(models, shapes, strict=True)
        told = ", ".join(f"the {role} `{model.name}` {shape}" for (role, model), shape in taken)
        raise ValueError(
            f"all models of a chain must take inputs of the same shape. Received: {told}. `keras-kd distill` fits the "
            "inputs to each of two models."
        ) from None
    return tuple(common)


def _chain(models: list[keras.Model], options: argparse.Namespace, steps: int) -> TeacherAssistantChain:
    teacher, *taught = models
    for model in models if options.train_teacher else taught:
        refuse_scores(model)
    declared = teacher_of(teacher)
    if declared.outputs == "logits":
        declared = teacher  # of a Keras model as it is, the chain's table tells more
    chain = TeacherAssistantChain(
        [declared, *taught],
        alpha=options.alpha,
        temperature=options.temperature,
        dense=options.dense,
        train_teacher=options.train_teacher,
    )
    chain.compile(
        optimizer_for(options.epochs * steps),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return chain


def _lessons(options: argparse.Namespace, examples: tf.data.Dataset) -> dict[str, Any]:
    """What the hops are trained on: batches, or single examples where their teachers are cached."""

    def batches() -> tf.data.Dataset:
        # An endless stream for each hop, so that a resumed one goes on with the batch at which it stopped.
        shuffled = examples.shuffle(examples.cardinality(), seed=options.seed, reshuffle_each_iteration=True)
        return shuffled.batch(options.batch_size).prefetch(tf.data.AUTOTUNE).repeat()

    own = [batches()] if options.train_teacher else []  # nobody is cached who would teach it
    hops = len(options.assistant) + 1
    if not options.cache:
        # It is shuffled; Keras 3.15 warns if it is left to think that it should.
        return {"x": own + [batches() for _ in range(hops)], "shuffle": False}
    return {
        "x": own + [examples] * hops,
        "batch_size": [None] * len(own) + [options.batch_size] * hops,
        "cache": True,
    }


def _done(chain: TeacherAssistantChain, options: argparse.Namespace) -> dict[str, tuple[keras.Model, HopRecord]]:
    """The models whose hops are done and what came of them, by their places in the chain and their names."""
    first = 0 if options.train_teacher else 1
    placed = enumerate(chain.records, start=first)
    return {f"{place}_{record.name}": (chain.models[place], record) for place, record in placed}


def _save(out: Path, models: Mapping[str, tuple[keras.Model, HopRecord]]) -> list[str]:
    for name, (model, _) in models.items():
        save_model(model, out / f"{name}.keras")
    return [f"{name}.keras" for name in models]


def _finish(
    out: Path, chain: TeacherAssistantChain, teacher: keras.Model, options: argparse.Namespace, test: tf.data.Dataset
) -> int:
    made = _done(chain, options)
    files = _save(out, made)
    save_model(chain.student, out / "student.keras")
    report = export_student(chain.student, out, evaluation_data=test)
    histories = {name: record.history for name, (_, record) in made.items()}
    write_text(out / "history.json", json.dumps(histories, indent=2))
    save_picture(_curves(histories), out / "curves.png")
    chain.summary(lambda table: write_text(out / "summary.txt", f"{table}\n"))
    line, figures = told_of(teacher, test)
    hops = [_figures(file, *of_hop, test) for file, of_hop in zip(files, made.values(), strict=True)]
    write_record(out, {**_settings(options), **figures, "hops": hops})
    print("\nOn the validation examples:")
    chain.summary()
    print(f"\nOn the test examples:\n{report}\n{line}")
    print(
        f"Written to {out}: {', '.join(files)}, student.keras, saved_model/, student.tflite, report.json, "
        f"evaluation.json, {RECORD}, history.json, summary.txt, curves.png"
    )
    return 0


def _figures(file: str, model: keras.Model, record: HopRecord, test: tf.data.Dataset) -> dict[str, Any]:
    told = {name: value for name, value in asdict(record).items() if name not in ("history", "results")}
    return {"file": file, **told, "validation": record.results, "accuracy": accuracy(model, test)}


def _curves(histories: Mapping[str, Mapping[str, list[float]]]) -> Any:
    drawn = plots.figure(1 + 3.5 * len(histories), 3.5)
    panels = drawn.subplots(1, len(histories), sharey=True, squeeze=False)[0]
    for panel, (name, history) in zip(panels, histories.items(), strict=True):
        plots.learning_curves({name: history}, axes=panel)
        panel.label_outer()
    return drawn
