"""What a manifest says, held against what any manifest can say: the file may be damaged, or a stranger's."""

import math
import re
from collections.abc import Mapping
from typing import Any

from keras_kd.cache.examples import ID
from keras_kd.cache.layout import Layout
from keras_kd.cache.store import Geometry, shard_name
from keras_kd.replay import SignalKey

_LEAST = {"views": 1, "block": 1, "blocks_per_shard": 1, "examples": 1, "seed": 0}
_TEXTS = {
    "teacher": ("name", "fingerprint"),
    "data": ("inputs", "keyed_by", "beginning"),
    "augmentation": ("name", "fingerprint"),
}
_SHOWN = 60
# What reading a damaged manifest raises.
DAMAGE = (ValueError, ArithmeticError, AttributeError, LookupError, TypeError, RecursionError)


def check_facts(contents: Mapping[str, Any]) -> None:
    """Checks what is told without knowing how rows are laid out.

    Args:
        contents: What was read from `manifest.json`.

    Raises:
        ValueError: If a field is not what it must be; the text names it.
        KeyError: If one is missing.
        TypeError: If something is no object.
    """
    for name, least in _LEAST.items():
        _require(_is_whole(contents[name], least), name, f"a whole number of at least {least}", contents[name])
    for name, fields in _TEXTS.items():
        for field in fields:
            value = contents[name][field]
            is_text = isinstance(value, str) or (value is None and name == "augmentation")
            _require(is_text, f"{name}.{field}", "text", value)
    keyed_by = contents["data"]["keyed_by"]
    _require(keyed_by in (ID, "position"), "data.keyed_by", f"'{ID}' or 'position'", keyed_by)
    for signal in contents["signals"]:
        shape = signal["shape"]
        sizes = isinstance(shape, list) and all(_is_whole(size, 1) for size in shape)
        _require(sizes, "signals.shape", "a list of sizes", shape)


def check_layout(layout: Layout) -> None:
    """Checks that the keys of the signals say what is laid out.

    Raises:
        ValueError: If a key says something else.
    """
    _require(bool(layout.keys), "signals", "one or more", [])
    for index, (key, shape) in enumerate(zip(layout.keys, layout.shapes, strict=True)):
        classes = shape[-1] if shape else None
        if key.kind == "tap":
            expected = SignalKey(index, "tap", key.name)
        else:
            # Whole logits may be those of a mean, which was taken at one temperature.
            at = key.temperature if layout.codec.temperature is None else layout.codec.temperature
            expected = SignalKey(index, layout.codec.kind, key.name, bool(key.keyed), at, classes)
        fits = str(key) == str(expected) and isinstance(key.name, str)
        _require(fits and _is_temperature(key.temperature), "signals.key", f"{expected}", f"{key}")


def check_shards(shards: Any, geometry: Geometry, examples: int) -> None:
    """Checks that the shards are those of so many examples, under their own names.

    Raises:
        ValueError: If there are others.
    """
    names = [shard["file"] for shard in shards]
    count = math.ceil(examples / geometry.shard)
    # Counted before they are made: the number of examples may be any.
    fits = len(names) == count and names == [shard_name(index) for index in range(count)]
    _require(fits, "shards.file", f"{shard_name(0)} and those that follow, {count} in all", names[:3])
    for index, shard in enumerate(shards):
        held = min(geometry.shard, examples - index * geometry.shard)
        _require(shard["examples"] == held, "shards.examples", f"{held} in {names[index]}", shard["examples"])
        is_sum = isinstance(shard["sha256"], str) and re.fullmatch("[0-9a-f]{64}", shard["sha256"])
        _require(is_sum, "shards.sha256", "64 digits of base 16", shard["sha256"])


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_temperature(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and 0 < value < math.inf)


def _require(holds: Any, name: str, expected: str, value: Any) -> None:
    if not holds:
        text = repr(value) if not isinstance(value, int) or abs(value) < 2**64 else "a huge number"
        raise ValueError(f"`{name}` must be {expected}. Received: {text[:_SHOWN]}")
