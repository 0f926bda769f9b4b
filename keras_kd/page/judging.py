"""How the student answers beside its teacher: how sure, by class, and where the two differ most."""

from collections.abc import Mapping, Sequence
from typing import Any

from keras_kd.page import charts, numbers
from keras_kd.page.html import Markup, join, tag
from keras_kd.page.reading import Findings
from keras_kd.page.sections import LeftOut, Section, bar, folded, pictures, table

MOST_CLASSES = 20  # in the picture; the table has all
FIRST_DIFFERENCES = 12
_LABELS = "Give `evaluation_data` with labels to `export_student`, for a student with one output of class scores."
_TEACHER = "Give `evaluation_data` and the teacher to `export_student`."


def reliability(findings: Findings) -> Section | LeftOut:
    """Whether answers are as often right as they are sure."""
    found = findings.evaluation and findings.evaluation["reliability"]
    if not found:
        return LeftOut("Reliability", _LABELS)
    shown, tables = [], []
    for who in ("student", "teacher"):
        bins, error = found[who], found["ece"][who]
        if bins is None or error is None:
            continue
        text = join("Expected calibration error ", tag("strong", numbers.figure(error, numbers.share)))
        shown.append((who.capitalize(), charts.reliability(bins, error, who), text))
        rows = [
            [f"{index / len(bins):.0%} to {(index + 1) / len(bins):.0%}", *_bin(each)]
            for index, each in enumerate(bins)
        ]
        header = ("Sure", "Mean", "Right", "Examples")
        tables.append(tag("div", table(f"bins-{who}", who.capitalize(), header, rows)))
    lead = (
        "An answer given with 90% should be right nine times in ten: on the dashed line. Below it, answers are surer "
        "than they are right; the larger a mark, the more examples. At temperature 1 (Guo et al. 2017, "
        "arXiv 1706.04599)."
    )
    body = join(
        tag("p", lead, class_="lead"),
        pictures(*shown),
        folded("The bins in figures", tag("div", *tables, class_="pictures")),
    )
    return Section("reliability", "Reliability", body)


def _bin(each: Mapping[str, Any]) -> list[Any]:
    shares = (numbers.figure(each[key], numbers.share) for key in ("confidence", "accuracy"))
    return [*shares, numbers.figure(each["count"], numbers.whole)]


def by_class(findings: Findings) -> Section | LeftOut:
    """Accuracy and agreement on the examples of each class."""
    rows = findings.evaluation and findings.evaluation["per_class"]
    if not rows:
        return LeftOut("Class by class", _LABELS)
    text, drawn, every = "", rows, _classes_table(rows)
    if len(rows) > MOST_CLASSES:
        every = folded(f"All {len(rows):,} classes in figures", every)
        drawn = sorted(rows, key=lambda row: 2 if row["student_accuracy"] is None else row["student_accuracy"])
        drawn = drawn[:MOST_CLASSES]
        text = f"The {MOST_CLASSES} classes of {len(rows):,} on which the student is least accurate."
    figures = tag(
        "div",
        tag("figure", charts.classes(drawn), tag("figcaption", text) if text else None),
        tag("div", every),
        class_="pictures",
    )
    return Section("classes", "Class by class", figures)


def _classes_table(rows: Sequence[Mapping[str, Any]]) -> Markup:
    keys = ("student_accuracy", "teacher_accuracy", "agreement")
    cells = [
        [
            row["class"],
            numbers.figure(row["examples"], numbers.whole),
            *(bar(numbers.figure(row[key], numbers.share), row[key]) for key in keys),
        ]
        for row in rows
    ]
    header = ("Class", "Examples", "Student", "Teacher", "Agreement")
    return table("classes", "Accuracy and agreement by true class", header, cells)


def differences(findings: Findings) -> Section | LeftOut:
    """The examples that student and teacher see most differently."""
    found = findings.evaluation and findings.evaluation["differences"]
    if not found:
        return LeftOut("Where they differ most", _TEACHER)
    cards = [_card(rank, each) for rank, each in enumerate(found, 1)]
    first, more = cards[:FIRST_DIFFERENCES], cards[FIRST_DIFFERENCES:]
    lead = (
        "The examples of greatest divergence, KL(teacher ‖ student) in nats. Percentages are what each gives its own "
        "answer; the number is the example's place in the evaluation data."
    )
    start = FIRST_DIFFERENCES + 1
    body = join(
        tag("p", lead, class_="lead"),
        tag("ol", *first, class_="cards"),
        folded(f"{len(more)} more", tag("ol", *more, class_="cards", start=start)) if more else None,
    )
    return Section("differences", "Where they differ most", body)


def _card(rank: int, each: Mapping[str, Any]) -> Markup:
    label = each["label"]
    number = f"Example {each['index']:,}"
    alternative = f"{number}, number {rank} by divergence" + ("" if label is None else f", labelled {label}")
    image = each["image"] and tag("img", src=each["image"], alt=alternative, class_="pixels")
    text = each["text"] and tag("blockquote", each["text"])
    return tag(
        "li",
        image or None,
        text or None,
        tag("h3", number) if label is None else tag("h3", tag("span", "Label ", class_="quiet"), label),
        tag("p", number, class_="quiet") if label is not None else None,
        tag("dl", *(_answer(who, each[who], label) for who in ("student", "teacher"))),
        tag("p", "divergence ", numbers.figure(each["divergence"], _nats), class_="quiet"),
    )


def _answer(who: str, answer: Mapping[str, Any], label: str | None) -> Markup:
    verdict = None if label is None else "right" if answer["class"] == label else "wrong"
    said = tag("strong", answer["class"])
    return tag(
        "div",
        tag("dt", who if verdict is None else f"{who}, {verdict}"),
        tag("dd", said, " ", numbers.figure(answer["probability"], numbers.share)),
    )


def _nats(value: float) -> str:
    return f"{value:.2f}"
