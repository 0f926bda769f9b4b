"""Do teacher assistants help? The plane CNNs of the TAKD paper: no distillation, KD, TAKD and DGKD, five seeds.

    python benchmarks/run.py assistants --seeds 5 --data-dir DIR    # Fashion-MNIST, a few hours on 2 cores

Teacher plane10 is trained once, on labels. An assistant, plane4, is distilled from it; students, plane2, from the
teacher (KD), from the assistant (TAKD), or from both, one of them left out of each batch (DGKD). Every row has the same
images, epochs, batches and optimizer (the paper's SGD), every one of them the weights of the epoch that validation
images prefer, and temperature and alpha chosen on validation images, with the first seed, from the same grid. What the
teachers say is cached. With and without augmentation. The paper's own CIFAR-10 was never measured here: with `BUDGET`
set to `CIFAR10` the same command does. A data set is a TFDS name or a folder of images by class.
"""

import functools
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import matplotlib.pyplot as plt
from assistants_runs import ASSISTANT, AUGMENT, SGD, STUDENT, TEACHER, Budget, Study
from choosing import choice, chosen
from records import Record, Run
from rendering import Page, Table, spread, values
from scipy import stats

from keras_kd.plots import figure

SEEDS = 5
METHODS = {"alone": "no distillation", "kd": "KD", "takd": "TAKD", "dgkd": "DGKD"}
ASSISTED = ("takd", "dgkd")
GRID = tuple(itertools.product((2.0, 6.0), (0.1, 0.5)))
ALONE = {"temperature": 1.0, "alpha": 1.0}
FASHION_MNIST = Budget()
CIFAR10 = Budget("cifar10", examples=45_000, teacher_examples=45_000, epochs=160, batch=128)
BUDGET = FASHION_MNIST
SMALL = {
    "examples": 40,
    "teacher_examples": 40,
    "validation": 20,
    "tested": 50,
    "epochs": 1,
    "teacher_epochs": 1,
    "views": 2,
}

study_of = functools.cache(Study)


def titled(what: str, augmented: bool) -> str:
    """The title of a row, and of an assistant."""
    return f"{what}, augmented" if augmented else what


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teacher; for each row what it is chosen by, its assistant and its student."""
    budget = replace(BUDGET, **SMALL) if quick else BUDGET
    study, given = study_of(budget), {**asdict(budget), **SGD, "planes": [TEACHER, ASSISTANT, STUDENT]}
    grid = [{"temperature": temperature, "alpha": alpha} for temperature, alpha in (GRID[:1] if quick else GRID)]
    yield Run("teacher", 0, given, study.teacher_figures)
    for augmented, method in itertools.product((False, True), METHODS):
        title, settings, setting = titled(METHODS[method], augmented), {**given, "augmented": augmented}, ALONE
        if method != "alone":

            def validated(candidate, method=method, augmented=augmented) -> float:
                return study.student_figures(method, candidate, augmented, 0)["validation"]

            setting = (yield choice(title, settings, grid, validated))["chosen"]
        settings |= setting
        if method in ASSISTED:
            measure = functools.partial(study.assistant_figures, setting, augmented)
            yield Run(titled("assistant", augmented), 0, settings, measure)
        measure = functools.partial(study.student_figures, method, setting, augmented, seed)
        yield Run(title, seed, settings, measure)


def points(records: Sequence[Record], title: str, split: str = "test") -> list[float]:
    """Accuracies of a row in percent."""
    return [100 * accuracy for accuracy in values(records, title, split)]


def paired(records: Sequence[Record], title: str, other: str) -> str:
    """Mean gain over another row in points, seed by seed, its spread, and p of a paired t-test."""
    one, two = (values(records, of, "test") for of in (title, other))
    gains = spread([100 * (a - b) for a, b in zip(one, two, strict=True)], sign="+")
    return gains if len(one) < 2 else f"{gains} (p = {stats.ttest_rel(one, two).pvalue:.2g})"


def assistant_of(records: Sequence[Record], augmented: bool, setting: dict[str, float]) -> float:
    """Test accuracy of the assistant that a row has chosen."""
    return next(
        record.figures["test"]
        for record in records
        if record.setting == titled("assistant", augmented) and setting.items() <= record.settings.items()
    )


def row_of(records: Sequence[Record], method: str, augmented: bool) -> list[str]:
    """The cells of one row."""
    title, alone, directly = (titled(METHODS[of], augmented) for of in (method, "alone", "kd"))
    tuned, assistant = ["", ""], ""
    if method != "alone":
        setting = chosen(records, title)
        tuned = [f"{value:g}" for value in setting.values()]
    if method in ASSISTED:
        assistant = f"{assistant_of(records, augmented, setting):.2%}"
    return [
        "yes" if augmented else "no",
        METHODS[method],
        *tuned,
        assistant,
        f"{statistics.mean(points(records, title, 'validation')):.2f} %",
        f"{spread(points(records, title))} %",
        paired(records, title, alone) if method != "alone" else "",
        paired(records, title, directly) if method in ASSISTED else "",
    ]


def page(records: Sequence[Record]) -> Page:
    """One table: without augmentation, and with it."""
    given = records[0].settings
    grid = next(record.settings["candidates"] for record in records if "candidates" in record.settings)
    said = (
        f"Teacher plane{TEACHER} ({values(records, 'teacher', 'test')[0]:.2%} on the test images, trained on labels of "
        f"{given['teacher_examples']:,}), assistant plane{ASSISTANT}, students plane{STUDENT} that see "
        f"{given['examples']:,} of those images in batches of {given['batch']}. SGD {given['learning_rate']:g}, "
        f"momentum {given['momentum']:g}, weight decay {given['weight_decay']:g}. Weights of the best of "
        f"{given['epochs']} epochs (of the teacher's {given['teacher_epochs']}), T and alpha by "
        f"{given['validation']:,} validation images, with seed 0, from "
        f"{[tuple(candidate.values()) for candidate in grid]}. Mean and standard deviation over "
        f"{len({record.seed for record in records})} seeds; gains in points, paired by seed, with the p of a paired "
        f"t-test. Augmented: `{AUGMENT}`, teachers cached in {given['views']} views."
    )
    head = ["augmented", "student", "T", "alpha", "its assistant", "validation", "test accuracy"]
    head += ["over none", "over KD"]
    rows = [row_of(records, method, augmented) for augmented in (False, True) for method in METHODS]
    return Page(f"Teacher assistants on {given['dataset']}", [said, Table(head, rows)], lambda: plot(records))


def plot(records: Sequence[Record]) -> plt.Figure:
    """Every student's accuracy, and the mean of its row."""
    drawn = figure(9, 3.6)
    for augmented, axis in enumerate(drawn.subplots(1, 2, sharey=True)):
        for place, name in enumerate(METHODS.values()):
            tested = points(records, titled(name, bool(augmented)))
            axis.plot([place] * len(tested), tested, "o", alpha=0.5)
            axis.hlines(statistics.mean(tested), place - 0.3, place + 0.3, color="black")
        title = f"augmented: {'yes' if augmented else 'no'}"
        axis.set(title=title, xticks=range(len(METHODS)), xticklabels=list(METHODS.values()))
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="x", labelrotation=20)
        axis.set_ylabel("test accuracy of plane2, %")
        axis.label_outer()
    return drawn
