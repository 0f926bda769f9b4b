"""Marks in a chart, told apart by shape as well as by colour."""

import math
from dataclasses import dataclass

from keras_kd.page.html import Markup, tag

RADIUS = 5


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
