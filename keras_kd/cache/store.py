"""Shards of signals on disk: TFRecord files, whole or not there, in a folder with a manifest.

A shard holds a header (what the cache is, as JSON), then for each block of examples the keys, where examples have ids,
and one record of rows for each view. All sizes follow from the header, so that any row can be read by itself.

What is being written has another name: `.fresh` until all that an interrupted writer has left is copied, `.partial`
until the shard is whole. A killed process leaves each of them readable. Nothing is forced to the disk: after a power
cut a file may be torn under any name, and every start finds that by the checksums, and writes the file anew.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import uuid4

import tensorflow as tf

MANIFEST = "manifest.json"
FRAME = 16  # what TFRecord puts around a record: 12 bytes before, 4 behind
BEFORE = 12


def shard_name(shard: int) -> str:
    """The file name of a shard."""
    return f"signals-{shard:05}.tfrecord"


def shards_in(folder: Path, suffix: str = "tfrecord") -> dict[int, Path]:
    """The whole shards of a folder by their numbers, in order; with `"partial"`, those that were begun."""
    named = ((re.fullmatch(rf"signals-(\d{{5,}})\.{suffix}", path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match[1]), path) for match, path in named if match))


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file that is whole whenever it is there; of several processes, each the same."""
    partial = path.with_name(f"{path.name}.{uuid4().hex}.partial")
    with full_disk_named(path):
        partial.write_text(text, encoding="utf-8")
    with contextlib.suppress(FileNotFoundError):  # another process was done first, and has swept
        os.replace(partial, path)


def sweep(folder: Path) -> None:
    """Deletes what interrupted writers have left in a folder where all is whole."""
    for pattern in ("signals-*.partial", "signals-*.fresh", f"{MANIFEST}.*.partial"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


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

    def run(self, place: int, view: int, examples: int) -> tuple[int, int]:
        """Where the row of a place begins in a shard of so many examples, and how many follow it without a gap."""
        block, place = divmod(place, self.block)
        size = min(self.block, examples - block * self.block)
        keys = FRAME + 8 * size if self.keyed else 0
        start = self.block_start(block) + keys + view * (FRAME + self.row * size) + BEFORE
        return start + self.row * place, size - place


class ShardWriter:
    """Writes one shard block by block; what an interrupted writer has left is taken over.

    A writer that is still at work on the shard is shut out: of two, the later goes on.

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
        blocks = blocks_left(self._partial, header, records_per_block)
        left = islice(records_of(self._partial), 1 + records_per_block * blocks) if blocks else [header]
        fresh = self._path.with_suffix(f".{uuid4().hex}.fresh")
        with full_disk_named(self._path):
            self._file = tf.io.TFRecordWriter(os.fspath(fresh))
        self._append(left)
        self._inode = fresh.stat().st_ino
        os.replace(fresh, self._partial)  # the open file goes on under its new name
        for leftover in folder.glob(f"{self._path.stem}.*.fresh"):
            leftover.unlink(missing_ok=True)

    def write(self, records: Sequence[bytes]) -> None:
        """Writes the records of a block, so that they are there should the process be killed.

        Raises:
            OSError: If they cannot be written, or another process has taken the shard over.
        """
        self._refuse_if_taken_over()
        self._append(records)

    def _append(self, records: Iterable[bytes]) -> None:
        with full_disk_named(self._path):
            for record in records:
                self._file.write(record)
            self._file.flush()

    def _refuse_if_taken_over(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._partial.stat().st_ino == self._inode:
                return
        raise OSError(
            errno.EBUSY,
            f"`cache_teacher`: another process has taken over {self._path}. Let each machine write a part of its own, "
            "as `shard=(i, n)`",
        )

    def close(self) -> None:
        """Closes the file without claiming that it is whole."""
        with contextlib.suppress(tf.errors.OpError):  # a disk that is full was told of before
            self._file.close()

    def finish(self) -> None:
        """Closes the file and gives it its name."""
        with full_disk_named(self._path):
            self._file.close()
        self._refuse_if_taken_over()
        os.replace(self._partial, self._path)


class full_disk_named:
    """Turns the errors of writing into an `OSError` of one line that a user can act on."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, tf.errors.OpError):
            code = errno.ENOSPC if isinstance(error, tf.errors.ResourceExhaustedError) else errno.EIO
            text = str(error.message).split("; ")[-1]
        elif isinstance(error, OSError):
            code, text = error.errno, error.strerror
        else:
            return
        raise OSError(
            code,
            f"`cache_teacher`: cannot write {self._path} ({text}). What is written is kept: make room and run the "
            "same again",
        ) from error


def records_of(path: Path) -> Iterator[bytes]:
    """The records of a file, up to where it breaks off; none of one that is not there."""
    # TensorFlow makes room for a record of any length that a file tells, and dies of it.
    within = tf.data.TFRecordDataset(os.fspath(path)).take(_records_within(path))
    with contextlib.suppress(tf.errors.DataLossError, tf.errors.NotFoundError):
        yield from within.as_numpy_iterator()


def _records_within(path: Path) -> int:
    """How many records a file has that end before it does; none of one that is not there."""
    if not path.is_file():
        return 0
    count, start, end = 0, 0, path.stat().st_size
    with path.open("rb") as file:
        while head := file.read(BEFORE):
            start += FRAME + int.from_bytes(head[:8], "little")
            if len(head) < BEFORE or start > end:
                break
            count += 1
            file.seek(start)
    return count


def blocks_left(path: Path, header: bytes, records_per_block: int) -> int:
    """Whole blocks in what an interrupted writer has left; none where it wrote another cache."""
    records = records_of(path)
    return sum(1 for _ in records) // records_per_block if next(records, None) == header else 0


def header_of(path: Path) -> Mapping[str, Any] | None:
    """What the cache is that a shard belongs to; `None` where the file does not say."""
    for record in records_of(path):
        try:
            header = json.loads(record)
        except (ValueError, RecursionError):
            return None
        return header if isinstance(header, dict) else None
    return None


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
