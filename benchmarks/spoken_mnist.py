"""Digits seen, heard and read: one teacher of three modalities, and light students that see one of them, or any.

    TFDS_DATA_DIR=... python benchmarks/spoken_mnist.py                     # about ten minutes on 2 cores

The pairs are those of `kd.data.multimodal.spoken_mnist`: MNIST with a quarter of its energy, the Free Spoken Digit
Dataset, words in ten languages with misspellings. Training, validation and test share no image and no speaker. There
are four voices to learn from and one to test on, so that hearing is harder here than where it was published.

Models are those of `kd.modalities.fusion_model`. Each modality alone, image and audio, and all three, at the teacher's
width; then students that are distilled from the one teacher of all three, each beside the same student on labels alone:
it sees the image, it hears, or it has all three and loses some of them at random while training (`ModalityDropout`), so
that it works with any. What the teacher says is cached. A student begins with the same weights, alone and distilled.
Temperature and alpha are chosen on the validation examples, with the first seed, from a grid; the floor of the
spectrogram was, on other voices. Exported students take the raw waveform, and LiteRT runs them on PNG, WAV and text
files that are written from test examples and read back as anybody's. Runs that are done are not done again. Writes
`benchmarks/results/modalities/spoken_mnist.json`, `.md` and `.png`.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from small_runs import gain, mean_and_deviation, shown
from spoken_mnist_runs import (
    ALL,
    FILES_PER_CLASS,
    FOLD,
    GRID,
    PER_CLASS,
    SECONDS,
    SEEDS,
    STUDENTS,
    TEACHERS,
    Study,
    title,
)

from keras_kd.plots import COLORS

RESULTS = Path(__file__).parent / "results" / "modalities"
COMMAND = "TFDS_DATA_DIR=... python benchmarks/spoken_mnist.py"
PUBLISHED = {"image": "63 to 65", "audio": "90 to 91", "image+audio": "96 to 97"}
TEACHER = title(ALL)


def test_accuracies(runs: list[dict], subset: str) -> list[float]:
    """With a subset of the modalities, run by run."""
    return [run["test"][subset] for run in runs]


def compared(row: dict[str, Any], subset: str) -> str:
    """A student alone and distilled, its gain and what follows, as cells."""
    alone, distilled = (test_accuracies(row[key], subset) for key in ("alone", "distilled"))
    found = gain(distilled, alone, TEACHER)
    return f"{mean_and_deviation(alone)} | {mean_and_deviation(distilled)} | {shown(found)} | {found.verdict}"


def whole(name: str) -> str:
    """All that a student sees."""
    return title(STUDENTS[name].sees)


def table(results: dict[str, Any]) -> str:
    """The results as Markdown."""
    train, validation, test = (10 * count for count in PER_CLASS)
    teacher, student = TEACHERS[TEACHER], STUDENTS["all"]
    lines = [
        "# Digits seen, heard and read",
        "",
        f"`{COMMAND}`: `kd.data.multimodal.spoken_mnist`, fold {FOLD}, {train:,} training pairs with four voices, "
        f"{validation:,} for validation and {test:,} for the test, with one voice each; recordings of {SECONDS:g} s. "
        f"Test accuracy in percent, mean and standard deviation over {len(SEEDS)} seeds. The voice of the test is the "
        "same for all: intervals say nothing of other voices.",
        "",
        f"## What each modality tells: models of the teacher's width, {teacher.width}",
        "",
        "| sees | parameters | published | here |",
        "|---|---|---|---|",
    ]
    for name, runs in results["teachers"].items():
        accuracies = mean_and_deviation(test_accuracies(runs, name))
        lines.append(f"| {name} | {runs[0]['parameters']:,} | {PUBLISHED.get(name, '')} | {accuracies} |")
    lines += [
        "",
        "Published: of audiovisual MNIST (arXiv:1808.07275 and after), whose voices are others.",
        "",
        f"## Students of width {student.width}, distilled from the one teacher of {TEACHER}",
        "",
        f"Gains over the same student alone are in points, paired by seed, with their 95 % interval. T and alpha are "
        f"chosen on validation pairs, with seed {SEEDS[0]}, from {list(GRID)}.",
        "",
        "| student sees | parameters | T | alpha | alone | distilled | gain | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in results["students"].items():
        setting = f"{row['alone'][0]['parameters']:,} | {row['temperature']:g} | {row['alpha']:g}"
        lines.append(f"| {whole(name)} | {setting} | {compared(row, whole(name))} |")
    rates = student.options["dropout_rates"]
    lines += [
        "",
        f"## The student of all, trained with `ModalityDropout({rates:g})`, with any of them",
        "",
        "| there at test time | alone | distilled | gain | |",
        "|---|---|---|---|---|",
    ]
    row = results["students"]["all"]
    lines += [f"| {subset} | {compared(row, subset)} |" for subset in row["alone"][0]["test"]]
    lines += [
        "",
        f"## Files of the distilled students, seed {SEEDS[0]}",
        "",
        f"The spectrogram is inside. LiteRT ran them on {10 * FILES_PER_CLASS} test examples, read from PNG, WAV and "
        "text files.",
        "",
        "| student | file | bytes | names Keras's class | largest difference of a logit | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for name, report in results["files"].items():
        for file in report["files"]:
            if file["agreement"] is not None:
                lines.append(
                    f"| {whole(name)} | {file['file']} | {file['size_bytes']:,} | {100 * file['agreement']:.1f} % | "
                    f"{file['max_abs_difference']:.1e} | {100 * file['accuracy']:.1f} % |"
                )
    return "\n".join(lines) + "\n"


def draw(axis: plt.Axes, rows: list[tuple[dict, str]], places: np.ndarray) -> None:
    """Accuracies alone and distilled; bars reach from the lowest seed to the highest."""
    for key, shift in (("alone", -0.12), ("distilled", 0.12)):
        values = 100 * np.array([test_accuracies(row[key], subset) for row, subset in rows])
        means = values.mean(axis=1)
        reach = [means - values.min(axis=1), values.max(axis=1) - means]
        axis.errorbar(places + shift, means, reach, fmt="o", color=COLORS[key], capsize=3, label=f"student {key}")


def plot(results: dict[str, Any]) -> plt.Figure:
    """Students of one modality or all; and the student of all with each subset."""
    drawn, (left, right) = plt.subplots(
        1, 2, figsize=(10.5, 4.2), layout="constrained", sharey=True, width_ratios=(3, 7)
    )
    rows = [(row, whole(name)) for name, row in results["students"].items()]
    draw(left, rows, np.arange(len(rows)))
    for place, (_, name) in enumerate(rows):
        mean = 100 * statistics.fmean(test_accuracies(results["teachers"][name], name))
        label = "larger model of the same" if place == 0 else None
        left.hlines(mean, place - 0.35, place + 0.35, color=COLORS["teacher"], ls="--", label=label)
    left.set_xticks(np.arange(len(rows)), [name.replace("+", "\n+ ") for _, name in rows])
    left.set(title="three students", ylabel="test accuracy, %")
    row = results["students"]["all"]
    subsets = list(row["alone"][0]["test"])
    draw(right, [(row, subset) for subset in subsets], np.arange(len(subsets)))
    right.set_xticks(np.arange(len(subsets)), [subset.replace("+", "\n+ ") for subset in subsets])
    right.set(title="the student of all, when only some are there")
    drawn.legend(*left.get_legend_handles_labels(), frameon=False, ncols=3, loc="outside upper center")
    return drawn


def main() -> None:
    """Runs what is missing and writes tables and plot."""
    study = Study()
    teachers = {name: [study.teacher_run(name, seed) for seed in SEEDS] for name in TEACHERS}
    students = {name: study.student_row(name) for name in STUDENTS}
    files = {name: study.exported(name, (row["temperature"], row["alpha"])) for name, row in students.items()}
    results = {"teachers": teachers, "students": students, "files": files}
    RESULTS.mkdir(parents=True, exist_ok=True)
    RESULTS.joinpath("spoken_mnist.json").write_text(json.dumps(results, indent=1))
    RESULTS.joinpath("spoken_mnist.md").write_text(table(results), encoding="utf-8")
    plot(results).savefig(RESULTS / "spoken_mnist.png", dpi=120)


if __name__ == "__main__":
    main()
