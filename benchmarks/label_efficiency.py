"""How many labels does a student need when there is a teacher? Fashion-MNIST, most of it without labels.

    python benchmarks/run.py label_efficiency --seeds 5 --data-dir DIR

Teacher and student of `benchmarks/methods.py`. The student has 100, 500 or 2,500 labels, as many of each class, and all
other training images without theirs. Every row has the same steps, batches, flips and shifts. Of each seed, labels and
first weights are the same for all rows. This library's recipe (`CANDIDATES`) is chosen on validation images, with 500
labels and the first seed. `keras.distillation` is given `KLDivergence()`, since its default never softens, and is tried
both ways that it can be: on the images with labels, and on all of them with its own loss for labels weighed by zero.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from choosing import choice, chosen
from matplotlib.figure import Figure
from methods import QUICK_TEACHER, TEACHER, build_student, load, said, teacher_of
from records import Record, Run
from rendering import Page, Table, error_bars, percent, spread, values

import keras_kd as kd
from keras_kd.plots import figure

SEEDS = 5
LABELS = (100, 500, 2500)
CHOSEN_WITH = 500
UNLABELLED = -1
AUGMENT = kd.data.compose(kd.data.random_flip(), kd.data.random_shift(2))
FULL = {"teacher": TEACHER, "steps": 800, "batch": 64, "rate": 4e-3, "augment": str(AUGMENT)}
QUICK = {**FULL, "teacher": QUICK_TEACHER, "steps": 4}
CANDIDATES = [{"alpha": alpha, "temperature": temperature} for alpha in (0.3, 0.1, 0.0) for temperature in (2.0, 4.0)]
TITLES = {
    "alone": "student alone, on its labels",
    "built in, labelled": "`keras.distillation`, on the images with labels",
    "built in, all": "`keras.distillation`, on all images, teacher alone",
    "ours": "`kd.Distiller`, on all images, by the recipe",
}
RECIPE = "recipe"


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher, the choice of a recipe, and all rows with every number of labels."""
    settings = QUICK if quick else FULL
    yield Run("teacher", 0, settings["teacher"], functools.partial(teacher_figures, settings["teacher"]))
    few = {**settings, "labels": CHOSEN_WITH}

    def validated(candidate: dict[str, float]) -> float:
        return student_figures("ours", 0, {**few, **candidate})["validation"]

    recipe = (yield choice(RECIPE, few, CANDIDATES[::3] if quick else CANDIDATES, validated))["chosen"]
    for labels in LABELS[:1] if quick else LABELS:
        for key in TITLES:
            own = {**settings, "labels": labels, **(recipe if key == "ours" else {})}
            yield Run(f"{key}, {labels}", seed, own, functools.partial(student_figures, key, seed, own))


def teacher_figures(teacher: dict[str, Any]) -> dict[str, Any]:
    """Its size, the student's, and its share of the test labels."""
    right = said("test", **teacher) == load(teacher["dataset"])["test"][1]
    sizes = {"parameters": teacher_of(**teacher).count_params(), "student parameters": build_student().count_params()}
    return {**sizes, "test": float(np.mean(right))}


def student_figures(key: str, seed: int, settings: dict[str, Any]) -> dict[str, float]:
    """One student, trained and asked."""
    splits = load(settings["teacher"]["dataset"])
    x, y = splits["train"]
    labelled = drawn(y, settings["labels"], seed)
    keras.utils.set_random_seed(seed)
    student, teacher = build_student(), teacher_of(**settings["teacher"])
    if key == "ours":
        partly = np.full_like(y, UNLABELLED)
        partly[labelled] = y[labelled]
        learner = kd.Distiller(student, teacher, alpha=settings["alpha"], temperature=settings["temperature"])
        fitted(learner, (x, partly), settings, seed)
    elif key == "built in, all":
        fitted(built_in(student, teacher, student_loss_weight=0.0), (x, np.zeros_like(y)), settings, seed)
    else:
        learner = student if key == "alone" else built_in(student, teacher)
        fitted(learner, (x[labelled], y[labelled]), settings, seed)
    figures = {}
    for split in ("validation", "test"):
        x, y = splits[split]
        figures[split] = float(np.mean(student.predict(x, batch_size=500, verbose=0).argmax(-1) == y))
    keras.backend.clear_session()
    return figures


def drawn(y: np.ndarray, labels: int, seed: int) -> np.ndarray:
    """Places of the images that have labels: as many of each class, as far as there are."""
    rng = np.random.default_rng(seed)
    by_class = [rng.permutation(np.flatnonzero(y == label)) for label in range(10)]
    return np.concatenate([places[: labels // 10] for places in by_class])


def built_in(student: keras.Model, teacher: keras.Model, **options) -> keras.Model:
    """The distiller of Keras with the loss that its documentation means."""
    loss = keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence())
    return keras.distillation.Distiller(teacher=teacher, student=student, distillation_losses=loss, **options)


def fitted(learner: keras.Model, examples: tuple, settings: dict[str, Any], seed: int) -> None:
    """As many steps for everyone; an image without a label does not count in the loss of the labels."""
    data = kd.data.pipeline(
        tf.data.Dataset.from_tensor_slices(examples),
        batch_size=settings["batch"],
        training=True,
        augment=AUGMENT,
        seed=seed,
    )
    rate = keras.optimizers.schedules.CosineDecay(settings["rate"], settings["steps"])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=UNLABELLED)
    learner.compile(keras.optimizers.Adam(rate), loss)
    learner.fit(data.repeat(), steps_per_epoch=settings["steps"], verbose=0, shuffle=False)


def page(records: Sequence[Record]) -> Page:
    """Accuracy by row and number of labels, the gain over the student alone, and the choice."""
    (teacher,) = (record for record in records if record.setting == "teacher")
    used = next(record.settings for record in records if record.setting.startswith("alone"))
    counts = [labels for labels in LABELS if values(records, f"alone, {labels}", "test")]
    recipe = chosen(records, RECIPE)
    words = (
        f"`{used['teacher']['dataset']}`: a teacher of {teacher.figures['parameters']:,} weights "
        f"({teacher.figures['test']:.2%} on the test images, trained on all labels), a student of "
        f"{teacher.figures['student parameters']:,}. {used['steps']:,} steps of {used['batch']} images, "
        f"`{used['augment']}`, Adam with cosine decay from {used['rate']:g}, for every row. Recipe of this library, "
        f"chosen on validation images with {CHOSEN_WITH} labels and the first seed: alpha = {recipe['alpha']:g}, "
        f"temperature = {recipe['temperature']:g}. Test accuracy in percent, mean and standard deviation over the "
        "seeds; in brackets the gain over the student alone, paired by seed."
    )
    rows = [[title, *(_cell(records, key, labels) for labels in counts)] for key, title in TITLES.items()]
    (tried,) = (record for record in records if record.setting == f"{RECIPE}: choice")
    accuracies = zip(tried.settings["candidates"], tried.figures["validation"], strict=True)
    choices = [[f"{one['alpha']:g}", f"{one['temperature']:g}", percent([right])] for one, right in accuracies]
    return Page(
        "How many labels does a student need?",
        [
            words,
            Table(["trained", *(f"{labels:,} labels" for labels in counts)], rows),
            f"## The choice of a recipe: {CHOSEN_WITH} labels, validation images",
            Table(["alpha", "temperature", "validation accuracy"], choices),
        ],
        functools.partial(picture, records, counts),
    )


def _cell(records: Sequence[Record], key: str, labels: int) -> str:
    accuracies, alone = (values(records, f"{one}, {labels}", "test") for one in (key, "alone"))
    if key == "alone":
        return percent(accuracies)
    gains = [100 * (taught - itself) for taught, itself in zip(accuracies, alone, strict=True)]
    return f"{percent(accuracies)} ({spread(gains, sign='+')})"


def picture(records: Sequence[Record], counts: Sequence[int]) -> Figure:
    """Accuracy against labels, with error bars, under the teacher's."""
    drawn_on = figure(8, 4.5)
    axis = drawn_on.subplots()
    for index, (key, title) in enumerate(TITLES.items()):
        beside = 0.94 + 0.04 * index
        points = {
            beside * labels: [100 * one for one in values(records, f"{key}, {labels}", "test")] for labels in counts
        }
        error_bars(axis, points, title.replace("`", ""))
    (teacher,) = values(records, "teacher", "test")
    axis.axhline(100 * teacher, color="tab:gray", linestyle=":", label="teacher, all labels")
    axis.set(xscale="log", xticks=list(counts), xlabel="labels", ylabel="test accuracy, %")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize=8)
    return drawn_on
