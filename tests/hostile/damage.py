"""What happens to files on their way, and what strangers do to them: bytes to other bytes, JSON to other JSON."""

import json
import os
import pickle
import random
from pathlib import Path


class Payload:
    """What runs when it is unpickled: it leaves a file behind."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self._path),)


def pickled(mark: Path) -> bytes:
    """A pickle that makes a folder when it is read."""
    return pickle.dumps({"model": Payload(mark)})


def flipped(content: bytes, seed: int, bits: int = 1) -> bytes:
    """The same with some bits turned."""
    draw, changed = random.Random(seed), bytearray(content)
    for _ in range(bits):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def noise(seed: int, size: int = 300) -> bytes:
    return random.Random(seed).randbytes(size)


def damaged(sound: bytes, mark: Path) -> dict[str, bytes]:
    """A sound file in every state that it is not meant to be read in, by what was done to it."""
    cuts = {f"cut at {cut}": sound[: len(sound) * cut // 100] for cut in (1, 50, 75)}
    flips = {f"flip {seed}": flipped(sound, seed) for seed in range(5)}
    return {
        "empty": b"",
        "one byte": sound[:1],
        **cuts,
        "less its last byte": sound[:-1],
        **flips,
        "many flips": flipped(sound, 99, bits=1 + len(sound) // 50),
        "its end first": sound[len(sound) // 2 :] + sound[: len(sound) // 2],
        "twice": sound + sound,
        "noise": noise(0),
        "noise behind its head": sound[:16] + noise(1),
        "zeros": bytes(1000),
        "pickle": pickled(mark),
    }


NOT_JSON = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep and closed": b"[" * 200_000 + b"]" * 200_000,
    "a huge number": b"1" * 10_000,
    "NaN": b"NaN",
    "1e400": b"1e400",
    "null": b"null",
    "a list": b"[1, 2]",
    "a text": b'"text"',
    "no object": b"{}",
    "not UTF-8": b'{"\xff": 1}',
    "UTF-16": '{"format": 1}'.encode("utf-16"),
    "surrogates": rb'{"\ud800": "\udfff"}',
}
WRONG = [None, True, -1, 0, 1.5, 10**30, float("nan"), float("inf"), "", "../x", "a\0b", [], [[]], {}, {"a": 1}]


def leaves(value, path=()):
    """Where something stands in JSON, the objects and lists themselves included."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def replaced(value, path, by):
    """A copy with something else in one place."""
    copy = json.loads(json.dumps(value))
    if not path:
        return by
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = by
    return copy


def without(value, path):
    """A copy without what stands in one place."""
    copy = json.loads(json.dumps(value))
    holder = copy
    for key in path[:-1]:
        holder = holder[key]
    del holder[path[-1]]
    return copy


def changes(sound):
    """JSON with wrong values and missing ones, place by place, as bytes by what was done."""
    for path in leaves(sound):
        for by in WRONG:
            if (changed := json.dumps(replaced(sound, path, by))) != json.dumps(sound):
                yield f"{path} is {by!r}", changed.encode()
        if path:
            yield f"{path} is gone", json.dumps(without(sound, path)).encode()
