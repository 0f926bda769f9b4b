"""Times what `keras_kd` adds to the arithmetic of a step, against the same by hand.

    python benchmarks/run.py speed

Contestants run in turn in one process, an epoch each, and every ratio is taken within a round: what slows the
machine for a while slows both. CPU time counts all threads, and no other program's. A seed is a repetition of the
whole. No data are needed: images are noise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
from records import Record, Run
from rendering import Page, Table
from speed_cached import BUFFER, VIEWS, cached_runs, memory_of_reading, writing_runs
from speed_live import TAP, hinted_runs, live_runs, watched_runs
from speed_models import ALPHA, BATCH, TEMPERATURE, convolutional
from speed_race import (
    BUILTIN,
    BY_HAND,
    CACHED,
    OURS,
    PREDICTING,
    STUDENT_ALONE,
    TEACHER,
    UNWATCHED,
    WRITING,
    Contestants,
    Ratio,
    race,
)

SEEDS = 1
STUDENT = (16, 24, 40)
TEACHERS = {"small": (64, 96, 208, 104), "large": (128, 256, 512, 560)}
QUICK_TEACHER = (16, 24, 40, 24)
GREY, COLOUR = (28, 28, 1), (32, 32, 3)
READING = {"examples": 1_000_000, "every": 100_000, "classes": 1000, "top_k": 8}
QUICK_READING = {"examples": 4000, "every": 2000, "classes": 1000, "top_k": 8}


@dataclass(frozen=True)
class Contest:
    """Who runs, given student, teacher and the batches of an epoch; what is asked of it; what else decides."""

    contestants: Callable[[keras.Model, keras.Model, int], Contestants]
    ratios: Sequence[Ratio]
    rounds: int = 7
    settings: Mapping[str, Any] = field(default_factory=dict)


FROM_A_CACHE = (
    Ratio(CACHED, (STUDENT_ALONE,), 1.05),
    Ratio(BUILTIN, (CACHED,)),
    Ratio(BUILTIN, (STUDENT_ALONE,)),
)
CONTESTS = {
    "Soft targets": Contest(
        live_runs,
        (
            Ratio(OURS, (BY_HAND,), 1.05),
            Ratio(OURS, (TEACHER, STUDENT_ALONE), 1.05),
            Ratio(BUILTIN, (BY_HAND,)),
        ),
    ),
    "Soft targets and a hint": Contest(hinted_runs, [Ratio(OURS, (BY_HAND,), 1.07)], settings={"tap": TAP}),
    "Looking for NaN": Contest(watched_runs, [Ratio(OURS, (UNWATCHED,), 1.01)], rounds=15),
    "Cached, in batches": Contest(partial(cached_runs, batched=True), FROM_A_CACHE),
    "Cached, shuffled": Contest(cached_runs, FROM_A_CACHE, settings={"buffer": BUFFER}),
    "Cached, augmented and shuffled": Contest(
        partial(cached_runs, augmented=True), FROM_A_CACHE, settings={"buffer": BUFFER, "views": VIEWS}
    ),
    "Writing": Contest(writing_runs, [Ratio(WRITING, (PREDICTING,), 1.1)], rounds=3),
}
# What, under which teacher, of which images, with how many batches an epoch: in the order of the page.
HELD = (
    ("Soft targets", "small", GREY, 40),
    ("Soft targets", "large", GREY, 10),
    ("Soft targets", "small", COLOUR, 20),
    ("Soft targets and a hint", "small", GREY, 40),
    ("Looking for NaN", "small", GREY, 40),
    ("Looking for NaN", "large", GREY, 10),
    ("Cached, in batches", "small", GREY, 100),
    ("Cached, shuffled", "small", GREY, 100),
    ("Cached, shuffled", "large", GREY, 40),
    ("Cached, augmented and shuffled", "small", GREY, 100),
    ("Writing", "small", GREY, 600),
    ("Writing", "large", GREY, 80),
)


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """A run for each contest, and one that reads a long cache."""
    for what, size, shape, steps in HELD:
        if quick and (size, shape) != ("small", GREY):
            continue
        contest = CONTESTS[what]
        settings = {
            "what": what,
            "student": STUDENT,
            "teacher": QUICK_TEACHER if quick else TEACHERS[size],
            "shape": shape,
            "batch": BATCH,
            "steps": 2 if quick else steps,
            "rounds": 2 if quick else contest.rounds,
            "alpha": ALPHA,
            "temperature": TEMPERATURE,
            **contest.settings,
        }
        yield Run(f"{what}, {size} teacher, {_pixels(shape)}", seed, settings, partial(_held, settings))
    reading = QUICK_READING if quick else READING
    yield Run("Reading", seed, reading, lambda: {"read": memory_of_reading(**reading)})


def _held(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Holds a contest: how large the models are, and what the ratios."""
    keras.utils.set_random_seed(0)
    contest = CONTESTS[settings["what"]]
    student, teacher = (convolutional(settings[which], settings["shape"]) for which in ("student", "teacher"))
    contestants = contest.contestants(student, teacher, settings["steps"])
    ratios = race(contestants, contest.ratios, settings["rounds"])
    return {"student": student.count_params(), "teacher": teacher.count_params(), "ratios": ratios}


def page(records: Sequence[Record]) -> Page:
    """What was aimed at, then all that was measured."""
    contests = [record for record in records if record.setting != "Reading"]
    said = (
        f"Batches of {BATCH}. Ratios within a round, the contestants run in turn: median, and quartiles in brackets. "
        "Time by the clock also counts what else the machine does; CPU time does not."
    )
    parts = [said, _summary(contests)]
    for record in records:
        parts += _read(record) if record.setting == "Reading" else _section(record)
    return Page("Speed", parts)


def _summary(contests: Sequence[Record]) -> Table:
    rows = [
        [f"{_title(record)}: {ratio.of}", *_cells(record, ratio)[1:5]]
        for record in contests
        for ratio in CONTESTS[record.settings["what"]].ratios
        if ratio.aim
    ]
    return Table(["what", "over", "aim", "CPU time", "time"], rows)


def _section(record: Record) -> list[str | Table]:
    what, rounds = record.settings["what"], record.settings["rounds"]
    student = "" if what == "Writing" else f"student of {record.figures['student']:,} weights; "
    head = ["what", "over", "aim", "CPU time", "time", "time, best rounds", "seconds, best round"]
    rows = [_cells(record, ratio) for ratio in CONTESTS[what].ratios]
    return [f"## {_title(record)}; {student}{rounds} rounds", Table(head, rows)]


def _title(record: Record) -> str:
    """What, under how large a teacher."""
    student, teacher = record.figures["student"], record.figures["teacher"]
    what, pixels = record.settings["what"], _pixels(record.settings["shape"])
    if what == "Writing":
        return f"{what}, teacher of {teacher:,} weights, {pixels}"
    return f"{what}, teacher {teacher / student:.0f} × its student, {pixels}"


def _cells(record: Record, ratio: Ratio) -> list[str]:
    figures = record.figures["ratios"][ratio.name]
    aim = f"≤ {ratio.aim:.2f}" if ratio.aim else ""
    clocks = [f"{middle:.3f} ({low:.3f} to {high:.3f})" for low, middle, high in (figures["cpu"], figures["wall"])]
    return [ratio.of, ratio.beside, aim, *clocks, f"{figures['best']:.3f}", f"{figures['seconds']:.2f}"]


def _read(record: Record) -> list[str | Table]:
    examples, classes, top_k = (record.settings[name] for name in ("examples", "classes", "top_k"))
    rows = [
        [f"{point['examples']:,}", f"{point['megabytes']:.0f} MB", f"{point['seconds']:.1f} s"]
        for point in record.figures["read"]
    ]
    title = f"## Reading {examples:,} examples of {classes:,} classes, top {top_k}"
    return [title, Table(["examples read", "resident memory", "time"], rows)]


def _pixels(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
