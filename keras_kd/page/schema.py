"""What the files of an export must hold, and the check that they do."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

GREATEST = 1e100
_IMAGE = re.compile(r"data:image/(png|jpeg);base64,([A-Za-z0-9+/]+={0,2})")
_MAGIC = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}


@dataclass(frozen=True)
class Kind:
    """A value that is expected, in words and as a test."""

    expected: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Maybe:
    """What may be null or missing."""

    schema: Any


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, small enough to reckon with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < GREATEST


def _is_whole(value: Any, least: int) -> bool:
    return is_number(value) and isinstance(value, int) and value >= least


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and not set("/\\\0") & set(value)


def _is_image(value: Any) -> bool:
    match = _IMAGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    try:
        return base64.b64decode(match[2], validate=True).startswith(_MAGIC[match[1]])
    except binascii.Error:
        return False


TRUTH = Kind("true or false", lambda value: isinstance(value, bool))
TEXT = Kind("text", lambda value: isinstance(value, str))
OBJECT = Kind("an object", lambda value: isinstance(value, Mapping))
SHARE = Kind("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
COUNT = Kind("a whole number of at least 0", lambda value: _is_whole(value, 0))
POSITIVE_COUNT = Kind("a whole number of at least 1", lambda value: _is_whole(value, 1))
NOT_NEGATIVE = Kind("a number of at least 0", lambda value: is_number(value) and value >= 0)
POSITIVE = Kind("a number above 0", lambda value: is_number(value) and value > 1 / GREATEST)
FILE_NAME = Kind("the name of a file in the same folder", _is_file_name)
IMAGE = Kind("a data URI of a base64 PNG or JPEG", _is_image)

FILE = {
    "file": FILE_NAME,
    "format": TEXT,
    "size_bytes": POSITIVE_COUNT,
    "quantize": Maybe(TEXT),
    "sha256": Maybe(TEXT),
    **dict.fromkeys(("gzip_bytes", "batch_size"), Maybe(POSITIVE_COUNT)),
    **dict.fromkeys(("examples", "peak_memory_bytes"), Maybe(COUNT)),
    "flex": Maybe(TRUTH),
    **dict.fromkeys(("agreement", "accuracy", "teacher_agreement"), Maybe(SHARE)),
    "max_abs_difference": Maybe(NOT_NEGATIVE),
    **dict.fromkeys((f"latency_ms_{kind}" for kind in ("median", "p95")), Maybe(POSITIVE)),
    **dict.fromkeys((f"latency_ms_{kind}_threads" for kind in ("median", "p95")), Maybe(POSITIVE)),
}

REPORT = {
    "student": TEXT,
    "parameters": COUNT,
    "keras_accuracy": Maybe(SHARE),
    "keras_teacher_agreement": Maybe(SHARE),
    "teacher": Maybe({"name": TEXT, "parameters": Maybe(COUNT), "accuracy": Maybe(SHARE), "file": Maybe(FILE)}),
    "metadata": Maybe(OBJECT),
    "threads": Maybe(POSITIVE_COUNT),
    "files": [FILE],
}

_BINS = [{"confidence": Maybe(SHARE), "accuracy": Maybe(SHARE), "count": COUNT}]
_ANSWER = {"class": TEXT, "probability": SHARE}

EVALUATION = {
    "classes": [TEXT],
    "examples": COUNT,
    "reliability": Maybe(
        {"student": _BINS, "teacher": Maybe(_BINS), "ece": {"student": SHARE, "teacher": Maybe(SHARE)}}
    ),
    "per_class": Maybe(
        [
            {
                "class": TEXT,
                "examples": COUNT,
                **dict.fromkeys(("student_accuracy", "teacher_accuracy", "agreement"), Maybe(SHARE)),
            }
        ]
    ),
    "differences": Maybe(
        [
            {
                "index": COUNT,
                "label": Maybe(TEXT),
                "student": _ANSWER,
                "teacher": _ANSWER,
                "divergence": NOT_NEGATIVE,
                "image": Maybe(IMAGE),
                "text": Maybe(TEXT),
            }
        ]
    ),
}

RUN = {"teacher": Maybe(TEXT), "teacher_parameters": Maybe(COUNT), "teacher_accuracy": Maybe(SHARE)}


def conform(value: Any, schema: Any, place: str = "") -> Any:
    """Checks a value read from JSON against a schema.

    Args:
        value: What was read.
        schema: A `Kind`; a `Maybe`; a list of one schema, for any number of such; or a mapping of fields to schemas.
        place: Where in the file it stood. Defaults to the whole of it.

    Returns:
        The value, of objects the named fields only, with `None` for those that may be missing.

    Raises:
        ValueError: If it is anything else: the place, what was expected, what came.

    Example:
        >>> conform({"parameters": 8, "more": 1}, {"parameters": COUNT, "accuracy": Maybe(SHARE)})
        {'parameters': 8, 'accuracy': None}
    """
    if isinstance(schema, Maybe):
        return None if value is None else conform(value, schema.schema, place)
    if isinstance(schema, list):
        _require(isinstance(value, list), value, "a list", place)
        return [conform(item, schema[0], f"{place}[{index}]") for index, item in enumerate(value)]
    if isinstance(schema, Mapping):
        _require(isinstance(value, Mapping), value, "an object", place)
        missing = [name for name in schema if name not in value and not isinstance(schema[name], Maybe)]
        if missing:
            raise ValueError(f"{_named(place)} must have {', '.join(f'`{name}`' for name in missing)}")
        start = f"{place}." if place else ""
        return {name: conform(value.get(name), part, f"{start}{name}") for name, part in schema.items()}
    _require(schema.holds(value), value, schema.expected, place)
    return value


def _require(holds: bool, value: Any, expected: str, place: str) -> None:
    if not holds:
        raise ValueError(f"{_named(place)} must be {expected}. Received: {shortened(value)}")


def _named(place: str) -> str:
    return f"`{place}`" if place else "the whole"


def shortened(value: Any) -> str:
    """How a value looks in Python, cut to what fits on a line."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        text = "a huge number"
    return text if len(text) <= 60 else f"{text[:60]}..."
