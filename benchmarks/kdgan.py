"""Does an adversary add to plain distillation? KDGAN's table on MNIST, with the same augmentation for every row.

    python benchmarks/run.py kdgan --seeds 5 --data-dir DIR          # about a quarter of an hour on one core

Published (Wang et al. 2018): 100 or 1,000 labelled digits, a LeNet that teaches, an MLP that learns. The authors'
scripts augment the digits for all that is distilled or plays, but not for the student alone; KDGAN's student is trained
five times as long as the distilled one; and each figure is the best of all epochs on the test digits, of one run. Here
every row sees the same augmented views of the same labelled digits, in as many steps, from the same initial weights,
and has the same teacher. Each row chooses from four settings on validation digits, with the first seed; the test digits
decide nothing. Every seed draws other labelled digits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial

import numpy as np
from choosing import choice, chosen
from kdgan_runs import ROWS, WIDTH, Budget, student_figures, teacher_figures, validated
from records import Record, Run
from rendering import Page, Table, percent, values
from small_runs import gain, shown

from keras_kd.plots import COLORS, figure

SEEDS, LABELLED = 5, (100, 1000)
SMALL = Budget(views=100, epochs=1, pool=200, validation=100, test=100)


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """The teachers, the choices, and the students with what was chosen."""
    budget = SMALL if quick else Budget()
    for labelled in LABELLED[:1] if quick else LABELLED:
        settings = {"labelled": labelled, **asdict(budget)}
        yield Run(f"{labelled} teacher", seed, settings, partial(teacher_figures, budget, labelled, seed))
        taken = {None: {}}
        for name, row in ROWS.items():
            title = f"{labelled} {name}"
            candidates = [{**taken[row.after], **candidate} for candidate in row.candidates[: 1 if quick else None]]
            found = yield choice(title, settings, candidates, partial(validated, name, budget, labelled))
            taken[name] = found["chosen"]
            measure = partial(student_figures, name, budget, labelled, taken[name], seed)
            yield Run(title, seed, {**settings, **taken[name]}, measure)


def over(records: Sequence[Record], labelled: int, row: str, base: str):
    """The gain of a row over another, paired by seed."""
    taught, alone = (values(records, f"{labelled} {name}", "test") for name in (row, base))
    return gain(taught, alone, row)


def verdict(records: Sequence[Record]) -> str:
    """One sentence for each number of labelled digits and each adversary beside soft targets, from the intervals."""
    says = {"helps": "adds to", "no evidence": "shows no evidence of adding to", "negative transfer": "harms"}
    sentences = []
    for labelled in numbers_of(records):
        for row in ("kdgan", "ac"):
            found = over(records, labelled, row, "distilled")
            sentences.append(
                f"With {labelled:,} labelled digits, {ROWS[row].title} {says[found.verdict]} plain distillation: "
                f"{shown(found)} points."
            )
    return " ".join(sentences)


def numbers_of(records: Sequence[Record]) -> list[int]:
    """The numbers of labelled digits that there are records of, each once."""
    return list(dict.fromkeys(record.settings["labelled"] for record in records))


def line(records: Sequence[Record], labelled: int, row: str) -> list[str]:
    """Published, here, over the student alone, over the distilled one, and what was chosen."""
    published, title = ROWS[row].published.get(labelled), f"{labelled} {row}"
    gains = [shown(over(records, labelled, row, base)) if row != base else "" for base in ("alone", "distilled")]
    setting = ", ".join(f"{name} {value:g}" for name, value in chosen(records, title).items())
    here = percent(values(records, title, "test"))
    return [ROWS[row].title, f"{published:.2f}" if published else "", here, *gains, setting]


def page(records: Sequence[Record]) -> Page:
    """What the intervals say, and a table for each number of labelled digits."""
    numbers, seeds = numbers_of(records), len({record.seed for record in records})
    budget = records[0].settings
    parameters = values(records, f"{numbers[0]} alone", "parameters")[0]
    steps = budget["views"] // budget["batch"] * budget["epochs"]
    said = (
        f"MNIST, {' or '.join(f'{labelled:,}' for labelled in numbers)} labelled digits, drawn anew for each of "
        f"{seeds} seeds. Student: an MLP with two hidden layers of {WIDTH} ({parameters:,} weights); teacher and "
        f"discriminator: a LeNet, trained on the same labelled digits. Every row: {budget['views']:,} views of them, "
        f"rotated by up to 15 degrees and shifted by up to 3 pixels, {steps:,} steps of {budget['batch']}. Settings "
        f"are chosen on {budget['validation']:,} validation digits with seed 0, four for each row. Test accuracy in "
        "percent, mean and standard deviation over the seeds; gains in points, paired by seed, with 95 % intervals."
    )
    head = ["student", "published", "here", "over the student alone", "over the distilled one", "chosen"]
    parts: list[str | Table] = [verdict(records), said]
    for labelled in numbers:
        parts += [
            f"## {labelled:,} labelled digits",
            f"Teacher: {percent(values(records, f'{labelled} teacher', 'test'))}.",
            Table(head, [line(records, labelled, row) for row in ROWS]),
        ]
    parts.append(
        "Published: best epoch on the test digits, one run, and the student alone without augmentation, as in the "
        "first row. There views are zoomed by a tenth besides, and the networks are wider."
    )
    return Page("Does an adversary add to plain distillation?", parts, lambda: plot(records))


def plot(records: Sequence[Record]):
    """Every run of every row, beside what was published."""
    drawn, numbers = figure(10.5, 4.2), numbers_of(records)
    for axis, labelled in zip(drawn.subplots(1, len(numbers), squeeze=False)[0], numbers, strict=True):
        places = np.arange(len(ROWS))
        for place, row in zip(places, ROWS, strict=True):
            accuracies = 100 * np.array(values(records, f"{labelled} {row}", "test"))
            color = COLORS["alone"] if row in ("plain", "alone") else COLORS["distilled"]
            axis.plot(np.full(len(accuracies), place), accuracies, "o", color=color, alpha=0.5)
            axis.hlines(accuracies.mean(), place - 0.3, place + 0.3, color=color)
            if labelled in ROWS[row].published:
                axis.plot(place, ROWS[row].published[labelled], "x", color=COLORS["teacher"])
        axis.set_xticks(places, [row.title for row in ROWS.values()], rotation=20, ha="right")
        axis.set(title=f"{labelled:,} labelled digits", ylabel="test accuracy, %")
    axis.plot([], [], "x", color=COLORS["teacher"], label="published")
    axis.legend(frameon=False, loc="lower right")
    return drawn
