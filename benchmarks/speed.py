"""Times what `keras_kd` adds to the arithmetic of a step, against the same by hand.

    python benchmarks/speed.py                 # all parts
    python benchmarks/speed.py live features   # some; the others stay as they were measured

Contestants run in turn in one process, an epoch each, and every ratio is taken within a round: what slows the
machine for a while slows both. CPU time counts all threads, and no other program's. Writes
`benchmarks/results/speed.md`, from what `benchmarks/results/speed.json` keeps of every part.
"""

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from speed_cached import CLASSES, LONG, TOP_K, cached_runs, memory_of_reading, writing_runs
from speed_models import (
    by_hand,
    compiled,
    convolutional,
    copy_of,
    fitting,
    hinted_by_hand,
    images,
    inference,
    looping,
)

import keras_kd as kd

RESULTS = Path(__file__).parent / "results"
ROUNDS = 7
STUDENT = (16, 24, 40)
SMALL, LARGE = (64, 96, 208, 104), (128, 256, 512, 560)
HEADER = ("what", "over", "aim", "CPU time", "time", "time, best rounds", "seconds, best round")
BUILTIN, BY_HAND, OURS = "`keras.distillation`", "the same by hand", "`kd.Distiller`"
TEACHER, STUDENT_ALONE = "teacher's inference", "student's plain `fit`"
CACHED, WRITING = "`kd.Distiller` from a cache", "`kd.cache_teacher`"


@dataclass(frozen=True)
class Ratio:
    """One row: what one contestant takes over what others take together, and the most it should be."""

    of: str
    over: Sequence[str]
    aim: float | None = None


@dataclass(frozen=True)
class Contest:
    """Contestants by name, each a function that runs one epoch, and the ratios asked of them."""

    title: str
    contestants: Mapping[str, Callable[[], Any]]
    ratios: Sequence[Ratio]
    rounds: int = ROUNDS

    def table(self) -> dict[str, Any]:
        """Title, header and rows."""
        return {"title": f"{self.title}; {self.rounds} rounds", "header": list(HEADER), "rows": self.rows()}

    def rows(self) -> list[list[str]]:
        """Runs all in turn, after one round that counts for nothing: median and quartiles of each ratio."""
        self._round(0)
        rounds = [self._round(number) for number in range(self.rounds)]
        return [self._row(ratio, rounds) for ratio in self.ratios]

    def _round(self, number: int) -> dict[str, tuple[float, float]]:
        gc.collect()
        names = list(self.contestants)
        first = number % len(names)  # nobody always runs after the same
        return {name: seconds(self.contestants[name]) for name in names[first:] + names[:first]}

    def _row(self, ratio: Ratio, rounds: Sequence[Mapping[str, tuple[float, float]]]) -> list[str]:
        wall, cpu = (
            [taken[ratio.of][clock] / sum(taken[name][clock] for name in ratio.over) for taken in rounds]
            for clock in (0, 1)
        )
        # The rounds that nothing else disturbed, each contestant's own.
        best = {name: min(taken[name][0] for taken in rounds) for name in (ratio.of, *ratio.over)}
        undisturbed = best[ratio.of] / sum(best[name] for name in ratio.over)
        aim = "" if ratio.aim is None else f"≤ {ratio.aim:.2f}"
        ratios = with_quartiles(cpu), with_quartiles(wall), f"{undisturbed:.3f}"
        return [ratio.of, " + ".join(ratio.over), aim, *ratios, f"{best[ratio.of]:.2f}"]


def seconds(run: Callable[[], Any]) -> tuple[float, float]:
    """What a run takes by the clock, and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def with_quartiles(values: Sequence[float]) -> str:
    """Median, and the quartiles around it."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def live() -> Iterator[Contest]:
    """Soft targets from a teacher that runs in the step."""
    for teacher_widths, shape, steps in (
        (SMALL, (28, 28, 1), 40),
        (LARGE, (28, 28, 1), 10),
        (SMALL, (32, 32, 3), 20),
    ):
        student, teacher = convolutional(STUDENT, shape), convolutional(teacher_widths, shape)
        data = images(steps, shape)
        learners = [copy_of(student) for _ in range(4)]
        soft = keras.distillation.LogitsDistillation(4.0, keras.losses.KLDivergence())
        builtin = keras.distillation.Distiller(copy_of(teacher), learners[2], soft, student_loss_weight=0.3)
        runs = {
            OURS: fitting(compiled(kd.Distiller(learners[0], teacher)), data),
            BY_HAND: looping(by_hand(learners[1], teacher), data),
            BUILTIN: fitting(compiled(builtin), data),
            STUDENT_ALONE: fitting(compiled(learners[3]), data),
            TEACHER: looping(inference(teacher), data),
        }
        check_same(runs, learners[:2])
        ratios = [
            Ratio(OURS, [BY_HAND], 1.05),
            Ratio(OURS, [TEACHER, STUDENT_ALONE], 1.05),
            Ratio(BUILTIN, [BY_HAND]),
        ]
        yield Contest(sizes("Soft targets", student, teacher, shape), runs, ratios)


def features() -> Iterator[Contest]:
    """A hint beside the soft targets."""
    shape, tap = (28, 28, 1), "block1"
    student, teacher, data = convolutional(STUDENT), convolutional(SMALL), images(40)
    channels = teacher.get_layer(tap).output.shape[-1]
    projectors = [layers.Conv2D(channels, 1, kernel_initializer=same_start(channels)) for _ in range(2)]
    for projector in projectors:
        projector.build(student.get_layer(tap).output.shape)
    learners = [copy_of(student) for _ in range(2)]
    objectives = [kd.objectives.SoftTargets(), kd.objectives.Hint(tap, tap, projector=projectors[0])]
    runs = {
        OURS: fitting(compiled(kd.Distiller(learners[0], teacher, objectives)), data),
        BY_HAND: looping(hinted_by_hand(learners[1], teacher, tap, projectors[1]), data),
    }
    check_same(runs, learners)
    yield Contest(sizes("Soft targets and a hint", student, teacher, shape), runs, [Ratio(OURS, [BY_HAND], 1.07)])


def cached() -> Iterator[Contest]:
    """What the teacher said, from a cache."""
    for title, teacher_widths, options in (
        ("in batches", SMALL, {"batched": True}),
        ("shuffled", SMALL, {}),
        ("shuffled", LARGE, {}),
        ("augmented and shuffled", SMALL, {"augmented": True}),
    ):
        student, teacher = convolutional(STUDENT), convolutional(teacher_widths)
        runs = cached_runs(student, teacher, 100 if teacher_widths is SMALL else 40, **options)
        runs = {{"cached": CACHED, "alone": STUDENT_ALONE, "builtin": BUILTIN}[name]: run for name, run in runs.items()}
        ratios = [
            Ratio(CACHED, [STUDENT_ALONE], 1.05),
            Ratio(BUILTIN, [CACHED]),
            Ratio(BUILTIN, [STUDENT_ALONE]),
        ]
        yield Contest(sizes(f"Cached, {title}", student, teacher, (28, 28, 1)), runs, ratios)


def writing() -> Iterator[Contest]:
    """Asking the teacher once, and writing it down."""
    for widths, steps in ((SMALL, 600), (LARGE, 80)):
        teacher = convolutional(widths)
        runs = writing_runs(teacher, steps)
        runs = {WRITING: runs["write"], "`predict`": runs["predict"]}
        title = f"Writing, teacher of {teacher.count_params():,} weights, 28×28×1"
        yield Contest(title, runs, [Ratio(WRITING, ["`predict`"], 1.1)], rounds=3)


def reading() -> Iterator[dict[str, Any]]:
    """A million examples, and no more memory at the end than at the beginning."""
    title = f"Reading {LONG:,} examples of {CLASSES:,} classes, top {TOP_K}"
    yield {"title": title, "header": ["examples read", "resident memory", "time"], "rows": memory_of_reading()}


PARTS: dict[str, Callable[[], Iterator[Contest | dict[str, Any]]]] = {
    "live": live,
    "features": features,
    "cached": cached,
    "writing": writing,
    "reading": reading,
}


def same_start(channels: int) -> keras.initializers.Initializer:
    """The same start for a projector wherever it is made."""
    return keras.initializers.RandomNormal(stddev=channels**-0.5, seed=0)


def check_same(runs: Mapping[str, Callable[[], Any]], learners: Sequence[keras.Model]) -> None:
    """Trains ours and the hand-written for an epoch, and holds the students to the same weights: a race of equals."""
    for name in (OURS, BY_HAND):
        runs[name]()
    for ours, theirs in zip(*(learner.get_weights() for learner in learners), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)


def sizes(what: str, student: keras.Model, teacher: keras.Model, shape: Sequence[int]) -> str:
    """A title that says how large the models are."""
    small, large = student.count_params(), teacher.count_params()
    pixels = "×".join(map(str, shape))
    return f"{what}, teacher {large / small:.0f} × its student, {pixels}; student of {small:,} weights"


def measure(part: str) -> list[dict[str, Any]]:
    """The tables of a part."""
    tables = []
    for contest in PARTS[part]():
        tables.append(contest if isinstance(contest, dict) else contest.table())
        print(tables[-1]["title"], *map(" | ".join, tables[-1]["rows"]), sep="\n", flush=True)
    return tables


def summary(tables: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was aimed at, and what was measured, a line for each."""
    lines = ["| what | over | aim | CPU time | time |", "|---|---|---|---|---|"]
    for table in tables:
        if table["header"] == list(HEADER):
            what, *_ = table["title"].split(";")
            lines += [f"| {what}: {' | '.join(row[:5])} |" for row in table["rows"] if row[2]]
    return lines


def as_markdown(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """All tables that there are, in the order of the parts."""
    tables = [table for part in PARTS for table in parts.get(part, ())]
    lines = [
        "# Speed",
        "",
        f"`python benchmarks/speed.py`, Keras {keras.__version__}, TensorFlow {tf.__version__}, CPU with 2 cores, "
        "batches of 128. Ratios within a round, the contestants run in turn: median, and quartiles in brackets. Time "
        "by the clock also counts what else the machine does; CPU time does not.",
        "",
        *summary(tables),
    ]
    for table in tables:
        lines += ["", f"## {table['title']}", ""]
        lines += ["| " + " | ".join(table["header"]) + " |", "|---" * len(table["header"]) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in table["rows"]]
    return "\n".join(lines) + "\n"


def main(asked: Sequence[str]) -> None:
    """Measures the parts asked for, one after the other, and writes what there is after each."""
    unknown = [part for part in asked if part not in PARTS]
    if unknown:
        raise SystemExit(f"Parts must be among {list(PARTS)}. Received: {unknown}.")
    stored = RESULTS / "speed.json"
    for part in asked or PARTS:
        keras.utils.set_random_seed(0)
        parts = json.loads(stored.read_text(encoding="utf-8")) if stored.exists() else {}
        parts[part] = measure(part)
        stored.write_text(json.dumps(parts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (RESULTS / "speed.md").write_text(as_markdown(parts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
