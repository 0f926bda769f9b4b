"""Numbers as people read them, with the exact one beside it for machines."""

import json
from typing import Any

from keras_kd.page.html import Markup, tag

MISSING = "–"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def share(value: float) -> str:
    """A share of one, in per cent; what is not all or nothing does not look it.

    Example:
        >>> share(0.1234), share(0.99999), share(1.0), share(0.00001)
        ('12.3%', '>99.9%', '100.0%', '<0.1%')
    """
    if 0.9995 <= value < 1:
        return ">99.9%"
    return "<0.1%" if 0 < value < 0.0005 else f"{value:.1%}"


def points(difference: float) -> str:
    """A difference of shares, in percentage points."""
    return f"{100 * abs(difference):.1f} points"


def whole(value: int) -> str:
    """A whole number."""
    return f"{value:,}"


def amount(count: int, unit: str) -> str:
    """A number of things, in the singular where there is one."""
    return f"{count:,} {unit if count == 1 else unit + 's'}"


def size(count: float) -> str:
    """Bytes, three digits.

    Example:
        >>> size(999), size(8110), size(18_544), size(2_000_000)
        ('999 B', '8.11 kB', '18.5 kB', '2 MB')
    """
    for unit, prefix in _PREFIXES:
        if count >= unit:
            return f"{_digits(count / unit)} {prefix}B"
    return f"{count:g} B"


def milliseconds(value: float) -> str:
    """A duration, three digits; in microseconds where milliseconds would be small.

    Example:
        >>> milliseconds(0.0021), milliseconds(0.25), milliseconds(12.345)
        ('2.1 µs', '0.25 ms', '12.3 ms')
    """
    return f"{_digits(1000 * value)} µs" if value < 0.1 else f"{_digits(value)} ms"


def times(ratio: float) -> str:
    """A ratio of at least one.

    Example:
        >>> times(1.26), times(39.63), times(1234.5)
        ('1.3', '40', '1,234')
    """
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:,.0f}"


def plain(value: float) -> str:
    """Any number, four digits."""
    return f"{value:.4g}"


def figure(value: Any, form) -> str | Markup:
    """A number in one of these forms, and exactly; a dash where there is none."""
    return MISSING if value is None else tag("data", form(value), value=json.dumps(value))


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
