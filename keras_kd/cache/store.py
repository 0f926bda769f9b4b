"""Shards of signals on disk: TFRecord files, whole or not there, in a folder with a manifest.

A shard holds a header (what the cache is, as JSON), then for each block of examples the keys, where examples have ids,
and one record of rows for each view. All sizes follow from the header, so that any row can be read by itself.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

MANIFEST = "manifest.json"
FRAME = 16  # what TFRecord puts around a record: 12 bytes before, 4 behind
_BEFORE = 12


def shard_name(shard: int) -> str:
    """The file name of a shard."""
    return f"signals-{shard:05}.tfrecord"


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file that is whole whenever it is there."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


@dataclass(frozen=True)
class Geometry:
    """Where rows lie in the shards.

    Attributes:
        header: Bytes of a header.
        row: Bytes of a row.
        views: Views of an example.
        block: Examples in a block, the last of all excepted.
        blocks: Blocks in a shard, the last excepted.
        keyed: Whether a block begins with the keys of its examples.
    """

    header: int
    row: int
    views: int
    block: int
    blocks: int
    keyed: bool

    @property
    def shard(self) -> int:
        """Examples in a shard, the last excepted."""
        return self.block * self.blocks

    def group(self, examples: int) -> int:
        """Bytes of a block of so many examples."""
        keys = FRAME + 8 * examples if self.keyed else 0
        return keys + self.views * (FRAME + self.row * examples)

    def file(self, examples: int) -> int:
        """Bytes of a shard of so many examples."""
        whole, left = divmod(examples, self.block)
        return FRAME + self.header + whole * self.group(self.block) + (self.group(left) if left else 0)

    def block_start(self, block: int) -> int:
        """Where a block of a shard begins."""
        return FRAME + self.header + block * self.group(self.block)

    def examples(self, file: int) -> int:
        """Examples in a shard of so many bytes."""
        whole, rest = divmod(file - FRAME - self.header, self.group(self.block))
        return whole * self.block + (rest - self.group(0)) // (self.group(1) - self.group(0)) * bool(rest)

    def offsets(self, places: np.ndarray, view: int, examples: int) -> np.ndarray:
        """Where rows of a view begin in a shard of so many examples."""
        block, place = np.divmod(places, self.block)
        size = np.minimum(self.block, examples - block * self.block)
        keys = FRAME + 8 * size if self.keyed else 0
        start = FRAME + self.header + block * self.group(self.block) + keys
        return start + view * (FRAME + self.row * size) + _BEFORE + self.row * place


class ShardWriter:
    """Writes one shard block by block; what an interrupted writer has left is taken over.

    Args:
        folder: The folder of the cache.
        shard: Number of the shard.
        header: Its first record.
        records_per_block: Records of a block: one for each view, one for keys.

    Attributes:
        shard: Number of the shard.
    """

    def __init__(self, folder: Path, shard: int, header: bytes, records_per_block: int):
        self.shard = shard
        self._path = folder / shard_name(shard)
        self._partial = self._path.with_suffix(".partial")
        left = list(records_of(self._partial))[
            : 1 + records_per_block * blocks_left(self._partial, header, records_per_block)
        ]
        fresh = self._path.with_suffix(".fresh")
        with full_disk_named(self._path):
            self._file = tf.io.TFRecordWriter(os.fspath(fresh))
            self.write(left or [header])
        os.replace(fresh, self._partial)  # the open file goes on under its new name

    def write(self, records: Sequence[bytes]) -> None:
        """Writes the records of a block, so that they are there should the process be killed."""
        with full_disk_named(self._path):
            for record in records:
                self._file.write(record)
            self._file.flush()

    def close(self) -> None:
        """Closes the file without claiming that it is whole."""
        self._file.close()

    def finish(self) -> None:
        """Closes the file and gives it its name."""
        with full_disk_named(self._path):
            self._file.close()
        os.replace(self._partial, self._path)


class full_disk_named:
    """Turns TensorFlow's errors of writing into the `OSError` that a user can act on."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, tf.errors.OpError):
            text = str(error.message).split("; ")[-1]
            raise OSError(
                errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO,
                f"`cache_teacher`: cannot write {self._path} ({text}). What is written is kept: make room and run the "
                "same again",
            ) from error


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a file, up to where it breaks off."""
    try:
        if path.is_file():
            yield from tf.data.TFRecordDataset(os.fspath(path)).as_numpy_iterator()
    except tf.errors.DataLossError:
        return


def blocks_left(path: Path, header: bytes, records_per_block: int) -> int:
    """Whole blocks in what an interrupted writer has left; none where it wrote another cache."""
    records = list(records_of(path))
    return (len(records) - 1) // records_per_block if records[:1] == [header] else 0


def header_of(path: Path) -> Mapping[str, Any] | None:
    """What the cache is that a shard belongs to; `None` where the file does not say."""
    for record in records_of(path):
        try:
            return json.loads(record)
        except ValueError:
            return None
    return None


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class RowReader:
    """Reads rows of any examples by their place in the cache, in any order, and keeps nothing.

    Args:
        folder: The folder of the cache.
        geometry: Where rows lie.
        row: The type of a row.
        examples: Examples of the cache.
    """

    def __init__(self, folder: Path, geometry: Geometry, row: np.dtype, examples: int):
        self._folder, self._geometry, self._row, self._examples = folder, geometry, row, examples

    def rows(self, places: np.ndarray, view: int) -> np.ndarray:
        """Rows of a view, in the order of the places."""
        found = np.empty(len(places), self._row)
        shards = places // self._geometry.shard
        for shard in np.unique(shards):
            chosen = np.flatnonzero(shards == shard)
            start = int(shard) * self._geometry.shard
            held = min(self._geometry.shard, self._examples - start)
            offsets = self._geometry.offsets(places[chosen] - start, view, held)
            self._read(self._folder / shard_name(int(shard)), offsets, found, chosen)
        return found

    def _read(self, path: Path, offsets: np.ndarray, found: np.ndarray, chosen: np.ndarray) -> None:
        size = self._row.itemsize
        breaks = np.flatnonzero(np.diff(offsets) != size) + 1
        with path.open("rb", buffering=0) as file:
            for run in np.split(np.arange(len(offsets)), breaks):
                file.seek(int(offsets[run[0]]))
                found[chosen[run]] = np.frombuffer(file.read(size * len(run)), self._row)

    def keys(self) -> np.ndarray:
        """The keys of all examples, in the order of the cache."""
        geometry, found = self._geometry, []
        for start in range(0, self._examples, geometry.shard):
            held = min(geometry.shard, self._examples - start)
            with (self._folder / shard_name(start // geometry.shard)).open("rb") as file:
                for block, first in enumerate(range(0, held, geometry.block)):
                    size = min(geometry.block, held - first)
                    file.seek(geometry.block_start(block) + _BEFORE)
                    found.append(np.frombuffer(file.read(8 * size), "<i8"))
        return np.concatenate(found)
