"""Holds `keras_kd` beside `keras.distillation`, the distiller that ships in Keras, on what both can be asked.

    python benchmarks/run.py against_builtin

Values are computed, not asserted from reading, and do not depend on the seed. Times are ratios of `fit` epochs run in
turn in one process; a seed is a repetition of them. No data are needed: images are noise.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import keras
from against_builtin_asked import (
    PENALTY,
    SAVED_WIDTH,
    STUDENT_LOGITS,
    TEACHER_LOGITS,
    TEMPERATURE,
    Maker,
    bytes_saved,
    cnn,
    distilled_once,
    epochs_in_turn,
    evaluation_moves,
    fits_again,
    frozen,
    hinton,
    penalty_counts,
    penalty_of_the_student,
    student_forwards,
    weights_count,
)
from records import Record, Run
from rendering import Page, Table

import keras_kd as kd

SEEDS = 1
THEIRS, OURS, RIGHT = "keras.distillation", "keras_kd", "right"
EPOCHS = {"examples": 2048, "batch": 128, "rounds": 15}
QUICK_EPOCHS = {"examples": 256, "batch": 128, "rounds": 2}


def their_default(student: keras.Model, teacher: keras.Model) -> keras.Model:
    """Keras's own loss of logits, and no labels."""
    loss = keras.distillation.LogitsDistillation(temperature=TEMPERATURE)
    return keras.distillation.Distiller(teacher, student, [loss], student_loss_weight=0.0)


def our_default(student: keras.Model, teacher: keras.Model) -> keras.Model:
    """Soft targets, and no labels."""
    return kd.Distiller(student, teacher, alpha=0.0)


def their_soft_targets(student: keras.Model, teacher: keras.Model, tap: str | None = None) -> keras.Model:
    """Keras's distiller with the divergence of Hinton et al., and a feature loss where there is a tap."""
    losses = [keras.distillation.LogitsDistillation(loss=keras.losses.KLDivergence())]
    if tap:
        losses.append(keras.distillation.FeatureDistillation("mse", tap, tap))
    return keras.distillation.Distiller(teacher, student, losses)


def our_soft_targets(student: keras.Model, teacher: keras.Model, tap: str | None = None) -> keras.Model:
    """The same here."""
    hints = [kd.objectives.Hint(tap, tap)] if tap else []
    return kd.Distiller(student, teacher, [kd.objectives.SoftTargets(), *hints])


@dataclass(frozen=True)
class Question:
    """What is asked of either distiller, what is right, how numbers are written, and what decides the answer."""

    ask: Callable[[Maker], Any]
    right: Callable[[], Any]
    form: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    makers: tuple[Maker, Maker] = (their_default, our_default)


LOGITS = {"temperature": TEMPERATURE, "teacher": TEACHER_LOGITS.tolist(), "student": STUDENT_LOGITS.tolist()}
HINTED = {
    "settings": {"tap": "hidden"},
    "makers": tuple(partial(maker, tap="hidden") for maker in (their_soft_targets, our_soft_targets)),
}
QUESTIONS = {
    "default loss, T = 4, teacher [30, 0, 0], student [0, 30, 0]": Question(
        lambda maker: distilled_once(maker)[0], lambda: hinton()[0], ".4g", LOGITS
    ),
    "its gradient in the student's logits": Question(
        lambda maker: distilled_once(maker)[1], lambda: hinton()[1], ".3g", LOGITS
    ),
    "loss with all sample weights 0.5, over loss without": Question(weights_count, lambda: 0.5, ".2f"),
    "what the student's L2 penalty adds to the loss": Question(
        penalty_counts, penalty_of_the_student, ".3f", {"penalty": PENALTY}
    ),
    "student forward passes a step, with a feature loss": Question(student_forwards, lambda: 1, **HINTED),
    "what `evaluate` moves in BatchNorm, with a feature loss": Question(evaluation_moves, lambda: 0, ".2g", **HINTED),
    "`teacher.trainable` after construction": Question(frozen, lambda: "unchanged"),
    "bytes saved as `.keras`, the teacher's weights being 26 kB": Question(
        bytes_saved, lambda: "student only", ",", {"teacher": SAVED_WIDTH}
    ),
    "`fit` after loading it and assigning the teacher": Question(
        fits_again, lambda: "yes", settings={"teacher": SAVED_WIDTH}
    ),
}
# Width and blocks of student and teacher, and where a feature loss looks.
RACES = {
    "time of an epoch, soft targets": {"student": (8, 2), "teacher": (48, 3), "tap": None},
    "time of an epoch, soft targets and a feature loss": {"student": (16, 2), "teacher": (16, 8), "tap": "block1"},
}


def runs(seed: int, quick: bool) -> Iterator[Run]:
    """A run for each question, and for each race."""
    for what, question in QUESTIONS.items():
        yield Run(what, 0, question.settings, partial(_answers, question))
    for what, models in RACES.items():
        settings = {**models, **(QUICK_EPOCHS if quick else EPOCHS)}
        yield Run(what, seed, settings, partial(_race, **settings))


def _answers(question: Question) -> dict[str, Any]:
    theirs, ours = map(question.ask, question.makers)
    return {THEIRS: theirs, OURS: ours, RIGHT: question.right()}


def _race(student, teacher, tap, **options) -> dict[str, list[float]]:
    makers = [partial(maker, tap=tap) for maker in (their_soft_targets, our_soft_targets)]
    return {"ratio": epochs_in_turn(*makers, cnn(*student), cnn(*teacher), **options)}


def page(records: Sequence[Record]) -> Page:
    """A row for each question and race."""
    rounds = {record.settings["rounds"] for record in records if record.setting in RACES}
    said = f"Times: median of {' or '.join(map(str, rounds))} rounds in turn, with quartiles."
    rows = [_times(record) if record.setting in RACES else _row(record) for record in records]
    return Page("Beside keras.distillation", [said, Table(["question", THEIRS, OURS, RIGHT], rows)])


def _times(record: Record) -> list[str]:
    low, middle, high = record.figures["ratio"]
    return [record.setting, f"{middle:.2f} × ({low:.2f} to {high:.2f})", "1 ×", ""]


def _row(record: Record) -> list[str]:
    form = QUESTIONS[record.setting].form
    return [record.setting, *(_written(record.figures[name], form) for name in (THEIRS, OURS, RIGHT))]


def _written(answer: Any, form: str) -> str:
    if isinstance(answer, list):
        return "[" + ", ".join(format(number, form) for number in answer) + "]"
    return answer if isinstance(answer, str) else format(answer, form)
