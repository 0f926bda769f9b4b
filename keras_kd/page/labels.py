"""Where the labels of marks go: close to their own, and on nothing else."""

from collections.abc import Sequence
from typing import NamedTuple

from keras_kd.page.axes import BOTTOM, LEFT, RIGHT, TOP
from keras_kd.page.html import Markup, join, tag
from keras_kd.page.marks import Point

LETTER, LINE = 6.8, 14  # of a label, in units of the drawing, generously
MOST_LETTERS = 14
_AROUND_A_MARK = 7
_MISLEADING = 50.0  # how much overlap, in square units, is as bad as a label nearer to another mark


class Box(NamedTuple):
    """The room of a label, and the end at which its text is held."""

    left: float
    top: float
    right: float
    bottom: float
    anchor: str = "middle"

    @property
    def x(self) -> float:
        return {"start": self.left, "end": self.right, "middle": (self.left + self.right) / 2}[self.anchor]

    @property
    def y(self) -> float:
        return (self.top + self.bottom) / 2

    def overlap(self, other: "Box") -> float:
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return width * height if width > 0 and height > 0 else 0.0

    def distance(self, point: Point) -> float:
        dx = max(self.left - point.x, 0.0, point.x - self.right)
        dy = max(self.top - point.y, 0.0, point.y - self.bottom)
        return (dx * dx + dy * dy) ** 0.5


def cut(text: str) -> str:
    """A label that leaves room for others."""
    return text if len(text) <= MOST_LETTERS else f"{text[: MOST_LETTERS - 1]}…"


def labels(points: Sequence[Point]) -> Markup:
    """The labels of marks, each at the best place around its own; a line leads to those that stand apart."""
    around = _AROUND_A_MARK
    taken = [Box(point.x - around, point.y - around, point.x + around, point.y + around) for point in points]
    drawn = []
    for point in sorted(points, key=lambda point: point.x):
        box = min(_places(point, points), key=lambda box: _cost(box, point, points, taken))
        taken.append(box)
        x, y = round(box.x, 2), round(box.y, 2)
        if abs(y - point.y) > 1.5 * LINE:
            drawn.append(tag("line", x1=point.x, y1=point.y, x2=x, y2=y))
        drawn.append(tag("text", cut(point.label), x=x, y=y, dy="0.35em", text_anchor=box.anchor))
    return tag("g", join(*drawn), class_="label")


def _places(point: Point, points: Sequence[Point]) -> list[Box]:
    """Where a label may stand, best places first: on the side that is free, then on the lines above and below."""
    sides = (-1, 1, 0) if _crowded_on_the_right(point, points) else (1, -1, 0)
    boxes = [_box(point, side, line) for line in (0, -1, 1, -2, 2, -3, 3) for side in sides if side or line]
    return [
        box
        for box in boxes
        if box.left >= LEFT - 4 and box.right <= RIGHT + 8 and box.top >= TOP - 14 and box.bottom <= BOTTOM + 4
    ]


def _crowded_on_the_right(point: Point, points: Sequence[Point]) -> bool:
    beside = [other.x - point.x for other in points if other is not point and abs(other.y - point.y) < LINE]
    return bool(beside) and min(beside, key=abs) > 0


def _box(point: Point, side: int, line: int) -> Box:
    width, y, gap = LETTER * len(cut(point.label)), point.y + line * (LINE + 1), 4 if line else 10
    left = {1: point.x + gap, -1: point.x - gap - width, 0: point.x - width / 2}[side]
    return Box(left, y - LINE / 2, left + width, y + LINE / 2, {1: "start", -1: "end", 0: "middle"}[side])


def _cost(box: Box, point: Point, points: Sequence[Point], taken: Sequence[Box]) -> float:
    own = box.distance(point)
    misleading = any(other is not point and box.distance(other) < own for other in points)
    return sum(box.overlap(other) for other in taken) + _MISLEADING * misleading
