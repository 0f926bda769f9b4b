"""Axes of the charts: from a value to its place, and which values are written beside them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keras_kd.page.html import Markup, join, tag

# Units of the drawing. On a phone one is about a pixel; see `.chart text` in style.css.
WIDTH, HEIGHT = 360, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 350, 16, 200

UNBOUNDED, SHARES = (-math.inf, math.inf), (0.0, 1.0)


@dataclass(frozen=True)
class Axis:
    """A range of values and where it is drawn.

    Args:
        low: Least value.
        high: Greatest value.
        start: Where the least is drawn.
        end: Where the greatest is drawn.
        logarithmic: Whether equal ratios, not differences, are equal lengths. Defaults to `False`.
        whole: Whether there is nothing between whole numbers. Defaults to `False`.

    Example:
        >>> Axis(1, 100, 0, 50, logarithmic=True).place(10)
        25.0
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False
    whole: bool = False

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        low, high, value = (math.log10(x) if self.logarithmic else x for x in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values in the range, a handful."""
        return self._powers() if self.logarithmic and self.high / self.low >= 10 else self._steps()

    def _steps(self) -> list[float]:
        rough = (self.high - self.low) / 4
        unit = 10.0 ** math.floor(math.log10(rough))
        factors = (1, 2, 5, 10) if self.whole else (1, 2, 2.5, 5, 10)
        step = next(unit * factor for factor in factors if unit * factor >= rough * 0.999)
        step = max(step, 1.0) if self.whole else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{step * index:.12g}") for index in range(first, last + 1)]

    def _powers(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        ratio = self.high / self.low
        factors = (1, 2, 5) if ratio < 100 else (1, 3) if ratio < 10_000 else (1,)
        ticks = (factor * 10.0**power for power in decades for factor in factors)
        return [tick for tick in ticks if self.low <= tick <= self.high]


def linear(
    values: Iterable[float], start: float, end: float, bounds: tuple[float, float] = UNBOUNDED, padding: float = 0.08
) -> Axis:
    """An axis around values, that goes no further than the bounds."""
    values = list(values)
    low, high = min(values), max(values)
    around = padding * (high - low) or 0.05 * abs(high) or 0.05
    return Axis(max(low - around, bounds[0]), min(high + around, bounds[1]), start, end)


def logarithmic(values: Iterable[float], start: float, end: float) -> Axis:
    """An axis around values above 0, in equal ratios."""
    values = list(values)
    around = max((max(values) / min(values)) ** 0.2, 1.3)
    return Axis(min(values) / around, max(values) * around, start, end, logarithmic=True)


def below(axis: Axis, written: Callable[[float], str], bottom: float) -> Markup:
    """The values of a horizontal axis, written under where the chart ends."""
    place = {"y": bottom + 15, "class_": "tick", "text_anchor": "middle"}
    return join(*(tag("text", written(tick), x=_rounded(axis.place(tick)), **place) for tick in axis.ticks()))


def across(axis: Axis, written: Callable[[float], str], title: str) -> Markup:
    """The lower axis."""
    return join(
        tag("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"),
        below(axis, written, BOTTOM),
        tag("text", title, x=(axis.start + axis.end) / 2, y=HEIGHT - 5, text_anchor="middle"),
    )


def upright(axis: Axis, written: Callable[[float], str]) -> Markup:
    """The left axis, with a line across for each value written."""
    lines = []
    for tick in axis.ticks():
        y = _rounded(axis.place(tick))
        lines.append(tag("line", x1=LEFT, x2=RIGHT, y1=y, y2=y, class_="grid"))
        lines.append(tag("text", written(tick), x=LEFT - 6, y=y, class_="tick", text_anchor="end", dy="0.35em"))
    return join(*lines)


def percent(value: float) -> str:
    """A share as an axis has it: no more digits than needed."""
    return f"{round(100 * value, 6):g}%"


def _rounded(place: float) -> float:
    return round(place, 2)
