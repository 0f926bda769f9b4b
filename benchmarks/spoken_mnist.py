"""Digits seen, heard and read: one teacher of three modalities, and light students that see one of them, or any.

    python benchmarks/run.py spoken_mnist --seeds 3 --data-dir DIR    # about ten minutes on 2 cores

The pairs are those of `kd.data.multimodal.spoken_mnist`: MNIST with a quarter of its energy, the Free Spoken Digit
Dataset, words in ten languages with misspellings. Training, validation and test share no image and no speaker. There
are four voices to learn from and one to test on, so that hearing is harder here than where it was published.

Models are those of `kd.modalities.fusion_model`. Each modality alone, image and audio, and all three, at the teacher's
width; then students that are distilled from the one teacher of all three, each beside the same student on labels alone:
it sees the image, it hears, or it has all three and loses some of them at random while training (`ModalityDropout`), so
that it works with any. What the teacher says is cached. A student begins with the same weights, alone and distilled.
Temperature and alpha are chosen on the validation examples, with the first seed, from a grid; the floor of the
spectrogram was, on other voices. Exported students take the raw waveform, and LiteRT runs them on PNG, WAV and text
files that are written from test examples and read back as anybody's. Runs that are done are not done again.
"""

import functools
import itertools
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import matplotlib.pyplot as plt
import numpy as np
from choosing import choice, chosen
from records import Record, Run
from rendering import Page, Table, percent, values
from small_runs import gain, shown
from spoken_mnist_runs import ALL, CLASSES, QUICK, STUDENTS, TEACHERS, Budget, Study, title

from keras_kd.plots import COLORS

SEEDS = 3
GRID = tuple(itertools.product((2.0, 4.0), (0.0, 0.5)))
ALONE = {"temperature": 1.0, "alpha": 1.0}
PUBLISHED = {"image": "63 to 65", "audio": "90 to 91", "image+audio": "96 to 97"}
TEACHER = title(ALL)

study_of = functools.cache(Study)


def larger(name: str) -> str:
    """The setting of a model of the teacher's width."""
    return f"larger model of {name}"


def whole(name: str) -> str:
    """All that a student sees."""
    return title(STUDENTS[name].sees)


def student(name: str) -> str:
    """The title of a student."""
    return f"student of {whole(name)}"


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The larger models, then each student: its choice, itself alone and distilled, its files; in small the last."""
    budget = QUICK if quick else Budget()
    study, given = study_of(budget), asdict(budget)
    for name in ("image", TEACHER) if quick else TEACHERS:
        settings = {**given, **asdict(TEACHERS[name])}
        yield Run(larger(name), seed, settings, functools.partial(study.teacher_figures, name, seed))
    for name in ("all",) if quick else STUDENTS:
        settings = {**given, **asdict(STUDENTS[name]), "teacher": asdict(TEACHERS[TEACHER])}
        grid = [{"temperature": temperature, "alpha": alpha} for temperature, alpha in (GRID[:2] if quick else GRID)]
        found = yield choice(student(name), settings, grid, functools.partial(study.validated, name, seed=0))
        for title_of, setting in (("alone", ALONE), ("distilled", found["chosen"])):
            train = functools.partial(study.student_figures, name, setting, seed)
            yield Run(f"{student(name)}, {title_of}", seed, {**settings, **setting}, train)
        export = functools.partial(study.exported, name, found["chosen"])
        yield Run(f"{student(name)}, files", 0, {**settings, **found["chosen"]}, export)


def test_accuracies(records: Sequence[Record], setting: str, subset: str) -> list[float]:
    """With a subset of the modalities, run by run."""
    return [accuracies[subset] for accuracies in values(records, setting, "test")]


def compared(records: Sequence[Record], name: str, subset: str) -> list[str]:
    """A student alone and distilled, its gain and what follows, as cells."""
    alone, distilled = (test_accuracies(records, f"{student(name)}, {how}", subset) for how in ("alone", "distilled"))
    found = gain(distilled, alone, TEACHER)
    return [percent(alone), percent(distilled), shown(found), found.verdict]


def recorded(records: Sequence[Record], names: Sequence[str], setting_of) -> list[str]:
    """Those of the names that a table has records of."""
    settings = {record.setting for record in records}
    return [name for name in names if setting_of(name) in settings]


def students_of(records: Sequence[Record]) -> list[str]:
    """The students that the table has."""
    return recorded(records, list(STUDENTS), lambda name: f"{student(name)}, alone")


def page(records: Sequence[Record]) -> Page:
    """What each modality tells, the students, what is left of them with less, and their files."""
    budget = records[0].settings
    train, validation, test = (f"{CLASSES * budget[split]:,}" for split in ("train", "validation", "test"))
    grid = [
        tuple(candidate.values())
        for candidate in next(record.settings["candidates"] for record in records if "candidates" in record.settings)
    ]
    rate = STUDENTS["all"].options["dropout_rates"]
    parts = [
        f"`kd.data.multimodal.spoken_mnist`, fold {budget['fold']}, {train} training pairs with four voices, "
        f"{validation} for validation and {test} for the test, with one voice each; recordings of "
        f"{budget['seconds']:g} s. Test accuracy in percent, mean and standard deviation over "
        f"{len({record.seed for record in records})} seeds. The voice of the test is the same for all: intervals say "
        "nothing of other voices.",
        f"## What each modality tells: models of the teacher's width, {TEACHERS[TEACHER].width}",
        modalities(records),
        "Published: of audiovisual MNIST (arXiv:1808.07275 and after), whose voices are others.",
        f"## Students of width {STUDENTS['all'].width}, distilled from the one teacher of {TEACHER}",
        "Gains over the same student alone are in points, paired by seed, with their 95 % interval. T and alpha are "
        f"chosen on validation pairs, with seed 0, from {grid}.",
        distilled(records),
        f"## The student of all, trained with `ModalityDropout({rate:g})`, with any of them",
        subsets(records),
        "## Files of the distilled students, seed 0",
        f"The spectrogram is inside. LiteRT ran them on {CLASSES * budget['files']} test examples, read from PNG, WAV "
        "and text files.",
        files(records),
    ]
    return Page("Digits seen, heard and read", parts, lambda: plot(records))


def modalities(records: Sequence[Record]) -> Table:
    """The models of the teacher's width."""
    rows = []
    for name in recorded(records, list(TEACHERS), larger):
        parameters = values(records, larger(name), "parameters")[0]
        accuracies = percent(test_accuracies(records, larger(name), name))
        rows.append([name, f"{parameters:,}", PUBLISHED.get(name, ""), accuracies])
    return Table(["sees", "parameters", "published", "here"], rows)


def distilled(records: Sequence[Record]) -> Table:
    """The students with all that they see."""
    rows = []
    for name in students_of(records):
        parameters = values(records, f"{student(name)}, alone", "parameters")[0]
        setting = [f"{value:g}" for value in chosen(records, student(name)).values()]
        rows.append([whole(name), f"{parameters:,}", *setting, *compared(records, name, whole(name))])
    return Table(["student sees", "parameters", "T", "alpha", "alone", "distilled", "gain", ""], rows)


def subsets(records: Sequence[Record]) -> Table:
    """The student of all with each subset."""
    rows = [[subset, *compared(records, "all", subset)] for subset in map(title, STUDENTS["all"].subsets)]
    return Table(["there at test time", "alone", "distilled", "gain", ""], rows)


def files(records: Sequence[Record]) -> Table:
    """What LiteRT made of the files."""
    rows = []
    for name in students_of(records):
        for file in values(records, f"{student(name)}, files", "files")[0]:
            if file["agreement"] is not None:
                rows.append(
                    [
                        whole(name),
                        file["file"],
                        f"{file['size_bytes']:,}",
                        f"{100 * file['agreement']:.1f} %",
                        f"{file['max_abs_difference']:.1e}",
                        f"{100 * file['accuracy']:.1f} %",
                    ]
                )
    head = ["student", "file", "bytes", "names Keras's class", "largest difference of a logit", "accuracy"]
    return Table(head, rows)


def draw(axis: plt.Axes, records: Sequence[Record], rows: list[tuple[str, str]], places: np.ndarray) -> None:
    """Accuracies alone and distilled; bars reach from the lowest seed to the highest."""
    for how, shift in (("alone", -0.12), ("distilled", 0.12)):
        found = [test_accuracies(records, f"{student(name)}, {how}", subset) for name, subset in rows]
        points = 100 * np.array(found)
        means = points.mean(axis=1)
        reach = [means - points.min(axis=1), points.max(axis=1) - means]
        axis.errorbar(places + shift, means, reach, fmt="o", color=COLORS[how], capsize=3, label=f"student {how}")


def plot(records: Sequence[Record]) -> plt.Figure:
    """Students of one modality or all; and the student of all with each subset."""
    drawn, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 4.2), layout="constrained", sharey=True, width_ratios=(3, 7)
    )
    rows = [(name, whole(name)) for name in students_of(records)]
    draw(left, records, rows, np.arange(len(rows)))
    for place, (_, name) in enumerate(rows):
        mean = 100 * statistics.fmean(test_accuracies(records, larger(name), name))
        label = "larger model of the same" if place == 0 else None
        left.hlines(mean, place - 0.35, place + 0.35, color=COLORS["teacher"], ls="--", label=label)
    left.set_xticks(np.arange(len(rows)), [name.replace("+", "\n+ ") for _, name in rows])
    left.set(title="three students", ylabel="test accuracy, %")
    parts = [title(subset) for subset in STUDENTS["all"].subsets]
    draw(right, records, [("all", subset) for subset in parts], np.arange(len(parts)))
    right.set_xticks(np.arange(len(parts)), [subset.replace("+", "\n+ ") for subset in parts])
    right.set(title="the student of all, when only some are there")
    drawn.legend(*left.get_legend_handles_labels(), frameon=False, ncols=3, loc="outside upper center")
    return drawn
