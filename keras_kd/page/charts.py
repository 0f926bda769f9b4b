"""The pictures, as SVG: lines by epoch, points against a cost, reliability, and rows of classes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_kd.page import axes, numbers
from keras_kd.page.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis
from keras_kd.page.html import Markup, tag
from keras_kd.page.labels import LETTER, cut, labels
from keras_kd.page.marks import Point, mark, shape

WIDE = 20  # ratio of values from which on a logarithmic axis shows more


def curves(training: Sequence[float | None], validation: Sequence[float | None], name: str, are_shares: bool) -> Markup:
    """A metric by epoch, in training and in validation.

    Args:
        training: A value for each epoch, `None` where it was not measured.
        validation: The same, over the validation data.
        name: What they are of.
        are_shares: Whether they are shares of one.

    Returns:
        The picture.
    """
    form, tick = (numbers.share, axes.percent) if are_shares else (numbers.plain, numbers.plain)
    measured = [value for value in (*training, *validation) if value is not None]
    bounds = axes.SHARES if are_shares else axes.UNBOUNDED
    epochs = Axis(1, max(len(training), 2), LEFT + 6, RIGHT - 6, whole=True)
    wide = not are_shares and min(measured) > 0 and WIDE < max(measured) / min(measured) < math.inf
    values = axes.logarithmic(measured, BOTTOM, TOP + 14) if wide else axes.linear(measured, BOTTOM, TOP + 14, bounds)
    drawn, told = [], []
    for kind, series, form_of_mark in (("training", training, "square"), ("validation", validation, "circle")):
        known = [(epoch, value) for epoch, value in enumerate(series, 1) if value is not None]
        if not known:
            continue
        first, last = form(known[0][1]), form(known[-1][1])
        told.append(f"{kind} from {first} to {last}")
        places = [(epochs.place(epoch), values.place(value)) for epoch, value in known]
        drawn.append(tag("polyline", points=" ".join(f"{x:.2f},{y:.2f}" for x, y in places), class_=f"curve {kind}"))
        drawn.append(mark(Point(*places[-1], form_of_mark, kind, kind, f"{kind}: {last}"), 3.5))
    return _picture(
        f"{name} over {numbers.amount(len(training), 'epoch')}: {'; '.join(told)}.",
        axes.upright(values, tick),
        axes.across(epochs, numbers.plain, "epoch"),
        *drawn,
        tag("text", "logarithmic", x=RIGHT, y=10, dy="0.35em", text_anchor="end") if wide else None,
        _key("training", "square", LEFT + 8),
        _key("validation", "circle", LEFT + 92),
    )


def against_cost(files: Sequence[Mapping[str, Any]], cost: str, title: str) -> Markup:
    """Accuracy of files against what they cost.

    Args:
        files: With `accuracy`, the cost, and how they are shown: `label`, `shape`, `kind`.
        cost: Key of the cost: bytes, or milliseconds.
        title: Of the cost's axis.

    Returns:
        The picture.
    """
    form = numbers.size if cost == "size_bytes" else numbers.milliseconds
    across = axes.logarithmic([file[cost] for file in files], LEFT + 16, RIGHT)
    up = axes.linear([file["accuracy"] for file in files], BOTTOM - 6, TOP + 6, axes.SHARES, 0.15)
    told = [f"{file['label']} {numbers.share(file['accuracy'])} at {form(file[cost])}" for file in files]
    points = [
        Point(across.place(file[cost]), up.place(file["accuracy"]), file["shape"], file["kind"], file["label"], text)
        for file, text in zip(files, told, strict=True)
    ]
    return _picture(
        f"Accuracy against {title}, on a logarithmic scale: {'; '.join(told)}.",
        axes.upright(up, axes.percent),
        axes.across(across, form, f"{title}, logarithmic"),
        *map(mark, points),
        labels(points),
    )


def reliability(bins: Sequence[Mapping[str, Any]], error: float, who: str) -> Markup:
    """How often answers are right, against how sure they are; the larger a mark, the more examples.

    Args:
        bins: With `confidence`, `accuracy` and `count`.
        error: The expected calibration error.
        who: Whose answers they are, `student` or `teacher`.

    Returns:
        The picture.
    """
    across, up = Axis(0, 1, LEFT + 8, RIGHT - 8), Axis(0, 1, BOTTOM - 8, TOP)
    filled = [each for each in bins if each["count"] and None not in (each["confidence"], each["accuracy"])]
    most = max((each["count"] for each in filled), default=1)
    points, gaps, told = [], [], []
    for each in filled:
        told.append(
            f"{numbers.share(each['accuracy'])} right at {numbers.share(each['confidence'])} sure "
            f"({numbers.amount(each['count'], 'example')})"
        )
        place = round(across.place(each["confidence"]), 2), round(up.place(each["accuracy"]), 2)
        gaps.append(tag("line", x1=place[0], x2=place[0], y1=place[1], y2=up.place(each["confidence"]), class_="range"))
        point = Point(*place, "circle" if who == "student" else "hexagon", who, who, told[-1])
        points.append(mark(point, 2.5 + 8 * (each["count"] / most) ** 0.5))
    return _picture(
        f"Reliability of the {who}, expected calibration error {numbers.share(error)}: {'; '.join(told)}.",
        axes.upright(up, axes.percent),
        axes.across(across, axes.percent, "how sure (mean probability of the answer)"),
        tag("line", x1=across.start, y1=up.start, x2=across.end, y2=up.end, class_="ideal"),
        tag("text", "less sure than right", x=LEFT + 14, y=TOP + 14),
        tag("text", "surer than right", x=RIGHT - 12, y=BOTTOM - 16, text_anchor="end"),
        *gaps,
        *points,
    )


def classes(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """A row for each class: accuracy of the student and of the teacher, and how often they agree.

    Args:
        rows: With `class`, `student_accuracy`, `teacher_accuracy` and `agreement`, of which any may be `None`.

    Returns:
        The picture.
    """
    step, top, left = 22, 30, 8 + LETTER * max(len(cut(row["class"])) for row in rows)
    bottom = top + step * len(rows)
    shown = [row[key] for row in rows for key in _KINDS if row[key] is not None]
    across = axes.linear([*shown, 1.0], left + 8, RIGHT - 10, axes.SHARES)
    drawn, told = [], []
    for index, row in enumerate(rows):
        y = top + step * (index + 0.5)
        here = [(key, row[key]) for key in _KINDS if row[key] is not None]
        told.append(f"{row['class']}: {', '.join(f'{_KINDS[key][0]} {numbers.share(value)}' for key, value in here)}")
        places = [across.place(value) for _, value in here]
        drawn += [
            tag("text", cut(row["class"]), x=round(left, 2), y=y, dy="0.35em", text_anchor="end", class_="label"),
            tag("line", x1=left + 8, x2=RIGHT, y1=y, y2=y, class_="grid"),
        ]
        if places:
            drawn.append(tag("line", x1=f"{min(places):.2f}", x2=f"{max(places):.2f}", y1=y, y2=y, class_="range"))
        for (key, value), x in zip(here, places, strict=True):
            name, form = _KINDS[key]
            drawn.append(mark(Point(x, y, form, name, name, f"{row['class']}, {name}: {numbers.share(value)}"), 4.5))
    kinds = [value for key, value in _KINDS.items() if any(row[key] is not None for row in rows)]
    keys = [_key(name, form, 14 + 96 * place) for place, (name, form) in enumerate(kinds)]
    return _picture(
        f"By class: {'; '.join(told)}.", *keys, *drawn, axes.below(across, axes.percent, bottom), height=bottom + 22
    )


_KINDS = {
    "teacher_accuracy": ("teacher", "hexagon"),
    "agreement": ("agreement", "stroke"),
    "student_accuracy": ("student", "circle"),
}


def _picture(told: str, *children: Markup | None, height: float = HEIGHT) -> Markup:
    return tag("svg", *children, viewBox=f"0 0 {WIDTH} {height:g}", role="img", aria_label=told, class_="chart")


def _key(name: str, form: str, x: float) -> Markup:
    sign = tag("g", shape(form, 4), class_=f"mark {name}", transform=f"translate({x + 4:.0f} 10)")
    return tag("g", sign, tag("text", name, x=round(x + 16, 2), y=10, dy="0.35em"), class_="key")
