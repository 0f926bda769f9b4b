"""What a cache is, written down: in the header of each shard, and in the manifest of the whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keras_kd.cache import store
from keras_kd.cache.codecs import codec_of
from keras_kd.cache.layout import Layout
from keras_kd.cache.soundness import DAMAGE, check_facts, check_layout, check_shards
from keras_kd.wording import one_line, shortened

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """All that decides on the bytes of a cache but its examples.

    Attributes:
        facts: What the header of a shard says.
    """

    facts: Mapping[str, Any]

    @property
    def layout(self) -> Layout:
        """How a row is laid out."""
        return Layout.from_json(codec_of(**self.facts["codec"]), self.facts["signals"])

    def header(self, shard: int) -> bytes:
        """The first record of a shard; as long in each."""
        return json.dumps({**self.facts, "shard": f"{shard:05}"}, sort_keys=True).encode()

    @property
    def geometry(self) -> store.Geometry:
        """Where rows lie."""
        return store.Geometry(
            header=len(self.header(0)),
            row=self.layout.row.itemsize,
            views=self.facts["views"],
            block=self.facts["block"],
            blocks=self.facts["blocks_per_shard"],
            keyed=self.facts["data"]["keyed_by"] == "tfds_id",
        )

    @property
    def bytes_per_example(self) -> int:
        """Bytes of an example with all its views, framing left out."""
        return self.geometry.group(1) - self.geometry.group(0)


# Facts in the order of their gravity, as a user calls them.
_NAMES = {
    "format": "format",
    "teacher": "teacher",
    "data": "data set",
    "preprocessing": "preprocessing",
    "augmentation": "augmentation",
    "codec": "form",
    "signals": "signals",
}
# What follows from other facts, and is different with them.
_FOLLOWS = {
    "augmentation": {"data"},
    "preprocessing": {"data", "augmentation", "seed"},
    "signals": {"teacher", "codec"},
    "block": {"data"},
    "blocks_per_shard": {"block", "codec", "signals", "teacher", "views"},
}


def differences(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Says in one line what is different, the gravest first; nothing where all is the same."""
    found = [key for key in dict.fromkeys([*_NAMES, *sorted(wanted)]) if held.get(key) != wanted.get(key)]
    told = [key for key in found if not _FOLLOWS.get(key, set()).intersection(found)]
    return "; ".join(f"another {_NAMES.get(key, key)}: {_contrast(held.get(key), wanted[key])}" for key in told)


def _contrast(held: Any, wanted: Any) -> str:
    if isinstance(held, Mapping) and isinstance(wanted, Mapping):
        apart = sorted(key for key in wanted if held.get(key) != wanted[key])
        held, wanted = (", ".join(f"{key} {_short(facts.get(key))}" for key in apart) for facts in (held, wanted))
    return f"{_short(held)}, not {_short(wanted)}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short_signal, value))
    text = str(value)
    return f"{text[:8]}…" if len(text) == 64 and " " not in text else text


def _short_signal(signal: Any) -> str:
    try:
        return f"{json.loads(signal['key'])['name']} {signal['shape']}"
    except (LookupError, TypeError, ValueError, RecursionError):  # of a file that was damaged
        return str(signal)


def first_of(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


@dataclass(frozen=True)
class Manifest:
    """A finished cache.

    Attributes:
        path: Its folder.
        examples: How many examples it holds.
        views: How many views of each.
        bytes_per_example: Bytes of an example with all its views.
        teacher: Name of the teacher.
        contents: The whole of `manifest.json`.
    """

    path: Path
    contents: Mapping[str, Any] = field(repr=False)

    @property
    def examples(self) -> int:
        return self.contents["examples"]

    @property
    def views(self) -> int:
        return self.contents["views"]

    @property
    def bytes_per_example(self) -> int:
        return self.contents["bytes_per_example"]

    @property
    def teacher(self) -> str:
        return self.contents["teacher"]["name"]

    @property
    def checksums(self) -> dict[str, str]:
        """The SHA-256 of each shard by the name of its file."""
        return {shard["file"]: shard["sha256"] for shard in self.contents["shards"]}

    @property
    def plan(self) -> Plan:
        """What its shards' headers say."""
        beside = ("examples", "bytes_per_example", "data_fingerprint", "shards")
        return Plan({key: fact for key, fact in self.contents.items() if key not in beside})

    def __str__(self) -> str:
        views = f"{self.views} views of {self.examples:,} examples" if self.views > 1 else f"{self.examples:,} examples"
        return f"{self.path}: what `{self.teacher}` says of {views}, {self.bytes_per_example:,} bytes each"

    def write(self) -> None:
        """Writes `manifest.json`."""
        text = json.dumps(self.contents, indent=1, sort_keys=True)
        store.write_atomically(self.path / store.MANIFEST, text)

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Reads and checks a cache, every byte of it.

        Raises:
            ValueError: If there is none, or a shard is missing or damaged.
        """
        file = path / store.MANIFEST
        if not file.is_file():
            shards = len(store.shards_in(path)) if path.is_dir() else 0
            raise ValueError(
                f"`open_cache`: there is no finished cache in {path}: it holds {shards} shards and no "
                f"{store.MANIFEST}. Run `cache_teacher` to make or to finish it."
            )
        try:
            manifest = cls(path, json.loads(file.read_text(encoding="utf-8")))
            known = manifest.contents["format"] == FORMAT
            if known:
                manifest.check_contents()
        except DAMAGE as error:
            raise ValueError(
                f"`open_cache`: {file} is damaged ({one_line(error)}). Run `cache_teacher` again."
            ) from error
        if not known:
            found = shortened(str(manifest.contents["format"]))
            raise ValueError(
                f"`open_cache`: {path} has format {found}; this version reads format {FORMAT}. Make it anew."
            )
        manifest._check_shards(manifest.checksums)
        return manifest

    def check_contents(self) -> None:
        """Checks what is written in it, not the shards.

        Raises:
            ValueError: If it is damaged; or another error of `soundness.DAMAGE`.
        """
        check_facts(self.contents)
        check_layout(self.plan.layout)
        if self.bytes_per_example != self.plan.bytes_per_example:
            raise ValueError(f"`bytes_per_example` must be {self.plan.bytes_per_example}")
        check_shards(self.contents["shards"], self.plan.geometry, self.examples)

    def _check_shards(self, shards: Mapping[str, str]) -> None:
        missing = [name for name in shards if not (self.path / name).is_file()]
        if missing:
            raise ValueError(
                f"`open_cache`: {self.path} lacks {len(missing)} of its {len(shards)} shards: {first_of(missing)}. "
                "Bring them back, or run `cache_teacher` again."
            )
        damaged = [name for name, checksum in shards.items() if store.sha256(self.path / name) != checksum]
        if damaged:
            raise ValueError(
                f"`open_cache`: {self.path / damaged[0]} is not the file that was written: its checksum differs. "
                "Run `cache_teacher` again, which writes it anew."
            )
        others = [name for number, name in enumerate(shards) if not self._is_told_of(self.path / name, number)]
        if others:
            raise ValueError(
                f"`open_cache`: {self.path / others[0]} is no shard of the cache that {store.MANIFEST} tells of. Run "
                "`cache_teacher` again."
            )

    def _is_told_of(self, path: Path, number: int) -> bool:
        """Whether a shard has the size and the header that follow from the manifest: rows are read by their place."""
        header, size = self.plan.header(number), self.contents["shards"][number]["examples"]
        with path.open("rb") as file:
            begins_with = file.read(store.BEFORE + len(header))[store.BEFORE :]
        return begins_with == header and path.stat().st_size == self.plan.geometry.file(size)
