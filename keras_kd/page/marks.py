"""Marks in a chart: told apart by shape as well as by colour, and labelled where there is room."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keras_kd.page.axes import BOTTOM, LEFT, RIGHT, TOP
from keras_kd.page.html import Markup, join, tag

RADIUS = 5
_LETTER, _LINE = 6.8, 14
MOST_LETTERS = 14  # of a label  # of a label, in units of the drawing, generously


@dataclass(frozen=True)
class Point:
    """A mark: where, which, and what it says."""

    x: float
    y: float
    shape: str
    kind: str
    label: str
    told: str


_CORNERS = {  # number of corners, turn of the first from the top in degrees, size that looks as large as the circle
    "square": (4, 45, 1.25),
    "triangle": (3, 0, 1.35),
    "diamond": (4, 0, 1.3),
    "turned": (3, 180, 1.35),
    "hexagon": (6, 0, 1.25),
}
SHAPES = ("circle", "square", "triangle", "diamond", "turned")


def shape(name: str, radius: float = RADIUS, **attributes: str) -> Markup:
    """A shape around the origin."""
    if name == "stroke":
        return tag("rect", x=-1.5, y=-1.6 * radius, width=3, height=3.2 * radius, **attributes)
    if name == "circle":
        return tag("circle", r=radius, **attributes)
    corners, turn, factor = _CORNERS[name]
    angles = (math.radians(turn + 360 * corner / corners - 90) for corner in range(corners))
    path = " ".join(f"{radius * factor * math.cos(a):.2f},{radius * factor * math.sin(a):.2f}" for a in angles)
    return tag("polygon", points=path, **attributes)


def mark(point: Point, radius: float = RADIUS) -> Markup:
    """A mark, which says what it is when pointed at."""
    return tag(
        "g",
        tag("title", point.told),
        shape(point.shape, radius),
        class_=f"mark {point.kind}",
        transform=f"translate({point.x:.2f} {point.y:.2f})",
    )


def labelled(points: Sequence[Point]) -> Markup:
    """Marks with their labels, each at the first place beside its mark that nothing else takes."""
    taken = [(point.x - 7, point.y - 7, point.x + 7, point.y + 7) for point in points]
    labels = []
    for point in sorted(points, key=lambda point: point.x):
        sides = (-1, 1, 0) if _crowded_on_the_right(point, points) else (1, -1, 0)
        places = [_place(point, dx, dy) for dy in (0, -1, 1, -2, 2, -3, 3) for dx in sides if dx or dy]
        places = [place for place in places if _inside(place[0])]
        box, anchor = min(places, key=lambda place: sum(_overlap(place[0], other) for other in taken))
        taken.append(box)
        x = {"start": box[0], "end": box[2], "middle": point.x}[anchor]
        y = (box[1] + box[3]) / 2
        if abs(y - point.y) > 2 * _LINE:
            labels.append(tag("line", x1=point.x, y1=point.y, x2=round(x, 2), y2=round(y, 2)))
        labels.append(tag("text", cut(point.label), x=round(x, 2), y=round(y, 2), dy="0.35em", text_anchor=anchor))
    return join(*map(mark, points), tag("g", *labels, class_="label"))


def _crowded_on_the_right(point: Point, points: Sequence[Point]) -> bool:
    beside = [other.x - point.x for other in points if other is not point and abs(other.y - point.y) < _LINE]
    return bool(beside) and min(beside, key=abs) > 0


def _place(point: Point, dx: int, dy: int) -> tuple[tuple[float, float, float, float], str]:
    width = _LETTER * len(cut(point.label))
    y = point.y + dy * (_LINE + 1)
    gap = 10 if dy == 0 else 4
    left = {1: point.x + gap, -1: point.x - gap - width, 0: point.x - width / 2}[dx]
    return (left, y - _LINE / 2, left + width, y + _LINE / 2), {1: "start", -1: "end", 0: "middle"}[dx]


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= LEFT - 4 and box[2] <= RIGHT + 8 and box[1] >= TOP - 14 and box[3] <= BOTTOM + 4


def cut(text: str) -> str:
    """A label that leaves room for others."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0
